"""TFLite flatbuffers. The exporter names an operator's results by the path of its module, `;` and a number."""

from math import prod
from pathlib import Path
from typing import Any, cast

from ai_edge_litert import schema_py_generated as schema

from edgekit.filegraph.base import FileGraph, FileNode

_KINDS = {value: name for name, value in vars(schema.BuiltinOperator).items() if not name.startswith("_")}
_TYPES = {value: name for name, value in vars(schema.TensorType).items() if not name.startswith("_")}
_BYTES = {"FLOAT32": 4, "INT32": 4, "UINT32": 4, "FLOAT16": 2, "INT16": 2, "INT64": 8, "FLOAT64": 8, "UINT64": 8}


def read(path: Path) -> FileGraph:
    """The main graph of a `.tflite` file; nodes are named by their place in it, `12 CONV_2D`."""
    model = cast("Any", schema.ModelT.InitFromPackedBuf(path.read_bytes(), 0))
    graph = model.subgraphs[0]
    shapes = [() if tensor.shape is None else tuple(map(int, tensor.shape)) for tensor in graph.tensors]
    sizes = {
        str(index): prod(shapes[index]) * _BYTES.get(_TYPES[tensor.type], 1)
        for index, tensor in enumerate(graph.tensors)
    }
    nodes = {}
    for index, operator in enumerate(graph.operators):
        code = model.operatorCodes[operator.opcodeIndex]
        kind = _KINDS[max(code.builtinCode, code.deprecatedBuiltinCode)]
        operands = [int(tensor) for tensor in operator.inputs if tensor >= 0]
        results = [int(tensor) for tensor in operator.outputs]
        name = f"{index} {kind}"
        module, semicolon, _ = graph.tensors[results[0]].name.decode().rpartition(";")
        work = macs(kind, operator, [shapes[tensor] for tensor in operands], shapes[results[0]])
        nodes[name] = FileNode(
            *(name, kind, module if semicolon else None, work), tuple(map(str, operands)), tuple(map(str, results))
        )
    return FileGraph(nodes, sizes, {str(index): shape for index, shape in enumerate(shapes)})


def macs(kind: str, operator: Any, operands: list[tuple[int, ...]], result: tuple[int, ...]) -> int:
    """MACs of one operator, from the shapes of its tensors."""
    if kind == "CONV_2D":  # weight (O, H, W, I)
        return prod(result) * prod(operands[1][1:])
    if kind == "DEPTHWISE_CONV_2D":  # weight (1, H, W, O)
        return prod(result) * prod(operands[1][1:3])
    if kind == "TRANSPOSE_CONV":  # operands are the result's shape, the weight (O, H, W, I), the map
        return prod(operands[2]) * prod(operands[1][:3])
    if kind == "FULLY_CONNECTED":
        return prod(result) * operands[1][-1]
    if kind == "BATCH_MATMUL":
        return prod(result) * operands[0][-2 if operator.builtinOptions.adjX else -1]
    return 0
