"""Blocks of pixels become channels, and channels blocks, with the channels as the last axis.

    reshape(permute(reshape(x, (N, C, h, 4, w, 4)), (0, 1, 3, 5, 2, 4)), (N, 16 C, h, w))
        ->  first(reshape(permute(reshape(last(x), (N, h, 4, w, 4, C)), (0, 1, 3, 5, 2, 4)), (N, h, w, 16 C)))
    reshape(permute(reshape(x, (N, C, 4, 4, h, w)), (0, 1, 4, 2, 5, 3)), (N, C, 4 h, 4 w))
        ->  first(reshape(permute(reshape(last(x), (N, h, w, C, 4, 4)), (0, 1, 4, 2, 5, 3)), (N, 4 h, 4 w, C)))
    first(x) = permute(x, (0, 3, 1, 2)),   last(x) = permute(x, (0, 2, 3, 1))

For TFLite, which keeps maps with their channels last: its converter would put a transpose before and one behind what
goes by channels first, and cancels them against these. A `polyphase` kernel takes up to a fifth less time.

Rule: nothing else reads what lies between the two reshapes, and blocks may have any sides.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from torch.fx import Node

from edgekit.artifact import Shape
from edgekit.passes.base import Log
from edgekit.program import Program, arguments

_aten = torch.ops.aten

_TO_CHANNELS_FIRST, _TO_CHANNELS_LAST = [0, 3, 1, 2], [0, 2, 3, 1]


def _deep(six: Shape) -> tuple[Shape, Shape, Shape]:
    """The map, its blocks with the channels last, and the map of blocks, for blocks (N, C, h, s, w, t)."""
    n, c, h, s, w, t = six
    return (n, c, h * s, w * t), (n, h, s, w, t, c), (n, c * s * t, h, w)


def _wide(six: Shape) -> tuple[Shape, Shape, Shape]:
    """The map of blocks, its blocks with the channels last, and the map, for blocks (N, C, s, t, h, w)."""
    n, c, s, t, h, w = six
    return (n, c * s * t, h, w), (n, h, w, c, s, t), (n, c, h * s, w * t)


ORDERS: Mapping[tuple[int, ...], Callable[[Shape], tuple[Shape, Shape, Shape]]] = MappingProxyType(
    {(0, 1, 3, 5, 2, 4): _deep, (0, 1, 4, 2, 5, 3): _wide}
)
"""Order in which the axes of blocks change places, to shapes; it is the same with the channels last."""


class BlocksLast:
    """Writes blocks with their channels last."""

    name = "blocks-last"

    def __call__(self, program: Program, log: Log) -> None:
        for node in program.graph.find_nodes(op="call_function", target=_aten.permute.default):
            shapes = _shapes(node)
            if shapes is not None:
                _write(program, node, *shapes[1:])
                log.fired[self.name] += 1


def _shapes(node: Node) -> tuple[Shape, Shape, Shape] | None:
    """The shapes on the way through a permute between two reshapes; None where it is another."""
    before, order = arguments(node)["self"], tuple(arguments(node)["dims"])
    (after, *others) = node.users
    reshapes = before.target is after.target is _aten.reshape.default
    if order not in ORDERS or others or not reshapes or len(before.users) > 1:
        return None
    shapes = ORDERS[order](tuple(before.meta["val"].shape))
    given, result = arguments(before)["self"].meta["val"].shape, after.meta["val"].shape
    return shapes if (tuple(given), tuple(result)) == (shapes[0], shapes[2]) else None


def _write(program: Program, node: Node, blocks: Shape, result: Shape) -> None:
    """Writes the five operators in the place of the three."""
    (after,) = node.users
    n, c, h, w = result
    steps = (
        (_aten.permute.default, _TO_CHANNELS_LAST),
        (_aten.reshape.default, list(blocks)),
        (_aten.permute.default, list(arguments(node)["dims"])),
        (_aten.reshape.default, [n, h, w, c]),
        (_aten.permute.default, _TO_CHANNELS_FIRST),
    )
    made: Node = arguments(arguments(node)["self"])["self"]
    for operator, given in steps:
        with program.graph.inserting_before(after):
            made = program.graph.call_function(operator, (made, given))
        made.meta = {key: value for key, value in node.meta.items() if key != "val"}
    made.meta = dict(after.meta)
    after.replace_all_uses_with(made)
