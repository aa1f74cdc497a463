"""A long depthwise kernel along one axis becomes a matrix product with one banded matrix per channel.

    conv2d(x, w: (C, 1, 1, K), groups=C)  ->  matmul(x, T)
    conv2d(x, w: (C, 1, K, 1), groups=C)  ->  matmul(T^t, x),   T[c, i, j] = w[c, (i + padding - j stride) / dilation]

T is Toeplitz: it is constant along its diagonals. The constants are the kernel's own, copied, so nothing is rounded.
A kernel as long as the map costs half as many multiplications this way, for none of them meets padding, and they run
in the runtime's matrix product instead of a loop over taps. What it costs is constants: C x W x W' numbers for C x K.

Rules:
1. The convolution is depthwise, one-dimensional, with a constant weight and no padding mode but zero.
2. It has at least `taps` taps, and at least `share` times as many as the side it slides along.
3. The side is at least `side`, and the matrices take no more than `most_bytes`.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.fx import Node

from edgekit.passes.base import Log
from edgekit.program import Program, arguments, constant, insert_constant, is_depthwise, module_path, pair

_aten = torch.ops.aten


@dataclass(frozen=True, slots=True)
class Toeplitz:
    """Writes long one-dimensional depthwise kernels as matrix products.

    Attributes:
        taps: Fewest taps of a kernel worth it.
        side: Shortest side of a map worth it, in pixels.
        share: Fewest taps for each pixel of that side.
        most_bytes: Most memory for the matrices of one kernel, which grows with the square of the side.
    """

    taps: int
    side: int = 1
    share: float = 0.0
    most_bytes: int = 16 << 20

    @property
    def name(self) -> str:
        return "toeplitz"

    def __call__(self, program: Program, log: Log) -> None:
        for node in program.graph.find_nodes(op="call_function", target=_aten.conv2d.default):
            weight = constant(program, arguments(node)["weight"])
            axis = None if weight is None else long_axis(node, weight)
            if weight is None or axis is None or not self._worth(node, weight, axis):
                continue
            sides = arguments(node)["input"].meta["val"].shape[axis] * node.meta["val"].shape[axis]
            needed = weight.shape[0] * sides * weight.element_size()
            if needed > self.most_bytes:
                log.decline(self.name, module_path(node), f"the matrices would take {needed >> 20} MiB")
                continue
            _rewrite(program, node, weight, axis)
            log.fired[self.name] += 1

    def _worth(self, node: Node, weight: Tensor, axis: int) -> bool:
        taps, side = weight.shape[axis], arguments(node)["input"].meta["val"].shape[axis]
        return taps >= self.taps and side >= self.side and taps >= self.share * side


def long_axis(node: Node, weight: Tensor) -> int | None:
    """The axis (2 or 3) along which a one-dimensional depthwise kernel lies; None for any other convolution."""
    given = arguments(node)
    if not is_depthwise(node, weight):
        return None
    short = [axis for axis in (2, 3) if weight.shape[axis] == 1]
    if len(short) != 1:
        return None
    across = short[0] - 2
    along = 1 - across
    trivial = pair(given["stride"])[across] == 1 and pair(given["padding"])[across] == 0
    return along + 2 if trivial else None


def banded(weight: Tensor, side: int, result: int, stride: int, padding: int, dilation: int) -> Tensor:
    """The matrices (C, side, result) of kernels (C, K): `x @ matrix` convolves the last axis of x."""
    offset = torch.arange(side)[:, None] + padding - stride * torch.arange(result)[None, :]
    tap = offset.div(dilation, rounding_mode="floor")
    meets = (offset % dilation == 0) & (tap >= 0) & (tap < weight.shape[1])
    return weight[:, tap.clamp(0, weight.shape[1] - 1)] * meets


def _rewrite(program: Program, node: Node, weight: Tensor, axis: int) -> None:
    """Puts the matrix product, and the bias where there is one, in the convolution's place."""
    given = arguments(node)
    source, bias = given["input"], constant(program, given["bias"])
    stride, padding, dilation = (pair(given[name])[axis - 2] for name in ("stride", "padding", "dilation"))
    sides = source.meta["val"].shape[axis], node.meta["val"].shape[axis]
    matrix = banded(weight.flatten(1), *sides, stride, padding, dilation)
    name = str(given["weight"].target)
    stored = insert_constant(program, node, f"{name}_toeplitz", (matrix if axis == 3 else matrix.mT)[None])
    factors = (source, stored) if axis == 3 else (stored, source)
    with program.graph.inserting_before(node):
        result = program.graph.call_function(_aten.matmul.default, factors)
    result.meta = dict(node.meta)
    if bias is not None:
        shift = insert_constant(program, node, f"{given['bias'].target}_map", bias.reshape(1, -1, 1, 1))
        with program.graph.inserting_before(node):
            result = program.graph.call_function(_aten.add.Tensor, (result, shift))
        result.meta = dict(node.meta)
    node.replace_all_uses_with(result)
