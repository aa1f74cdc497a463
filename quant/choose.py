"""Which operators are worth quantizing, by what they are and where they stand, never by the name of a model.

In every runtime int8 makes dense and pointwise convolutions and linear layers two to four times faster, and nothing
else: depthwise kernels, products with one matrix per channel and elementwise operators are slower in int8 or gain
nothing, and each costs accuracy. What makes the gate of a squeeze-excitation takes hardly any time, and its rounding
error scales whole channels: kept float it is worth 14 to 20 dB of a ParNet's output.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from edgekit.filegraph.base import FileGraph, FileNode
from edgekit.quant.base import Layer
from edgekit.quant.dense import CLIPPING, adds_constant, only_reader

_FLOAT_BYTES = 4

_MULTIPLIES = frozenset({"Mul", "MUL", "Multiply", "BinaryOp"})
"""What formats call it; MNN has one name for it and for sums."""


def reasons(
    layers: Sequence[Layer], graph: FileGraph, kinds: Collection[str], keep: Collection[str] = ()
) -> Mapping[str, str]:
    """Why layers stay float: their names to a code of `OperatorPrecision`; those that do not are left out.

    Args:
        layers: Of a float file.
        graph: The same file's.
        kinds: The kinds of layers that the recipe quantizes.
        keep: Names of layers that were asked to stay float.
    """
    gates = find_gates(layers, graph)
    found: dict[str, str] = {}
    for layer in layers:
        if layer.kind in ("grouped", "product"):
            found[layer.name] = layer.kind
        elif layer.name in gates:
            found[layer.name] = "gate"
        elif layer.kind not in kinds:
            found[layer.name] = "recipe"
        elif layer.name in keep:
            found[layer.name] = "asked"
    return MappingProxyType(found)


@dataclass(frozen=True, slots=True)
class Link:
    """What stands right beside a layer, biases and clipping activations left out of account.

    Attributes:
        reads: Name of the layer that gives the map it reads; None for anything else.
        float_readers: Whether anything but layers reads the map it gives.
    """

    reads: str | None
    float_readers: bool


def links(layers: Sequence[Layer], graph: FileGraph) -> Mapping[str, Link]:
    """What stands beside each of some layers, where it is one of them."""
    names = {layer.node: layer.name for layer in layers}
    return {
        layer.name: Link(_before(graph, graph.nodes[layer.node], names), _meets_others(graph, layer, names))
        for layer in layers
    }


def _before(graph: FileGraph, node: FileNode, names: Mapping[str, str]) -> str | None:
    """The name of the layer that gives the map a node reads."""
    while (giver := graph.producers.get(node.operands[0])) is not None and giver not in names:
        node = graph.nodes[giver]
        if not _is_taken_in(graph, node):
            return None
    return names.get(giver) if giver is not None else None


def _meets_others(graph: FileGraph, layer: Layer, names: Mapping[str, str]) -> bool:
    """Whether anything but layers reads what a layer gives."""
    node = graph.nodes[layer.node]
    while (reader := only_reader(graph, node)) is not None and _is_taken_in(graph, reader):
        node = reader
    readers = [name for tensor in node.results for name in graph.consumers.get(tensor, ())]
    return not readers or any(
        name not in names or graph.nodes[name].operands[0] not in node.results for name in readers
    )


def _is_taken_in(graph: FileGraph, node: FileNode) -> bool:
    """Whether a runtime computes an operator as part of the layer before it."""
    return node.kind in CLIPPING or adds_constant(graph, node)


def find_gates(layers: Sequence[Layer], graph: FileGraph) -> frozenset[str]:
    """The layers whose output scales the channels of a larger map.

    Rules:
    1. Each of their weights is used once: they see one pixel, which pooling left.
    2. On the way from their output, through operators that keep it that small, it is multiplied with something larger.
    """
    small = {layer.node for layer in layers if _sees_one_pixel(graph, graph.nodes[layer.node])}
    return frozenset(
        layer.name for layer in layers if layer.node in small and _gates(graph, graph.nodes[layer.node], small)
    )


def _sees_one_pixel(graph: FileGraph, node: FileNode) -> bool:
    if len(node.operands) < 2:
        return False
    return node.macs * _FLOAT_BYTES == graph.sizes.get(node.operands[1], 0)


def _gates(graph: FileGraph, start: FileNode, small: Collection[str]) -> bool:
    """Whether what a node gives is multiplied with something larger before it meets another kind of layer."""
    todo, seen = [start], {start.name}
    while todo:
        node = todo.pop()
        for reader, size in _readers(graph, node):
            result = max((graph.sizes.get(tensor, 0) for tensor in reader.results), default=0)
            if result > size and reader.kind in _MULTIPLIES:
                return True
            grows = result > size and reader.name not in small
            if reader.name not in seen and not grows and (not reader.macs or reader.name in small):
                seen.add(reader.name)
                todo.append(reader)
    return False


def _readers(graph: FileGraph, node: FileNode) -> Iterator[tuple[FileNode, int]]:
    """The nodes that read what a node gives, with the size of that in bytes."""
    for tensor in node.results:
        for name in graph.consumers.get(tensor, ()):
            yield graph.nodes[name], graph.sizes.get(tensor, 0)
