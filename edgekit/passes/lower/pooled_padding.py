"""Zeros padded in front of a max pool are put there by a concatenation.

    max_pool(pad(x, 0))   ->  max_pool(cat(zeros, cat(zeros, x, zeros), zeros))

For ONNX Runtime, which takes a padding with zeros into the max pool behind it ("PadFusion", seen in 1.31). A max pool's
own padding is minus infinity, so where all values under a window are negative it gives one of them instead of the zero.
Every user's session does so by default; hence the file is written such that it cannot.

Rules:
1. The padding is with the constant zero, adds to every side it touches, and a max pool reads it.
2. What is padded may be negative: it is not the output of a ReLU.
"""

import torch
from torch.fx import Node

from edgekit.passes.base import Log
from edgekit.program import Program, arguments, insert_constant

_aten = torch.ops.aten

_PADDINGS = (_aten.pad.default, _aten.constant_pad_nd.default)
_MAX_POOLS = (
    _aten.max_pool1d.default,
    _aten.max_pool2d.default,
    _aten.max_pool3d.default,
    _aten.max_pool2d_with_indices.default,
    _aten.max_pool3d_with_indices.default,
)
_NEVER_NEGATIVE = (_aten.relu.default, _aten.relu_.default)


class PooledPadding:
    """Writes the paddings that ONNX Runtime would take into a max pool as concatenations."""

    name = "pooled-padding"

    def __call__(self, program: Program, log: Log) -> None:
        for target in _PADDINGS:
            for node in program.graph.find_nodes(op="call_function", target=target):
                if _pads_with_zero(node) and any(user.target in _MAX_POOLS for user in node.users):
                    _concatenate(program, node)
                    log.fired[self.name] += 1


def _pads_with_zero(node: Node) -> bool:
    """Whether a padding adds zeros that may be the largest value under a window."""
    given = arguments(node)
    if given.get("mode", "constant") != "constant" or given["value"] not in (None, 0):
        return False
    return given["self"].target not in _NEVER_NEGATIVE and min(given["pad"]) >= 0


def _concatenate(program: Program, node: Node) -> None:
    """Adds the zeros one axis at a time, the last axis first, as `pad` counts them."""
    given = arguments(node)
    value, pads = given["self"], given["pad"]
    sample = value.meta["val"]
    shape = list(sample.shape)
    for axis, (before, after) in enumerate(zip(pads[::2], pads[1::2], strict=True), start=1):
        parts = [_zeros(program, node, shape, axis, count) for count in (before, after)]
        shape[-axis] += before + after
        pieces = [piece for piece in (parts[0], value, parts[1]) if piece is not None]
        if len(pieces) == 1:
            continue
        with program.graph.inserting_before(node):
            value = program.graph.call_function(_aten.cat.default, (pieces, -axis))
        value.meta = {key: entry for key, entry in node.meta.items() if key != "val"}
    node.replace_all_uses_with(value)


def _zeros(program: Program, before: Node, shape: list[int], axis: int, count: int) -> Node | None:
    """A constant that adds `count` zeros along an axis counted from the right; None for none."""
    if count == 0:
        return None
    sides = [*shape]
    sides[-axis] = count
    return insert_constant(program, before, "padding_zeros", torch.zeros(sides))
