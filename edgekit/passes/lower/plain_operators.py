"""Operators that few runtimes have are written in those that all have.

    clamp_min(x, a)            ->  clamp(x, min=a)                                likewise clamp_max
    addcmul(x, y, z, value=v)  ->  x + v y z                                      likewise addcdiv
    var(x, dim, correction=c)  ->  mean((x - mean(x))^2, dim) * n / (n - c)       std: its root
    pad(x, mode="circular")    ->  cat(end of x, x, start of x), one axis at a time

For ncnn, which has none of them, while its converter pnnx writes them into its file all the same; MNN's converter
refuses the last.

Rules:
1. Every `clamp_min`, `clamp_max`, `addcmul`, `addcdiv` with a number for the bound.
2. A variance has axes, and fewer degrees of freedom are taken off than there are values.
3. A circular padding adds to the sides it touches, and to none more than there is.
"""

from collections.abc import Callable, Mapping
from math import prod
from types import MappingProxyType

import torch
from torch.fx import Node
from torch.fx.node import Argument

from edgekit.passes.base import Log
from edgekit.program import Program, arguments

_aten = torch.ops.aten

_STANDARD_DEVIATIONS = (_aten.std.correction, _aten.std.dim)

Add = Callable[..., Node]
"""(operator, arguments...) to a new node in the place of the one that is written anew."""


class PlainOperators:
    """Writes operators that ncnn lacks in those that it has."""

    name = "plain-operators"

    def __call__(self, program: Program, log: Log) -> None:
        for target, write in _WRITERS.items():
            for node in program.graph.find_nodes(op="call_function", target=target):
                with program.graph.inserting_before(node):
                    made = write(_adder(program, node), node)
                if made is not None:
                    node.replace_all_uses_with(made)
                    log.fired[str(target).removeprefix("aten.").partition(".")[0]] += 1


def _adder(program: Program, like: Node) -> Add:
    """Makes nodes with the origin of another; `finish` infers their shapes."""

    def add(target: torch._ops.OpOverload, *operands: Argument) -> Node:
        made = program.graph.call_function(target, operands)
        made.meta = {key: value for key, value in like.meta.items() if key != "val"}
        return made

    return add


def _clamp(add: Add, node: Node) -> Node:
    given = arguments(node)
    return add(_aten.clamp.default, given["self"], given.get("min"), given.get("max"))


def _add_combined(add: Add, node: Node) -> Node:
    given = arguments(node)
    combine = _aten.mul.Tensor if node.target is _aten.addcmul.default else _aten.div.Tensor
    combined = add(combine, given["tensor1"], given["tensor2"])
    if given["value"] != 1:
        combined = add(_aten.mul.Tensor, combined, given["value"])
    return add(_aten.add.Tensor, given["self"], combined)


def _variance(add: Add, node: Node) -> Node | None:
    given = arguments(node)
    sides = given["self"].meta["val"].shape
    count = prod(sides[axis] for axis in given["dim"] or ())
    correction = int(given["unbiased"]) if "unbiased" in given else given["correction"]
    correction = 1 if correction is None else correction
    if not given["dim"] or count <= correction:
        return None
    mean = add(_aten.mean.dim, given["self"], given["dim"], True)
    centred = add(_aten.sub.Tensor, given["self"], mean)
    made = add(_aten.mean.dim, add(_aten.mul.Tensor, centred, centred), given["dim"], given["keepdim"])
    if correction:
        made = add(_aten.mul.Tensor, made, count / (count - correction))
    return add(_aten.sqrt.default, made) if node.target in _STANDARD_DEVIATIONS else made


def _circular(add: Add, node: Node) -> Node | None:
    given = arguments(node)
    value, pads = given["self"], given["pad"]
    sides = value.meta["val"].shape
    amounts = list(zip(pads[::2], pads[1::2], strict=True))
    if given["mode"] != "circular" or any(
        not 0 <= amount <= sides[-axis] for axis, pair in enumerate(amounts, start=1) for amount in pair
    ):
        return None
    for axis, (before, after) in enumerate(amounts, start=1):
        side = sides[-axis]
        ends = [add(_aten.slice.Tensor, value, -axis, side - before, side)] if before else []
        starts = [add(_aten.slice.Tensor, value, -axis, 0, after)] if after else []
        value = add(_aten.cat.default, [*ends, value, *starts], -axis) if before or after else value
    return value  # type: ignore[no-any-return]


_WRITERS: Mapping[torch._ops.OpOverload, Callable[[Add, Node], Node | None]] = MappingProxyType(
    {
        _aten.clamp_min.default: _clamp,
        _aten.clamp_max.default: _clamp,
        _aten.addcmul.default: _add_combined,
        _aten.addcdiv.default: _add_combined,
        _aten.var.correction: _variance,
        _aten.var.dim: _variance,
        _aten.std.dim: _variance,
        _aten.std.correction: _variance,
        _aten.pad.default: _circular,
    }
)
"""Operator to what writes it in others; that gives None where it does not."""
