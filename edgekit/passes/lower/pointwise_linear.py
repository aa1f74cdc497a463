"""A pointwise convolution beside a transpose becomes a linear layer over channels that come last.

    conv2d(x, w, b)   ->  permute(linear(permute(x), w[:, :, 0, 0], b))        w: (O, I, 1, 1)

For ONNX Runtime in int8, whose product of a matrix finds the range of its input as it goes and has the faster kernel:
ParCNetV2-T took 48 ms with its pointwise layers as convolutions, 25 ms with them as products. A transpose that meets
its inverse cancels, so the rule fires where the layer stands beside one already and costs none.

Rules:
1. The kernel has one tap, one group, no stride and no padding, and its weight is constant.
2. What it reads is a transpose to channels first, or all that reads it are transposes to channels last.
"""

import torch
from torch import Tensor
from torch.fx import Node

from edgekit.passes.base import Log
from edgekit.passes.lower.channels_first import TO_FIRST, TO_LAST
from edgekit.program import Program, arguments, constant, insert_constant, module_path

_aten = torch.ops.aten


class PointwiseLinear:
    """Writes pointwise convolutions beside transposes as linear layers."""

    name = "pointwise-linear"

    def __call__(self, program: Program, log: Log) -> None:
        for node in list(program.graph.nodes):
            if node.target is not _aten.conv2d.default:
                continue
            weight = constant(program, arguments(node)["weight"])
            if weight is None or not _is_pointwise(node, weight):
                continue
            if _is_transpose(arguments(node)["input"], TO_FIRST) or _is_read_by_transposes(node):
                _rewrite(program, node, weight)
                log.fired["convolution"] += 1
            else:
                log.decline("convolution", module_path(node), "no transpose beside it, so it would cost two")


def _is_pointwise(node: Node, weight: Tensor) -> bool:
    given = arguments(node)
    plain = [*given["stride"]] == [1, 1] and [*given["padding"]] == [0, 0] and given["groups"] == 1
    return bool(plain and weight.ndim == 4 and tuple(weight.shape[2:]) == (1, 1))


def _is_transpose(node: object, order: list[int]) -> bool:
    return isinstance(node, Node) and node.target is _aten.permute.default and [*arguments(node)["dims"]] == order


def _is_read_by_transposes(node: Node) -> bool:
    return bool(node.users) and all(_is_transpose(user, TO_LAST) for user in node.users)


def _rewrite(program: Program, node: Node, weight: Tensor) -> None:
    """The linear layer between two transposes, of which those that meet their inverse are left out."""
    given = arguments(node)
    matrix = insert_constant(program, node, f"{given['weight'].target}_matrix", weight[:, :, 0, 0])
    source = given["input"]
    with program.graph.inserting_before(node):
        if _is_transpose(source, TO_FIRST):
            last = arguments(source)["self"]
        else:
            last = _added(program, source, TO_LAST, _aten.permute.default, source, TO_LAST)
        made = _added(program, node, TO_LAST, _aten.linear.default, last, matrix, given["bias"])
        for user in list(node.users):
            if _is_transpose(user, TO_LAST):
                user.replace_all_uses_with(made)
        first = _added(program, node, [0, 1, 2, 3], _aten.permute.default, made, TO_FIRST)
    node.replace_all_uses_with(first)


def _added(program: Program, like: Node, order: list[int], target: object, *args: object) -> Node:
    """A new node with the origin of another, whose value is that one's with its axes in this order."""
    made = program.graph.call_function(target, args)  # type: ignore[arg-type]
    made.meta = {**like.meta, "val": like.meta["val"].permute(*order)}
    return made
