"""Reading ATen nodes as linear steps: one small reader for each operator, in the table `READERS`.

    conv2d(x, w, b)            W = w, shift b
    batch_norm(x)              scale g / sqrt(var + eps), shift beta - mean * scale     (evaluation mode)
    avg_pool2d(x, k)           1 / k^2 on k x k taps, depthwise
    x * c, x / c, x + c, -x    scale c or shift c, for a number or one value per channel; c - x both
    linear(x, w, b)            a 1x1 kernel on the last axis

Readers of nodes they cannot read answer None; where a node could be linear but is not, they raise with the reason.
"""

from collections.abc import Callable
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node

from edgekit.passes.fuse import affine
from edgekit.passes.fuse.affine import Operator
from edgekit.passes.fuse.forms import Apply, Rows, Stack, Step, Sum
from edgekit.passes.fuse.reader import SPLITS, NotLinearError, Reader, shape_of
from edgekit.program import arguments, is_getitem, pair

_aten = torch.ops.aten


def step_of(reader: Reader, node: Node) -> Step | None:
    """A node as a linear step, None where it is none.

    Raises:
        NotLinearError: It could be one, but for a reason worth telling.
    """
    value = node.meta.get("val")
    if not isinstance(value, Tensor) or value.dtype is not torch.float32 or value.ndim < 2:
        return None
    if is_getitem(node):
        return _part(reader, node)
    read = READERS.get(node.target)
    step = read(reader, node, arguments(node)) if read else None
    axis = reader.layout(node).axis
    return step if step is not None and all(reader.layout(used).axis == axis for used in step.operands) else None


def _convolution(reader: Reader, node: Node, given: dict[str, Any]) -> Step | None:
    if len(shape_of(node)) != 4:
        return None
    weight = reader.weight(given["weight"], node)
    bias = reader.constant(given["bias"])
    if given["bias"] is not None and bias is None:
        raise NotLinearError("the bias is computed")
    stride, dilation = (pair(given[name]) for name in ("stride", "dilation"))
    kernel = pair(weight.shape[2:])
    padding = given["padding"]
    if isinstance(padding, str):
        total = [d * (k - 1) if padding == "same" else 0 for d, k in zip(dilation, kernel, strict=True)]
        padding = [side // 2 for side in total]
    groups, outputs = given["groups"], weight.shape[0]
    operator = Operator(
        outputs, weight.shape[1] * groups, groups, weight.double, kernel, stride, dilation, pair(padding)
    )
    shift = bias.double if bias is not None and bool(bias.any()) else None
    return Apply(given["input"], operator, shift)


def _linear(reader: Reader, node: Node, given: dict[str, Any]) -> Step:
    weight = reader.weight(given["weight"], node)
    bias = reader.constant(given["bias"])
    if given["bias"] is not None and bias is None:
        raise NotLinearError("the bias is computed")
    outputs, inputs = weight.shape
    operator = Operator(outputs, inputs, 1, lambda: weight.double().reshape(outputs, inputs, 1, 1))
    return Apply(given["input"], operator, bias.double if bias is not None and bool(bias.any()) else None)


def _batch_norm(reader: Reader, _: Node, given: dict[str, Any]) -> Step:
    if given["training"]:
        raise NotLinearError("batch norm in training mode")
    mean, variance = (reader.constant(given[name]) for name in ("running_mean", "running_var"))
    if mean is None or variance is None:
        raise NotLinearError("the statistics of the batch norm are computed")
    channels = mean.numel()
    if not bool(variance.any()):
        # The statistics were never collected. Channels that died in training have 0 too, but then not all have.
        raise NotLinearError("running_var = 0: eps dominates")
    weight, bias = (reader.constant(given[name]) for name in ("weight", "bias"))
    eps = float(given["eps"])

    def factors() -> Tensor:
        scale = (variance.double() + eps).rsqrt()
        return scale if weight is None else scale * weight.double()

    def shift() -> Tensor:
        moved = -mean.double() * factors()
        return moved if bias is None else moved + bias.double()

    if not bool(torch.isfinite(factors()).all() & torch.isfinite(shift()).all()):
        raise NotLinearError("running_var + eps is not positive")
    return Apply(given["input"], affine.scale(channels, factors), shift)


def _average_pool(reader: Reader, node: Node, given: dict[str, Any]) -> Step | None:
    if len(shape_of(node)) != 4:
        return None
    kernel, padding = pair(given["kernel_size"]), pair(given["padding"])
    stride = pair(given["stride"]) if given["stride"] else kernel
    if padding != (0, 0) and not given["count_include_pad"] and not given["divisor_override"]:
        raise NotLinearError("average pooling leaves padding out of its mean, so its weights differ at the border")
    layout, out = reader.layout(given["self"]), reader.layout(node)
    floors = [(h + 2 * p - k) // s + 1 for h, p, k, s in zip(layout.size, padding, kernel, stride, strict=True)]
    if tuple(floors) != out.size:
        raise NotLinearError("average pooling with ceil_mode has other weights at the border")
    divisor = given["divisor_override"] or kernel[0] * kernel[1]
    return Apply(given["self"], affine.average(layout.channels, kernel, stride, padding, divisor))


def _pad(reader: Reader, node: Node, given: dict[str, Any]) -> Step | None:
    if given.get("mode", "constant") != "constant" or given["value"] or reader.layout(node).axis != 1:
        return None
    sides = [*given["pad"], 0, 0, 0, 0][:4]
    if len(given["pad"]) > 4 or min(sides) < 0 or len(shape_of(node)) != 4:
        return None
    return Apply(given["self"], affine.zero_pad(reader.layout(node).channels, (sides[2], sides[0])))


def _same(reader: Reader, node: Node, given: dict[str, Any]) -> Step | None:
    source = next(iter(given.values()))
    if given.get("train") or source.meta["val"].dtype is not torch.float32:
        return None
    return Apply(source, affine.identity(reader.layout(node).channels))


def per_channel(reader: Reader, value: object, node: Node) -> Tensor | None:
    """A number or constant as one float64 value for each channel of a node, (C,); None where it is no such thing."""
    layout = reader.layout(node)
    if isinstance(value, (int, float)):
        return torch.full((layout.channels,), float(value), dtype=torch.float64)
    found = reader.constant(value)
    if found is None or found.ndim > len(shape_of(node)):
        return None
    shape = [1] * (len(shape_of(node)) - found.ndim) + list(found.shape)
    if prod(shape) not in (1, shape[layout.axis]):
        return None
    return found.double().reshape(-1).expand(layout.channels)


def _product(reader: Reader, node: Node, given: dict[str, Any]) -> Step | None:
    source, other = given["self"], given["other"]
    if not isinstance(source, Node) or reader.constant(source) is not None:
        source, other = other, source
    values = per_channel(reader, other, node) if isinstance(source, Node) else None
    if values is None or shape_of(source) != shape_of(node):
        return None
    return Apply(source, affine.scale(values.numel(), lambda: values))


def _quotient(reader: Reader, node: Node, given: dict[str, Any]) -> Step | None:
    source, values = given["self"], per_channel(reader, given["other"], node)
    if given.get("rounding_mode") or values is None or not bool(values.all()) or shape_of(source) != shape_of(node):
        return None
    return Apply(source, affine.scale(values.numel(), lambda: 1.0 / values))


def _negative(reader: Reader, node: Node, given: dict[str, Any]) -> Step:
    return Apply(given["self"], affine.times(affine.identity(reader.layout(node).channels), -1.0))


def _sum(reader: Reader, node: Node, given: dict[str, Any]) -> Step | None:
    alpha = float(given["alpha"])
    first, second = {_aten.sub: (1.0, -alpha), _aten.rsub: (-alpha, 1.0)}.get(node.target.overloadpacket, (1.0, alpha))  # type: ignore[union-attr]
    signed = ((given["self"], first), (given["other"], second))
    variable = [(value, factor) for value, factor in signed if isinstance(value, Node) and value.op != "get_attr"]
    if any(shape_of(value) != shape_of(node) for value, _ in variable):
        return None
    if len(variable) == 2:
        return Sum(tuple(value for value, _ in variable), tuple(factor for _, factor in variable))
    ((constant_value, constant_factor),) = [pair for pair in signed if pair not in variable]
    values = per_channel(reader, constant_value, node)
    if values is None or not variable:
        return None
    source, factor = variable[0]
    operator = affine.times(affine.identity(values.numel()), factor)
    return Apply(source, operator, lambda: values * constant_factor)


def _concatenation(reader: Reader, node: Node, given: dict[str, Any]) -> Step | None:
    if given["dim"] % len(shape_of(node)) != reader.layout(node).axis:
        return None
    return Stack(tuple(given["tensors"]))


def _part(reader: Reader, node: Node) -> Step | None:
    """One element of a chunk or split along the channels."""
    split, index = node.args
    if not isinstance(split, Node) or split.target not in SPLITS:
        return None
    given, axis = arguments(split), reader.layout(node).axis
    source = given["self"]
    if given["dim"] % len(shape_of(node)) != axis or reader.layout(source).axis != axis:
        return None
    sizes = [part.shape[axis] for part in split.meta["val"]]
    start = sum(sizes[: int(index)])  # type: ignore[arg-type]
    return Rows(source, start, start + sizes[int(index)])  # type: ignore[arg-type]


def _slice(reader: Reader, node: Node, given: dict[str, Any]) -> Step | None:
    source, axis = given["self"], reader.layout(node).axis
    if given["dim"] % len(shape_of(node)) != axis or given["step"] != 1 or reader.layout(source).axis != axis:
        return None
    start = given["start"] or 0
    start = max(start + reader.layout(source).channels, 0) if start < 0 else start
    return Rows(source, start, start + reader.layout(node).channels)


def _narrow(reader: Reader, node: Node, given: dict[str, Any]) -> Step | None:
    source, axis = given["self"], reader.layout(node).axis
    if given["dim"] % len(shape_of(node)) != axis or not isinstance(given["start"], int):
        return None
    start = given["start"] % reader.layout(source).channels
    return Rows(source, start, start + int(given["length"]))


READERS: dict[object, Callable[[Reader, Node, dict[str, Any]], Step | None]] = {
    _aten.conv2d.default: _convolution,
    _aten.conv2d.padding: _convolution,
    _aten.linear.default: _linear,
    _aten.batch_norm.default: _batch_norm,
    _aten.avg_pool2d.default: _average_pool,
    _aten.pad.default: _pad,
    _aten.constant_pad_nd.default: _pad,
    _aten.dropout.default: _same,
    _aten.feature_dropout.default: _same,
    _aten.alpha_dropout.default: _same,
    _aten.feature_alpha_dropout.default: _same,
    _aten.to.dtype: _same,
    _aten.clone.default: _same,
    _aten.contiguous.default: _same,
    _aten.alias.default: _same,
    _aten.detach.default: _same,
    _aten.mul.Tensor: _product,
    _aten.mul.Scalar: _product,
    _aten.div.Tensor: _quotient,
    _aten.div.Scalar: _quotient,
    _aten.neg.default: _negative,
    _aten.add.Tensor: _sum,
    _aten.add.Scalar: _sum,
    _aten.sub.Tensor: _sum,
    _aten.sub.Scalar: _sum,
    _aten.rsub.Tensor: _sum,
    _aten.rsub.Scalar: _sum,
    _aten.cat.default: _concatenation,
    _aten.slice.Tensor: _slice,
    _aten.narrow.default: _narrow,
}
"""Operator to its reader."""
