"""ONNX operators with weights or windows: convolutions, products, norms, pooling, resizing."""

from collections.abc import Callable, Mapping
from math import prod
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from edgekit.intake.onnx_call import Call, Operator, UnsupportedError, only

CONVOLUTIONS = (functional.conv1d, functional.conv2d, functional.conv3d)
TRANSPOSED = (functional.conv_transpose1d, functional.conv_transpose2d, functional.conv_transpose3d)
MAX_POOLS = (functional.max_pool1d, functional.max_pool2d, functional.max_pool3d)
AVERAGE_POOLS = (functional.avg_pool1d, functional.avg_pool2d, functional.avg_pool3d)


def by_rank(functions: tuple[Callable[..., Tensor], ...], axes: int) -> Callable[..., Tensor]:
    """The function for one, two or three axes of space."""
    if not 1 <= axes <= len(functions):
        raise UnsupportedError(f"{axes} axes of space are not supported")
    return functions[axes - 1]


def window(call: Call, source: Tensor, kernel: list[int], default_pad: float = 0.0) -> tuple[Tensor, list[int]]:
    """The padding of a window: what torch can do by itself, the rest done beforehand to the tensor."""
    axes = len(kernel)
    before, after = paddings(call, source, kernel)
    if before == after:
        return source, before
    sides = [side for pair in zip(reversed(before), reversed(after), strict=True) for side in pair]
    return functional.pad(source, sides, value=default_pad), [0] * axes


def paddings(call: Call, source: Tensor, kernel: list[int]) -> tuple[list[int], list[int]]:
    """Padding before and after each axis of space."""
    axes = len(kernel)
    mode = only(call, "auto_pad", ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"), "NOTSET")
    if mode == "NOTSET":
        pads = list(call.get("pads", [0] * (2 * axes)))
        return pads[:axes], pads[axes:]
    if mode == "VALID":
        return [0] * axes, [0] * axes
    strides, dilations = call.get("strides", [1] * axes), call.get("dilations", [1] * axes)
    totals = [
        max((-(-length // stride) - 1) * stride + dilation * (taps - 1) + 1 - length, 0)
        for length, stride, dilation, taps in zip(source.shape[2:], strides, dilations, kernel, strict=True)
    ]
    small, large = [total // 2 for total in totals], [total - total // 2 for total in totals]
    return (small, large) if mode == "SAME_UPPER" else (large, small)


def convolution(call: Call) -> Tensor:
    """Conv."""
    weight = call[1]
    kernel = list(weight.shape[2:])
    axes = len(kernel)
    source, padding = window(call, call[0], kernel)
    strides, dilations = call.get("strides", [1] * axes), call.get("dilations", [1] * axes)
    function = by_rank(CONVOLUTIONS, axes)
    return function(source, weight, call.optional(2), strides, padding, dilations, call.get("group", 1))


def transposed_convolution(call: Call) -> Tensor:
    """ConvTranspose with the same padding on both sides."""
    weight = call[1]
    axes = weight.ndim - 2
    only(call, "auto_pad", ("NOTSET",), "NOTSET")
    pads = call.get("pads", [0] * (2 * axes))
    if pads[:axes] != pads[axes:] or "output_shape" in call.attributes:
        raise UnsupportedError("padding that differs between the two sides, or output_shape, is not supported")
    extra, strides = call.get("output_padding", [0] * axes), call.get("strides", [1] * axes)
    dilations, groups = call.get("dilations", [1] * axes), call.get("group", 1)
    function = by_rank(TRANSPOSED, axes)
    return function(call[0], weight, call.optional(2), strides, pads[:axes], extra, groups, dilations)


def gemm(call: Call) -> Tensor:
    """Alpha A B + beta C; a plain linear layer stays one operator."""
    alpha, beta = call.get("alpha", 1.0), call.get("beta", 1.0)
    left = call[0].mT if call.get("transA", 0) else call[0]
    offset = call.optional(2)
    if alpha == 1.0 and beta == 1.0 and call.get("transB", 0) and (offset is None or offset.ndim == 1):
        return functional.linear(left, call[1], offset)
    result = left @ (call[1].mT if call.get("transB", 0) else call[1])
    result = result if alpha == 1.0 else alpha * result
    return result if offset is None else result + (offset if beta == 1.0 else beta * offset)


def batch_norm(call: Call) -> Tensor:
    """BatchNormalization at inference."""
    only(call, "training_mode", (0,), 0)
    scale, shift, mean, variance = (call[index] for index in (1, 2, 3, 4))
    return functional.batch_norm(call[0], mean, variance, scale, shift, eps=call.get("epsilon", 1e-5))


def layer_norm(call: Call) -> Tensor:
    """LayerNormalization over the last axes; scale and shift are flattened when they broadcast."""
    if call.outputs > 1:
        raise UnsupportedError("mean and deviation as further outputs are not supported")
    axis = call.get("axis", -1) % call[0].ndim
    shape = list(call[0].shape[axis:])
    shift = call.optional(2)
    scale = call[1].reshape(shape)
    return functional.layer_norm(
        call[0], shape, scale, None if shift is None else shift.reshape(shape), call.get("epsilon", 1e-5)
    )


def group_norm(call: Call) -> Tensor:
    """GroupNormalization; before opset 21 scale and shift are per group."""
    groups, channels = call.get("num_groups", 1), call[0].shape[1]
    scale, shift = (
        value if value.shape[0] == channels else value.repeat_interleave(channels // groups)
        for value in (call[1], call[2])
    )
    return functional.group_norm(call[0], groups, scale, shift, call.get("epsilon", 1e-5))


def softmax(function: Callable[..., Tensor]) -> Operator:
    """Softmax and LogSoftmax; before opset 13 everything from the axis on is one vector."""

    def operator(call: Call) -> Tensor:
        if call.opset >= 13:
            return function(call[0], dim=call.get("axis", -1))
        axis = call.get("axis", 1) % call[0].ndim
        if axis == call[0].ndim - 1:
            return function(call[0], dim=axis)
        return function(call[0].flatten(axis), dim=-1).reshape(call[0].shape)

    return operator


def max_pool(call: Call) -> Tensor:
    """MaxPool without indices."""
    if call.outputs > 1:
        raise UnsupportedError("indices as a second output are not supported")
    kernel = list(call.attributes["kernel_shape"])
    axes = len(kernel)
    source, padding = window(call, call[0], kernel, float("-inf"))
    strides, dilations = call.get("strides", [1] * axes), call.get("dilations", [1] * axes)
    return by_rank(MAX_POOLS, axes)(source, kernel, strides, padding, dilations, bool(call.get("ceil_mode", 0)))


def average_pool(call: Call) -> Tensor:
    """AveragePool; padding that differs between the two sides only where it is counted."""
    kernel = list(call.attributes["kernel_shape"])
    axes = len(kernel)
    if any(step != 1 for step in call.get("dilations", [1])):
        raise UnsupportedError("dilations are not supported")
    counted = bool(call.get("count_include_pad", 0))
    source, padding = window(call, call[0], kernel)
    if source is not call[0] and not counted:
        ones, _ = window(call, torch.ones_like(call[0][:1, :1]), kernel)
        strides = call.get("strides", [1] * axes)
        pool = by_rank(AVERAGE_POOLS, axes)
        return pool(source, kernel, strides) / pool(ones, kernel, strides)
    strides, ceil = call.get("strides", [1] * axes), bool(call.get("ceil_mode", 0))
    return by_rank(AVERAGE_POOLS, axes)(source, kernel, strides, padding, ceil, counted)


def space(source: Tensor) -> list[int]:
    """Every axis after the channels."""
    return list(range(2, source.ndim))


def resize(call: Call) -> Tensor:
    """Resize of the axes of space, in the modes that torch computes alike."""
    mode = only(call, "mode", ("nearest", "linear", "cubic"), "nearest")
    if call.get("antialias", 0) or call.get("exclude_outside", 0) or "axes" in call.attributes:
        raise UnsupportedError("antialias, exclude_outside and axes are not supported")
    source, axes = call[0], call[0].ndim - 2
    legacy = call.opset < 11
    scales, sizes = call.array(1 if legacy else 2), None if legacy else call.ints(3)
    coordinates = call.get("coordinate_transformation_mode", "asymmetric" if legacy else "half_pixel")
    options: dict[str, Any] = {"size": tuple(sizes[2:])} if sizes else {}
    if not sizes:
        if scales is None or scales.size != source.ndim:
            raise UnsupportedError("neither scales nor sizes are given")
        options = {"scale_factor": tuple(float(scale) for scale in scales[2:])}
    if mode == "nearest":
        rounding = call.get("nearest_mode", "floor" if legacy else "round_prefer_floor")
        whole = scales is not None and scales.size and all(float(scale).is_integer() for scale in scales.reshape(-1))
        if coordinates == "asymmetric" and rounding == "floor":
            return functional.interpolate(source, mode="nearest", **options)
        if coordinates == "half_pixel" and (whole or rounding in {"round_prefer_floor", "round_prefer_ceil"}):
            return functional.interpolate(source, mode="nearest-exact", **options)
        raise UnsupportedError(f"nearest with {coordinates} and {rounding} is not supported")
    only(call, "coordinate_transformation_mode", ("half_pixel", "pytorch_half_pixel", "align_corners"), coordinates)
    name = {("linear", 1): "linear", ("linear", 2): "bilinear", ("linear", 3): "trilinear", ("cubic", 2): "bicubic"}
    if (mode, axes) not in name or (mode == "cubic" and call.get("cubic_coeff_a", -0.75) != -0.75):
        raise UnsupportedError(f"{mode} over {axes} axes with these coefficients is not supported")
    corners = coordinates == "align_corners"
    return functional.interpolate(source, mode=name[mode, axes], align_corners=corners, **options)


def lp_normalization(call: Call) -> Tensor:
    """LpNormalization: divided by the length along an axis."""
    return functional.normalize(call[0], float(call.get("p", 2)), call.get("axis", -1), eps=0.0)


def instance_norm(call: Call) -> Tensor:
    """InstanceNormalization."""
    return functional.instance_norm(call[0], weight=call[1], bias=call[2], eps=call.get("epsilon", 1e-5))


def local_response_norm(call: Call) -> Tensor:
    """LRN."""
    alpha, beta, bias = call.get("alpha", 1e-4), call.get("beta", 0.75), call.get("bias", 1.0)
    return functional.local_response_norm(call[0], call.attributes["size"], alpha, beta, bias)


def einsum(call: Call) -> Tensor:
    """Einsum."""
    return torch.einsum(call.attributes["equation"], *call.tensors)


def flat_matrix(call: Call) -> Tensor:
    """Flatten: everything before the axis, and everything from it on."""
    axis = call.get("axis", 1)
    axis = axis + call[0].ndim if axis < 0 else axis
    return call[0].flatten(1) if axis == 1 else call[0].reshape(prod(call[0].shape[:axis]), -1)


LAYERS: Mapping[str, Operator] = MappingProxyType(
    {
        "AveragePool": average_pool,
        "BatchNormalization": batch_norm,
        "Conv": convolution,
        "ConvTranspose": transposed_convolution,
        "Dropout": lambda call: call[0],
        "Einsum": einsum,
        "Flatten": flat_matrix,
        "Gemm": gemm,
        "GlobalAveragePool": lambda call: call[0].mean(space(call[0]), keepdim=True),
        "GlobalMaxPool": lambda call: call[0].amax(space(call[0]), keepdim=True),
        "GroupNormalization": group_norm,
        "InstanceNormalization": instance_norm,
        "LRN": local_response_norm,
        "LayerNormalization": layer_norm,
        "LogSoftmax": softmax(functional.log_softmax),
        "LpNormalization": lp_normalization,
        "MatMul": lambda call: torch.matmul(call[0], call[1]),
        "MaxPool": max_pool,
        "Resize": resize,
        "Softmax": softmax(functional.softmax),
    }
)
"""ONNX operator to the function that computes it."""
