"""A convolution of a few wide groups becomes one convolution per group, as dense as any other.

    conv2d(x, w, b, groups=2)             ->  cat(conv2d(x[:h], w[:n], b[:n]), conv2d(x[h:], w[n:], b[n:]))
    conv2d(cat(x, y), w, b, groups=2)     ->  cat(conv2d(x, w[:n], b[:n]), conv2d(y, w[n:], b[n:]))

For runtimes that have fast int8 kernels for convolutions of one group only: a group of 96 channels is worth a kernel of
its own. The arithmetic of each output is the same; where the groups are what was concatenated, nothing is moved to get
at them.

Rules:
1. The weights, and the bias where there is one, are constant.
2. Two to eight groups, each of at least 16 channels on both sides: what fills the vectors of every processor.
3. The output is at least 16 pixels: on fewer, as in the gate of a squeeze-excitation, another kernel costs more than it
   saves (ParNet-S at 32 pixels in TFLite on ARMv7: 4 % of all instructions; at 64 it saves 3 %).
"""

from collections.abc import Iterator, Sequence

import torch
from torch.fx import Node

from edgekit.passes.base import Log
from edgekit.program import Program, arguments, constant, insert_constant, module_path

_aten = torch.ops.aten

MOST_GROUPS = 8
LEAST_CHANNELS = 16
LEAST_PIXELS = 16

_BATCHED = 4


class SplitGroups:
    """Gives every wide group of a convolution a convolution of its own."""

    name = "split-groups"

    def __call__(self, program: Program, log: Log) -> None:
        for layer in program.graph.find_nodes(op="call_function", target=_aten.conv2d.default):
            if arguments(layer)["groups"] == 1:
                continue
            reason = _why_not(program, layer)
            if reason is None:
                _split(program, layer)
                log.fired[self.name] += 1
            elif reason:
                log.decline(self.name, module_path(layer), reason)


def _why_not(program: Program, layer: Node) -> str | None:
    """None where the rule applies, "" where it was never meant to, else the reason for declining."""
    given = arguments(layer)
    made, weight = layer.meta["val"].shape, given["weight"].meta["val"].shape
    groups = given["groups"]
    if len(made) != _BATCHED or made[2:].numel() < LEAST_PIXELS:
        return ""
    if min(weight[1], weight[0] // groups) < LEAST_CHANNELS:
        return ""
    if groups > MOST_GROUPS:
        return f"more than {MOST_GROUPS} groups"
    if constant(program, given["weight"]) is None:
        return "the layer's weight is computed"
    if given["bias"] is not None and constant(program, given["bias"]) is None:
        return "the layer's bias is computed"
    return None


def _split(program: Program, layer: Node) -> None:
    """Writes one convolution for each group, and puts their outputs together."""
    given = arguments(layer)
    groups, source = given["groups"], given["input"]
    made = []
    for index, part in enumerate(_parts(program, layer, source, groups)):
        own = {**given, "input": part, "groups": 1}
        for name in ("weight", "bias"):
            value = constant(program, given[name])
            if value is not None:
                rows = value.chunk(groups)[index]
                own[name] = insert_constant(program, layer, f"{given[name].target}_group{index}", rows)
        made.append(_write(program, layer, _aten.conv2d.default, *own.values()))
    layer.replace_all_uses_with(_write(program, layer, _aten.cat.default, made, 1))


def _parts(program: Program, layer: Node, source: Node, groups: int) -> Iterator[Node]:
    """The channels that each group reads, without a slice where whole maps were concatenated for it."""
    width = source.meta["val"].shape[1] // groups
    pieces = _pieces(source)
    for start in range(0, groups * width, width):
        whole = _between(pieces, start, start + width)
        if not whole:
            yield _write(program, layer, _aten.slice.Tensor, source, 1, start, start + width)
        elif len(whole) == 1:
            yield whole[0]
        else:
            yield _write(program, layer, _aten.cat.default, list(whole), 1)


def _pieces(source: Node) -> Sequence[Node]:
    """The maps that were concatenated along the channels to make one; itself alone where it was not made so."""
    if source.target is _aten.cat.default:
        given = arguments(source)
        if given["dim"] % source.meta["val"].ndim == 1:
            return tuple(given["tensors"])
    return (source,)


def _between(pieces: Sequence[Node], start: int, stop: int) -> Sequence[Node]:
    """The maps that make up the channels from one to another; none where they do not end there."""
    found, at = [], 0
    for piece in pieces:
        end = at + piece.meta["val"].shape[1]
        if start <= at and end <= stop:
            found.append(piece)
        elif at < stop and end > start:
            return ()
        at = end
    return found


def _write(program: Program, layer: Node, target: torch._ops.OpOverload, *given: object) -> Node:
    """A node before a layer, known by that one's module."""
    with program.graph.inserting_before(layer):
        node = program.graph.call_function(target, given)  # type: ignore[arg-type]
    node.meta = {key: entry for key, entry in layer.meta.items() if key != "val"}
    return node
