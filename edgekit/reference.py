"""Running a network in float64, the yardstick of every comparison.

torch has no fast double-precision depthwise convolution: it loops over the channels, which takes seconds for an
oversized kernel. `ReferenceArithmetic` computes the same sums as a few matrix products.
"""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from edgekit.program import Program, as_tuple, in_float64, run

Function = Callable[..., tuple[Tensor, ...]]
"""A network's float64 outputs in order, given its float32 inputs by position."""


class ReferenceArithmetic(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Inside this context float64 depthwise convolutions are matrix products."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is torch.ops.aten.convolution.default and _is_float64_depthwise(args):
            source, weight, bias, *steps = args[:6]
            return depthwise_matmul(source, weight, bias, *(_pair(step) for step in steps))
        return func(*args, **(kwargs or {}))


def _is_float64_depthwise(args: tuple[Any, ...]) -> bool:
    source, weight, transposed, groups = args[0], args[1], args[6], args[8]
    one_each = groups == source.shape[1] == weight.shape[0] and groups > 1
    return bool(source.dtype is torch.float64 and weight.ndim == 4 and one_each and not transposed)


def _pair(step: Sequence[int]) -> Sequence[int]:
    """A stride, padding or dilation for height and width; ATen takes one number for both."""
    return tuple(step) * 2 if len(step) == 1 else step


def depthwise_matmul(
    source: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
) -> Tensor:
    """Depthwise convolution as matrix products: (N, C, H, W), weight (C, 1, Kh, Kw) -> (N, C, H', W').

    The longer side of the kernel becomes one banded matrix per channel, the shorter side a sum over its taps.
    """
    if weight.shape[2] > weight.shape[3]:
        turned = (values[::-1] for values in (stride, padding, dilation))
        return depthwise_matmul(source.mT, weight.mT, bias, *turned).mT
    length, taps = source.shape[3], weight.shape[3]
    height, width = (
        (source.shape[2 + axis] + 2 * padding[axis] - dilation[axis] * (weight.shape[2 + axis] - 1) - 1) // stride[axis]
        + 1
        for axis in (0, 1)
    )
    padded = functional.pad(source, (0, 0, padding[0], padding[0]))
    offset = torch.arange(length)[:, None] + padding[1] - stride[1] * torch.arange(width)[None, :]
    tap = offset // dilation[1]
    meets = (offset % dilation[1] == 0) & (tap >= 0) & (tap < taps)
    total = source.new_zeros(*source.shape[:2], height, width)
    for row in range(weight.shape[2]):
        banded = weight[:, 0, row, tap.clamp(0, taps - 1)] * meets
        rows = padded[:, :, row * dilation[0] :: stride[0]][:, :, :height]
        total += rows @ banded
    return total if bias is None else total + bias[:, None, None]


def model_in_float64(model: nn.Module) -> Function:
    """The original model in float64."""
    double = copy.deepcopy(model).double()

    def forward(*inputs: Tensor) -> tuple[Tensor, ...]:
        with torch.no_grad(), ReferenceArithmetic():  # type: ignore[no-untyped-call]
            return as_tuple(double(*(source.double() for source in inputs)))

    return forward


def program_in_float64(program: Program) -> Function:
    """A program in float64."""
    double = in_float64(program)

    def forward(*inputs: Tensor) -> tuple[Tensor, ...]:
        with ReferenceArithmetic():  # type: ignore[no-untyped-call]
            return run(double, *(source.double() for source in inputs))

    return forward
