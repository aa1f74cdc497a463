"""A linear layer on one row of pixels becomes the 1x1 convolution that it is.

    linear(x, w, b)   ->  permute(conv2d(permute(x), w[:, :, None, None], b))        x: (1, A, 1, C)
    x @ w             ->  permute(conv2d(permute(x), w.T[:, :, None, None]))

For litert-converter 0.5, which turns the product, between the reshapes that a linear layer has around it, into a
batched one of other axes that its own verifier then refuses ("'tfl.batch_matmul' op found invalid output rank,
expected 3 but got 4"). Large inputs never get there; the last stage of a network at 32 x 32, whose maps are one pixel,
does. Reshaping to a matrix by hand helps only where there is a bias. Found by trying: four axes or more, of which only
the second and the channels are longer than one. Layers on any other shape convert.

Rules:
1. The operator is a linear layer, or a product with a matrix from the right, and the matrix is constant.
2. Its input has at least four axes, of sizes (1, A, 1, ..., 1, C).
"""

from math import prod
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.fx import Node

from edgekit.passes.base import Log
from edgekit.program import Program, arguments, constant, insert_constant

_aten = torch.ops.aten

_TO_CHANNELS_FIRST, _TO_CHANNELS_LAST = [0, 3, 1, 2], [0, 2, 3, 1]

LEAST_RANK = 4
"""The converter gets products of fewer axes right."""


class RowLayers:
    """Writes the linear layers that TFLite's converter fails on as convolutions."""

    name = "row-layers"

    def __call__(self, program: Program, log: Log) -> None:
        for target in (_aten.linear.default, _aten.matmul.default):
            for node in program.graph.find_nodes(op="call_function", target=target):
                weight = _matrix(program, node)
                if weight is not None and _is_one_row(node):
                    _convolve(program, node, weight)
                    log.fired[self.name] += 1


def _matrix(program: Program, node: Node) -> Tensor | None:
    """The constant matrix of a layer, (outputs, inputs); None where it is computed or no matrix."""
    value = constant(program, node.args[1])
    if value is None or value.ndim != 2:
        return None
    return value if node.target is _aten.linear.default else value.T


def _is_one_row(node: Node) -> bool:
    """Whether the input has enough axes, and only the second and the channels are longer than one."""
    shape = node.args[0].meta["val"].shape  # type: ignore[union-attr]
    return len(shape) >= LEAST_RANK and shape[0] == 1 and prod(shape[2:-1]) == 1


def _convolve(program: Program, node: Node, weight: Tensor) -> None:
    """Writes the convolution, with the channels moved to where it wants them and back."""
    given = arguments(node)
    source, bias = given["self" if "self" in given else "input"], given.get("bias")
    shape, made = source.meta["val"].shape, node.meta["val"].shape
    kernel = insert_constant(program, node, f"{node.args[1].target}_kernel", weight[:, :, None, None])  # type: ignore[union-attr]
    steps: list[tuple[OpOverload, tuple[Any, ...]]] = [
        (_aten.permute.default, (_TO_CHANNELS_FIRST,)),
        (_aten.conv2d.default, (kernel, bias)),
        (_aten.permute.default, (_TO_CHANNELS_LAST,)),
    ]
    if len(shape) > LEAST_RANK:
        row = [1, shape[1], 1, shape[-1]]
        steps = [(_aten.reshape.default, (row,)), *steps, (_aten.reshape.default, (list(made),))]
    value = source
    for target, rest in steps:
        with program.graph.inserting_before(node):
            value = program.graph.call_function(target, (value, *rest))
        value.meta = {key: entry for key, entry in node.meta.items() if key != "val"}
    node.replace_all_uses_with(value)
