"""A layer whose output is only taken apart along its channels becomes one layer per part.

    chunk(conv2d(x, w, b), 2, dim=1)      ->  conv2d(x, w[:n], b[:n]), conv2d(x, w[n:], b[n:])
    chunk(linear(x, w, b), 2, dim=-1)     ->  linear(x, w[:n], b[:n]), linear(x, w[n:], b[n:])

The arithmetic is the same to the last bit; what goes is the copy that runtimes make when they split a tensor, and the
gate of a bifurcate unit can then be fused with the layer it comes from.

Rules:
1. The layer is a convolution of one group or a linear layer with constant weights.
2. Its only user is a `chunk` or `split` along the channels, and only elements of that are used.
"""

import torch
from torch.fx import Node

from edgekit.passes.base import Log
from edgekit.program import Program, arguments, constant, insert_constant, is_getitem, module_path

_aten = torch.ops.aten

_SPLITS = (_aten.chunk.default, _aten.split.Tensor, _aten.split_with_sizes.default)


class SplitLayers:
    """Gives every part of a split output a layer of its own."""

    name = "split-layers"

    def __call__(self, program: Program, log: Log) -> None:
        for target in _SPLITS:
            for split in program.graph.find_nodes(op="call_function", target=target):
                reason = _why_not(program, split)
                if reason is None:
                    _split(program, split)
                    log.fired[self.name] += 1
                elif reason:
                    log.decline(self.name, module_path(split), reason)


def _why_not(program: Program, split: Node) -> str | None:
    """None where the rule applies, "" where it was never meant to, else the reason for declining."""
    given = arguments(split)
    layer = given["self"]
    if layer.target not in (_aten.conv2d.default, _aten.linear.default):
        return ""
    options = arguments(layer)
    if constant(program, options["weight"]) is None:
        return "the layer's weight is computed"
    if options["bias"] is not None and constant(program, options["bias"]) is None:
        return "the layer's bias is computed"
    if given["dim"] % layer.meta["val"].ndim != _channel_axis(layer):
        return "not split along the channels"
    if options.get("groups", 1) != 1:
        return "the convolution has groups"
    if len(layer.users) > 1:
        return "the whole output is used as well"
    if not all(is_getitem(user) for user in split.users):
        return "the parts are not taken one by one"
    return None


def _channel_axis(layer: Node) -> int:
    """The axis of a layer's output that its weight's first axis becomes."""
    return int(layer.meta["val"].ndim) - (3 if layer.target is _aten.conv2d.default else 1)


def _split(program: Program, split: Node) -> None:
    """Writes one layer for each part that is used."""
    layer = arguments(split)["self"]
    sizes = [part.shape[_channel_axis(layer)] for part in split.meta["val"]]
    for part in list(split.users):
        index = int(part.args[1])  # type: ignore[arg-type]
        start = sum(sizes[:index])
        given = arguments(layer)
        for name in ("weight", "bias"):
            value = constant(program, given[name])
            if value is not None:
                rows = value[start : start + sizes[index]]
                given[name] = insert_constant(program, part, f"{given[name].target}_part{index}", rows)
        with program.graph.inserting_before(part):
            replacement = program.graph.call_function(layer.target, tuple(given.values()))
        replacement.meta = {**layer.meta, "val": part.meta["val"]}
        part.replace_all_uses_with(replacement)
