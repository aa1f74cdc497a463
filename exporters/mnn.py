"""MNN, through ONNX and MNN's compiled converter (see `mnn_converter`).

Names, shapes and edgekit's metadata are in the file's `bizCode`, as JSON; `Module.getInfo()` gives it back. An
operator's name is the path of its module, `/` and a name; those of the network's outputs have theirs, so that their
modules are in the JSON as well. The identifier that the converter draws at random is replaced by one of the content.

What the converter of 3.6 changes without a word, and how it is kept from it:

    ReduceL2, ReduceL1    reduce all axes, whichever are asked for  the pass `plain-norm`
    Gelu                  becomes its approximation by tanh         opset 18 has none, and the pass `sigmoid-gelu`
    x (Erf(c x) + 1) / 2  the same                                  the pass `whole-gelu`

What a pass leaves of them, and their rarer relatives, is refused.

The candidates differ in a setting for the runtime only, which the description holds. Winograd's algorithm, MNN's own
choice for square kernels, rounds more than a direct convolution does: ParNet-S comes out at 79 dB with any tiles, and
at 116 dB in 1.15 times the time with small ones; some networks of timm need it off.
"""

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import onnx

from edgekit.errors import ConverterError
from edgekit.exporters.base import Candidate, ExportSpec
from edgekit.exporters.onnx_graph import MODULE_KEY, to_graph
from edgekit.mnn_tools import convert, with_fixed_identifier
from edgekit.program import Program

OPSET = 18
"""Last opset but one without Gelu, which the converter takes for its approximation."""

WRONG = ("ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceSumSquare", "Gelu")
"""Operators that the converter takes, and gets wrong."""

FLOAT32 = "run with precision high, or MNN may compute in half precision"

LEVELS = MappingProxyType({"any tiles": 3, "small tiles": 1, "no Winograd": 0})
"""Values of the hint WINOGRAD_MEMORY_LEVEL that a network may need, the fastest first; 3 is MNN's default."""

LEVEL_KEY = "winograd_memory_level"

_SOURCE = "net.onnx"


def export(program: Program, spec: ExportSpec, folder: Path, stem: str) -> tuple[Candidate, ...]:
    """Writes `<stem>.mnn`, constants in float32."""
    graph = to_graph(program, spec, OPSET)
    refuse_wrong(graph)
    modules = name_by_module(graph)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        source = Path(scratch, _SOURCE)
        source.write_bytes(graph.SerializeToString(deterministic=True))
        described = description(spec, next(iter(LEVELS.values())), modules)
        content, identifier = convert("ONNX", source, ["--bizCode", described], Path(scratch), "the program")
    candidates: list[Candidate] = []
    for label, level in LEVELS.items():
        path = folder / (f"{stem}.mnn" if not candidates else f"{stem}~{len(candidates)}.mnn")
        # One digit for another: the strings of a flatbuffer can be changed in place when they keep their length.
        changed = content.replace(described.encode(), description(spec, level, modules).encode())
        path.write_bytes(with_fixed_identifier(changed, identifier))
        notes = (FLOAT32, *([f"set the hint WINOGRAD_MEMORY_LEVEL to {level}"] if candidates else []))
        candidates.append(Candidate((path,), label, notes))
    return tuple(candidates)


def description(spec: ExportSpec, level: int, modules: Mapping[str, str]) -> str:
    """What goes into `bizCode`: names, shapes, metadata, the setting, and the modules of the outputs."""
    described = json.loads(spec.described({LEVEL_KEY: level})) | {"modules": modules}
    return json.dumps(described, sort_keys=True, separators=(",", ":"))


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
                f"MNN's converter gets {node.op_type} wrong, and no pass wrote the one in {module} in other operators. "
                "Do so in the model, or choose other formats with --format."
            )
