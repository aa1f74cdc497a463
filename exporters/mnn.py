"""MNN, through ONNX and MNN's compiled converter (see `mnn_converter`).

Names, shapes and edgekit's metadata are in the file's `bizCode`, as JSON; `Module.getInfo()` gives it back. An
operator's name is the path of its module, `/` and a name; those of the network's outputs have theirs, so that their
modules are in the JSON as well. The identifier that the converter draws at random is replaced by one of the content.

What the converter of 3.6 changes without a word, and how it is kept from it:

    ReduceL2    values several times too large                   no such node: the pass `plain-norm`
    Gelu        becomes its approximation by tanh, some 70 dB    opset 18 has none, and the pass `sigmoid-gelu`
    x Erf(c x)  in the pattern of a GELU, the same               the pass `sigmoid-gelu`
"""

import hashlib
import json
import re
import tempfile
import uuid
from pathlib import Path

import MNN
import onnx

from edgekit.errors import ConverterError
from edgekit.exporters.base import Candidate, ExportSpec
from edgekit.exporters.onnx_graph import MODULE_KEY, to_graph
from edgekit.exporters.process import Finished, run_script
from edgekit.program import Program

OPSET = 18
"""Last opset but one without Gelu, which the converter takes for its approximation."""

CONVERTER = Path(__file__).with_name("mnn_converter.py")

WRONG = ("ReduceL2", "Gelu")
"""Operators that the converter takes, and gets wrong."""

SETTINGS = "run with precision high and the hint WINOGRAD_MEMORY_LEVEL 1, or MNN may round more than float32 does"

_SOURCE, _RESULT = "net.onnx", "net.mnn"


def export(program: Program, spec: ExportSpec, folder: Path, stem: str) -> tuple[Candidate, ...]:
    """Writes `<stem>.mnn`, constants in float32."""
    graph = to_graph(program, spec, OPSET)
    refuse_wrong(graph)
    described = json.dumps(json.loads(spec.described()) | {"modules": name_by_module(graph)}, sort_keys=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        source, result = Path(scratch, _SOURCE), Path(scratch, _RESULT)
        source.write_bytes(graph.SerializeToString(deterministic=True))
        arguments = ["-f", "ONNX", "--modelFile", _SOURCE, "--MNNModel", _RESULT, "--bizCode", described]
        done = run_script(CONVERTER, arguments, Path(scratch))
        if done.status or not result.is_file():
            raise ConverterError(f"MNN could not convert the program: {reason(done)}")
        content = with_fixed_identifier(result.read_bytes(), MNN.get_model_uuid(str(result)))
    path = folder / f"{stem}.mnn"
    path.write_bytes(content)
    return (Candidate((path,), "flatbuffer", (SETTINGS,)),)


def name_by_module(graph: onnx.ModelProto) -> dict[str, str]:
    """Puts the path of the module before the name of every value inside, and gives back those of the outputs."""
    ports = {port.name for port in (*graph.graph.input, *graph.graph.output)}
    paths = {value: module_path(node) for node in graph.graph.node for value in node.output}
    names = {value: f"{path}/{value}" for value, path in paths.items() if value not in ports}
    for node in graph.graph.node:
        for values in (node.input, node.output):
            values[:] = [names.get(value, value) for value in values]
    for value in graph.graph.value_info:
        value.name = names.get(value.name, value.name)
    return {value: path for value, path in paths.items() if value in ports}


def module_path(node: onnx.NodeProto) -> str:
    """The path of the module a node came from; "" for the outermost."""
    return next((entry.value for entry in node.metadata_props if entry.key == MODULE_KEY), "")


def refuse_wrong(graph: onnx.ModelProto) -> None:
    """Refuses a graph that the converter would take and change.

    Raises:
        ConverterError: There is such an operator, named with its module.
    """
    for node in graph.graph.node:
        if node.op_type in WRONG:
            module = next((entry.value for entry in node.metadata_props), "") or "the outermost module"
            raise ConverterError(
                f"MNN's converter gets {node.op_type} wrong, and the lowering for MNN left one in {module}. Write it "
                "in elementary operators in the model, or choose other formats with --format."
            )


def reason(done: Finished) -> str:
    """What the converter said, or that it said nothing."""
    unsupported = re.search(r"These Op Not Support: (.*)", done.output)
    if unsupported:
        names = ", ".join(dict.fromkeys(re.findall(r"ONNX::(\w+)", unsupported[1])))
        return f"it has no {names}. Write that in other operators in the model, or choose other formats with --format."
    if done.crash:
        return f"its converter crashed ({done.crash}). Choose other formats with --format."
    said = [line.strip() for line in done.output.splitlines() if line.strip() and "Converted Failed" not in line]
    return f"{said[-1] if said else 'it gives no reason'}. Choose other formats with --format."


def with_fixed_identifier(content: bytes, identifier: str) -> bytes:
    """The file with an identifier that depends on its content alone."""
    blank = content.replace(identifier.encode(), b"0" * len(identifier))
    fixed = str(uuid.UUID(bytes=hashlib.sha256(blank).digest()[:16], version=4))
    return content.replace(identifier.encode(), fixed.encode())
