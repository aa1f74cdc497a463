"""A depthwise kernel along one axis as a matrix product, with one banded matrix per channel.

    conv2d(x, w: (C, 1, 1, K), groups=C)  ->  matmul(x, T)
    conv2d(x, w: (C, 1, K, 1), groups=C)  ->  matmul(T^t, x),   T[c, i, j] = w[c, (i + padding - j stride) / dilation]

T is Toeplitz: it is constant along its diagonals. Where the map is padded with itself first, as in a circular
convolution, the rows of what is repeated are added to those they repeat, and T is circulant. The constants are the
kernel's own, copied, so nothing is rounded as long as no tap meets the same value twice.

A kernel as long as the map costs half as many multiplications this way, for none of them meets padding; a circular one
as many, without a copy of the map. They run in the runtime's matrix product instead of a loop over taps. What it costs
is constants: C x W x W' numbers for C x K.
"""

import torch
from torch import Tensor
from torch.fx import Node

from edgekit.kernel_group import KernelStep
from edgekit.passes.lower.kernel_sites import StepSite, weights
from edgekit.program import Program, arguments, insert_constant

_aten = torch.ops.aten


def write_toeplitz(program: Program, site: StepSite) -> Node:
    """Writes a one-dimensional convolution as a matrix product before its node, and returns the result."""
    axis = site.step.axis
    assert axis is not None, "only lines have this form"  # noqa: S101
    node, source = site.node, site.source
    weight, bias = weights(program, site)
    matrix = axis_matrix(weight.flatten(1), source.meta["val"].shape[2 + axis], site.step, axis)
    name = str(arguments(node)["weight"].target)
    stored = insert_constant(program, node, f"{name}_toeplitz", (matrix if axis == 1 else matrix.mT)[None])
    factors = (source, stored) if axis == 1 else (stored, source)
    with program.graph.inserting_before(node):
        result = program.graph.call_function(_aten.matmul.default, factors)
    result.meta = dict(node.meta)
    return result if bias is None else add_bias(program, node, result, bias)


def add_bias(program: Program, node: Node, result: Node, bias: Tensor) -> Node:
    """Adds a bias (C,) to what stands in a convolution's place."""
    shift = insert_constant(program, node, f"{arguments(node)['bias'].target}_map", bias.reshape(1, -1, 1, 1))
    with program.graph.inserting_before(node):
        added = program.graph.call_function(_aten.add.Tensor, (result, shift))
    added.meta = dict(node.meta)
    return added


def axis_matrix(kernels: Tensor, side: int, step: KernelStep, axis: int) -> Tensor:
    """The matrices (C, side, result) of kernels (C, K): `x @ matrix` convolves an axis as a step does."""
    before, after = step.wraps(axis)
    wrapped = side + before + after
    stride, padding, dilation = step.stride[axis], step.padding[axis], step.dilation[axis]
    result = (wrapped + 2 * padding - step.reach[axis]) // stride + 1
    matrix = banded(kernels, wrapped, result, stride, padding, dilation)
    if not before and not after:
        return matrix
    repeats = (torch.arange(wrapped) - before) % side
    folded = torch.zeros(len(kernels), side, result, dtype=torch.float64)
    return folded.index_add_(1, repeats, matrix.double()).to(kernels.dtype)


def banded(kernels: Tensor, side: int, result: int, stride: int, padding: int, dilation: int) -> Tensor:
    """The matrices (C, side, result) of zero-padded kernels (C, K)."""
    offset = torch.arange(side)[:, None] + padding - stride * torch.arange(result)[None, :]
    tap = offset.div(dilation, rounding_mode="floor")
    meets = (offset % dilation == 0) & (tap >= 0) & (tap < kernels.shape[1])
    return kernels[:, tap.clamp(0, kernels.shape[1] - 1)] * meets
