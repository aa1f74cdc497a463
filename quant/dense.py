"""What a dense layer of a file is, from the shapes of its tensors."""

from collections.abc import Sequence
from math import prod
from typing import cast

from edgekit.dense_layer import Clip, DenseLayer, Edges, Pair
from edgekit.filegraph.base import FileGraph, FileNode

_CLIPS = {"Relu": "relu", "RELU": "relu", "RELU6": "relu6"}
_BOUNDED = frozenset({"Clip", "Clamp"})

CLIPPING = _BOUNDED | _CLIPS.keys()
"""Activations that only clip."""

_SUMS = frozenset({"Add", "ADD"})


def linear(shape: Sequence[int], outputs: int) -> DenseLayer | None:
    """A linear layer that reads a tensor of shape (..., inputs); None where a side is not known.

    However its rows lie, runtimes compute one product of all of them.
    """
    if not shape or not all(side > 0 for side in shape):
        return None
    rows = prod(shape[:-1])
    return DenseLayer(kind="linear", inputs=shape[-1], outputs=outputs, size=(rows,) if rows > 1 else ())


def convolution(
    channels: tuple[int, int],
    sides: tuple[Sequence[int], Sequence[int]],
    steps: tuple[Sequence[int], Sequence[int]],
    padding: Sequence[int],
    clip: str,
) -> DenseLayer | None:
    """A convolution.

    Args:
        channels: That it reads, and that it gives.
        sides: Of the map it reads, and of its kernel; (height, width).
        steps: Stride and dilation.
        padding: (top, left, bottom, right).
        clip: What follows.
    """
    size, taps = sides
    if len(size) != 2 or not all(side > 0 for side in size):
        return None
    stride, dilation = steps
    return DenseLayer(
        kind="convolution",
        inputs=channels[0],
        outputs=channels[1],
        size=_pair(size),
        taps=_pair(taps),
        stride=_pair(stride),
        dilation=_pair(dilation),
        padding=cast("Edges", tuple(map(int, padding))),
        clip=cast("Clip", clip),
    )


def clip_behind(graph: FileGraph, node: FileNode, highest: dict[str, float] | None = None) -> str:
    """The activation that alone reads what a node gives, behind the bias where that is an operator of its own.

    Args:
        graph: Of the file.
        node: The layer.
        highest: Name of each operator that clips between bounds to the upper one, where the lower one is 0.
    """
    reader = only_reader(graph, node)
    if reader is not None and adds_constant(graph, reader):
        reader = only_reader(graph, reader)
    if reader is None:
        return ""
    if reader.kind in _BOUNDED:
        return "relu6" if (highest or {}).get(reader.name) == 6.0 else ""
    return _CLIPS.get(reader.kind, "")


def only_reader(graph: FileGraph, node: FileNode) -> FileNode | None:
    """The one node that reads what another gives; None where there are several, or none."""
    readers = [name for tensor in node.results for name in graph.consumers.get(tensor, ())]
    return graph.nodes.get(readers[0]) if len(readers) == 1 else None


def adds_constant(graph: FileGraph, node: FileNode) -> bool:
    """Whether it is a sum with a constant as small as a bias."""
    if node.kind not in _SUMS:
        return False
    others = [tensor for tensor in node.operands if tensor not in graph.producers]
    given = max((prod(graph.shapes.get(tensor, ())) for tensor in node.results), default=0)
    return any(prod(graph.shapes.get(tensor, ())) < given for tensor in others)


def _pair(sides: Sequence[int]) -> Pair:
    height, width = (int(side) for side in sides)
    return height, width
