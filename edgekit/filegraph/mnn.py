"""MNN's files, as MNN runs them: once, on zeros, in a session that tells each operator's name, kind, shapes and work.

MNN's own changes of layout (`Raster`) are operators like the others. What passes between operators the session does not
tell; for those that are in the file the file does, and where an operator of the file only lays a tensor out anew, what
it gives counts as what it reads. The exporter puts the path of the module before the first `/` of an operator's name.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import prod
from pathlib import Path
from types import MappingProxyType
from typing import Any

import MNN

from edgekit.filegraph.base import FileGraph, FileNode
from edgekit.mnn_file import LAYOUTS, Operator, operators

_mnn: Any = MNN  # it has no types
_FLOAT_BYTES = 4
_PRODUCTS: Mapping[str, float] = MappingProxyType(
    {
        **dict.fromkeys(("Convolution", "ConvolutionDepthwise", "Deconvolution", "DeconvolutionDepthwise"), 1e6),
        **dict.fromkeys(("BatchMatMul", "MatMul", "While"), 1 << 20),
    }
)
"""Operators whose work MNN tells in MACs, as a float32 in units of so many; of others it tells the elements.

`While` is a loop over matrix products, one for each of a batch.
"""

_WEIGHTED = frozenset(kind for kind in _PRODUCTS if "onvolution" in kind)


def read(path: Path) -> FileGraph:
    """The operators of a `.mnn` file."""
    nodes: dict[str, FileNode] = {}
    sizes: dict[str, int] = {}
    modules: dict[str, str] = json.loads(_description(path)).get("modules", {})
    shapes: list[tuple[int, ...]] = []

    def begin(tensors: list[Any], operator: Any) -> bool:  # noqa: ARG001 - MNN's signature
        shapes[:] = [tensor.getShape() for tensor in tensors]
        return True

    def end(tensors: list[Any], operator: Any) -> bool:
        name, kind = operator.getName(), operator.getType()
        results = [tensor.getShape() for tensor in tensors]
        macs = _macs(kind, operator.getFlops(), shapes, results)
        read_sizes = {f"{name}:{index}": prod(shape) for index, shape in enumerate(shapes)}
        if kind in _WEIGHTED:
            spatial = shapes[0] if kind.startswith("Deconvolution") else results[0]
            read_sizes[f"{name}:weight"] = macs // max(1, spatial[0] * prod(spatial[2:]))
        given_sizes = {f"{name}={index}": prod(shape) for index, shape in enumerate(results)}
        sizes.update({tensor: _FLOAT_BYTES * size for tensor, size in (read_sizes | given_sizes).items()})
        nodes[name] = FileNode(name, kind, _module(name, modules), macs, (*read_sizes,), (*given_sizes,))
        return True

    interpreter = _mnn.Interpreter(str(path))
    session = interpreter.createSession({"backend": "CPU", "numThread": 1, "precision": "high"})
    interpreter.runSessionWithCallBackInfo(session, begin, end)
    return _wired(nodes, sizes, operators(path.read_bytes()))


def _wired(nodes: Mapping[str, FileNode], sizes: Mapping[str, int], everything: Sequence[Operator]) -> FileGraph:
    """The graph in which what operators of the file read and give are the tensors of the file."""
    same: dict[int, int] = {}
    names: dict[str, str] = {}
    for operator in everything:
        read = [same.get(tensor, tensor) for tensor in operator.inputs]
        if operator.type in LAYOUTS and read:
            same |= dict.fromkeys(operator.outputs, read[0])
        names |= {f"{operator.name}:{index}": f"tensor {tensor}" for index, tensor in enumerate(read)}
        names |= {f"{operator.name}={index}": f"tensor {tensor}" for index, tensor in enumerate(operator.outputs)}
    wired = {
        node.name: replace(
            node,
            operands=tuple(names.get(tensor, tensor) for tensor in node.operands),
            results=tuple(names.get(tensor, tensor) for tensor in node.results),
        )
        for node in nodes.values()
    }
    read_sizes = {names.get(tensor, tensor): size for tensor, size in sizes.items()}
    given_sizes = {names.get(tensor, tensor): sizes[tensor] for node in nodes.values() for tensor in node.results}
    return FileGraph(wired, read_sizes | given_sizes)


def _macs(kind: str, told: float, operands: list[tuple[int, ...]], results: list[tuple[int, ...]]) -> int:
    """MACs of an operator: a whole number for each element of the result, or of the map that a deconvolution reads."""
    if kind not in _PRODUCTS:
        return 0
    elements = prod(operands[0] if kind.startswith("Deconvolution") else results[0])
    return elements * round(_PRODUCTS[kind] * told / elements)


def _description(path: Path) -> str:
    """What the exporter wrote into the file."""
    return str(_mnn.nn.load_module_from_file(str(path), [], []).get_info()["bizCode"])


def _module(name: str, modules: dict[str, str]) -> str | None:
    """The module before the first `/`; what makes an output of the network is named after it, with more behind."""
    module, slash, _ = name.partition("/")
    if slash:
        return module
    return next((path for output, path in modules.items() if name.startswith(output)), None)
