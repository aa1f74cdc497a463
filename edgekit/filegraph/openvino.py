"""OpenVINO IR. The exporter puts the path of the module before the first `/` of an operation's name."""

from math import prod
from pathlib import Path
from typing import Any

import openvino

from edgekit.filegraph.base import FileGraph, FileNode

_NO_WORK = frozenset({"Parameter", "Constant", "Result"})


def read(path: Path) -> FileGraph:
    """The graph of an `.xml` file with its `.bin` beside it."""
    model: Any = openvino.Core().read_model(str(path))
    nodes, sizes, shapes = {}, {}, {}
    for operation in model.get_ordered_ops():
        for port in operation.outputs():
            shapes[_tensor(port)] = tuple(port.get_shape())
            sizes[_tensor(port)] = prod(port.get_shape()) * port.get_element_type().size
        if operation.get_type_name() not in _NO_WORK:
            node = _node(operation)
            nodes[node.name] = node
    return FileGraph(nodes, sizes, shapes)


def _node(operation: Any) -> FileNode:
    """One operation."""
    name = operation.get_friendly_name()
    module, slash, _ = name.partition("/")
    return FileNode(
        name=name,
        kind=operation.get_type_name(),
        module=module if slash else None,
        macs=macs(operation),
        operands=tuple(_tensor(port.get_source_output()) for port in operation.inputs()),
        results=tuple(_tensor(port) for port in operation.outputs()),
    )


def _tensor(port: Any) -> str:
    """A name for an operation's output."""
    return f"{port.get_node().get_friendly_name()}:{port.get_index()}"


def macs(operation: Any) -> int:
    """MACs of one operation."""
    kind = operation.get_type_name()
    if kind == "MatMul":
        first = operation.input(0).get_shape()
        transposed = operation.get_attributes()["transpose_a"]
        return int(prod(operation.output(0).get_shape()) * (first[-2] if transposed and len(first) > 1 else first[-1]))
    if kind in ("Convolution", "GroupConvolution"):
        weight = operation.input(1).get_shape()  # (O, I, ...) or (G, O / G, I / G, ...)
        return int(prod(operation.output(0).get_shape()) * prod(weight[1 if kind == "Convolution" else 2 :]))
    if kind in ("ConvolutionBackpropData", "GroupConvolutionBackpropData"):
        weight = operation.input(1).get_shape()  # (I, O, ...) or (G, I / G, O / G, ...)
        skipped = 1 if kind == "ConvolutionBackpropData" else 2
        return int(prod(operation.input(0).get_shape()) * prod(weight[skipped:]))
    return 0
