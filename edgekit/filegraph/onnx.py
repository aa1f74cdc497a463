"""ONNX files. Shapes come from the file where it has them, and are inferred where it does not.

Nodes that read constants alone are run when the file is loaded; what they give is a constant like the others.
"""

from math import prod
from pathlib import Path

import onnx
from onnx import GraphProto, NodeProto, helper

from edgekit.filegraph.base import FileGraph, FileNode

MODULE_KEY = "edgekit.module"
"""Where the exporter keeps the path of the module."""

_Shapes = dict[str, tuple[int, ...]]

_CONVOLUTIONS = {"Conv": 1, "ConvInteger": 1, "QLinearConv": 3}
"""Operator to the place of its weight."""

_PRODUCTS = {"MatMul": 0, "MatMulInteger": 0, "QLinearMatMul": 0}
"""Operator to the place of the operand whose last side is summed over."""


def read(path: Path) -> FileGraph:
    """The graph of an `.onnx` file."""
    graph = onnx.shape_inference.infer_shapes(onnx.load(path)).graph
    shapes, sizes = _tensors(graph)
    nodes = {}
    constants = {constant.name for constant in graph.initializer}
    for index, node in enumerate(graph.node):
        if constants.issuperset(node.input):
            constants.update(node.output)
            continue
        name = node.name or f"{node.op_type} {index}"
        module = next((entry.value for entry in node.metadata_props if entry.key == MODULE_KEY), None)
        operands = tuple(tensor for tensor in node.input if tensor)
        nodes[name] = FileNode(name, node.op_type, module, macs(node, shapes), operands, tuple(node.output))
    return FileGraph(nodes, sizes, shapes)


def _tensors(graph: GraphProto) -> tuple[_Shapes, dict[str, int]]:
    """Shape and size in bytes of every tensor."""
    shapes: _Shapes = {}
    sizes: dict[str, int] = {}
    for value in (*graph.input, *graph.value_info, *graph.output):
        kind = value.type.tensor_type
        shapes[value.name] = tuple(side.dim_value for side in kind.shape.dim)
        sizes[value.name] = prod(shapes[value.name]) * helper.tensor_dtype_to_np_dtype(kind.elem_type).itemsize
    for constant in graph.initializer:
        shapes[constant.name] = tuple(constant.dims)
        sizes[constant.name] = prod(constant.dims) * helper.tensor_dtype_to_np_dtype(constant.data_type).itemsize
    return shapes, sizes


def macs(node: NodeProto, shapes: _Shapes) -> int:
    """MACs of one node, from the shapes of its tensors."""
    kind = node.op_type
    if kind in _CONVOLUTIONS:
        return prod(shapes[node.output[0]]) * prod(shapes[node.input[_CONVOLUTIONS[kind]]][1:])
    if kind == "ConvTranspose":
        return prod(shapes[node.input[0]]) * prod(shapes[node.input[1]][1:])
    if kind in _PRODUCTS:
        return prod(shapes[node.output[0]]) * shapes[node.input[_PRODUCTS[kind]]][-1]
    if kind == "Gemm":
        transposed = any(entry.name == "transA" and entry.i for entry in node.attribute)
        return prod(shapes[node.output[0]]) * shapes[node.input[0]][0 if transposed else 1]
    return 0
