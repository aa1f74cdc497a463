"""ONNX operators that move elements and make shapes. Shapes, axes and bounds must not depend on the network's input."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from edgekit.intake.onnx_call import Call, Operator, UnsupportedError, only

FOREVER = 1 << 31
"""Bounds beyond this mean the end."""


def constant(call: Call) -> Tensor:
    """Constant, in any of the forms of its value."""
    for name, value in call.attributes.items():
        if name.startswith("value"):
            return torch.from_numpy(np.array(value)) if isinstance(value, np.ndarray) else torch.tensor(value)
    raise UnsupportedError("a constant of this form is not supported")


def constant_of_shape(call: Call) -> Tensor:
    """One value everywhere."""
    value = call.get("value", np.zeros(1, dtype=np.float32))
    return torch.from_numpy(np.full(call.needed_ints(0), value.reshape(-1)[0]))


def shape(call: Call) -> Tensor:
    """The sizes, or some of them."""
    sizes = list(call[0].shape)
    return torch.tensor(sizes[call.get("start", 0) : call.get("end", len(sizes))], dtype=torch.int64)


def reshape(call: Call) -> Tensor:
    """0 keeps a size, -1 is whatever is left."""
    wanted = call.needed_ints(1, "shape")
    if not call.get("allowzero", 0):
        wanted = [call[0].shape[axis] if side == 0 else side for axis, side in enumerate(wanted)]
    return call[0].reshape(wanted)


def squeeze(call: Call) -> Tensor:
    """Drops axes of size 1."""
    axes = call.ints(1, "axes")
    return call[0].squeeze() if axes is None else call[0].squeeze(tuple(axes))


def unsqueeze(call: Call) -> Tensor:
    """Puts in axes of size 1, numbered as in the result."""
    axes = call.needed_ints(1, "axes")
    result = call[0]
    for axis in sorted(axis % (call[0].ndim + len(axes)) for axis in axes):
        result = result.unsqueeze(axis)
    return result


def transpose(call: Call) -> Tensor:
    """Without an order the axes are reversed."""
    return call[0].permute(call.get("perm", list(range(call[0].ndim))[::-1]))


def split(call: Call) -> tuple[Tensor, ...]:
    """Into given sizes, or equal ones of which the last may be smaller."""
    axis = call.get("axis", 0)
    length = call[0].shape[axis]
    sizes = call.ints(1, "split") or [-(-length // call.outputs)]
    return tuple(torch.split(call[0], sizes if len(sizes) > 1 or sizes == [length] else sizes[0], axis))


def slice_of(call: Call) -> Tensor:
    """Slice; torch has no negative steps, so those become a flip."""
    starts, ends = call.needed_ints(1, "starts"), call.needed_ints(2, "ends")
    axes = call.ints(3, "axes") or list(range(len(starts)))
    steps = call.ints(4) or [1] * len(starts)
    result = call[0]
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        if step > 0:
            bounds = (slice(None),) * (axis % call[0].ndim) + (slice(start, None if end >= FOREVER else end, step),)
            result = result[bounds]
        else:
            chosen = range(result.shape[axis])[slice(start, None if end <= -FOREVER else end, step)]
            result = result.index_select(axis, torch.tensor(list(chosen), device=result.device))
    return result


def gather(call: Call) -> Tensor:
    """Picks along an axis; indices that are known become a selection."""
    axis, source, indices = call.get("axis", 0), call[0], call[1]
    known = call.known[1]
    if known is not None and known.ndim == 0:
        return source.select(axis, int(known))
    indices = torch.where(indices < 0, indices + source.shape[axis], indices)
    picked = source.index_select(axis, indices.reshape(-1))
    axis %= source.ndim
    return picked.reshape(*source.shape[:axis], *indices.shape, *source.shape[axis + 1 :])


def gather_elements(call: Call) -> Tensor:
    """One index for each element."""
    axis = call.get("axis", 0)
    return torch.gather(call[0], axis, torch.where(call[1] < 0, call[1] + call[0].shape[axis], call[1]))


def gather_points(call: Call) -> Tensor:
    """GatherND: the last axis of the indices says where on the first axes."""
    only(call, "batch_dims", (0,), 0)
    return call[0][tuple(call[1].unbind(-1))]


def expand(call: Call) -> Tensor:
    """Broadcasts with a shape; a 1 in it keeps the size."""
    wanted = call.needed_ints(1)
    own = [1] * (len(wanted) - call[0].ndim) + list(call[0].shape)
    wanted = [1] * (len(own) - len(wanted)) + wanted
    return call[0].expand([max(sides) if 0 not in sides else 0 for sides in zip(own, wanted, strict=True)])


def tile(call: Call) -> Tensor:
    """Repeats."""
    return call[0].repeat(call.needed_ints(1))


def pad(call: Call) -> Tensor:
    """Pad with a constant, by reflection, or with the edge."""
    mode = only(call, "mode", ("constant", "reflect", "edge"), "constant")
    pads, axes = call.needed_ints(1, "pads"), call.ints(3)
    count = len(pads) // 2
    before, after = dict.fromkeys(range(call[0].ndim), 0), dict.fromkeys(range(call[0].ndim), 0)
    for position, axis in enumerate(axes or range(count)):
        before[axis % call[0].ndim], after[axis % call[0].ndim] = pads[position], pads[position + count]
    sides = [side for axis in reversed(range(call[0].ndim)) for side in (before[axis], after[axis])]
    while sides and sides[-2:] == [0, 0]:
        sides = sides[:-2]
    if not sides:
        return call[0]
    if mode != "constant":
        return functional.pad(call[0], sides, mode="replicate" if mode == "edge" else "reflect")
    value = call.array(2)
    return functional.pad(call[0], sides, value=float(call.get("value", 0.0) if value is None else value.item()))


def arange(call: Call) -> Tensor:
    """Range."""
    start, limit, step = (scalar(call.array(index)) for index in range(3))
    return torch.arange(start, limit, step, dtype=call[0].dtype)


def scalar(value: Any) -> float | int:
    """A single number."""
    if value is None:
        raise UnsupportedError("a bound is missing")
    number: float | int = value.item()
    return number


def depth_to_space(call: Call) -> Tensor:
    """Channels to pixels, in either order."""
    block = call.attributes["blocksize"]
    if only(call, "mode", ("DCR", "CRD"), "DCR") == "CRD":
        return functional.pixel_shuffle(call[0], block)
    batch, channels, height, width = call[0].shape
    split_up = call[0].reshape(batch, block, block, channels // block**2, height, width)
    return split_up.permute(0, 3, 4, 1, 5, 2).reshape(batch, channels // block**2, height * block, width * block)


def space_to_depth(call: Call) -> Tensor:
    """Pixels to channels."""
    block = call.attributes["blocksize"]
    batch, channels, height, width = call[0].shape
    split_up = call[0].reshape(batch, channels, height // block, block, width // block, block)
    return split_up.permute(0, 3, 5, 1, 2, 4).reshape(batch, -1, height // block, width // block)


def triangle(call: Call) -> Tensor:
    """Trilu."""
    values = call.array(1)
    diagonal = 0 if values is None else int(values.item())
    return torch.triu(call[0], diagonal) if call.get("upper", 1) else torch.tril(call[0], diagonal)


def cumulative_sum(call: Call) -> Tensor:
    """CumSum, forward and inclusive."""
    only(call, "exclusive", (0,), 0)
    only(call, "reverse", (0,), 0)
    return torch.cumsum(call[0], call.needed_ints(1)[0])


def top_values(call: Call) -> tuple[Tensor, ...]:
    """TopK."""
    values, indices = torch.topk(call[0], call.needed_ints(1)[0], call.get("axis", -1), bool(call.get("largest", 1)))
    return values, indices


SHAPES: Mapping[str, Operator] = MappingProxyType(
    {
        "CastLike": lambda call: (
            call[0] if call[0].is_floating_point() and call[1].is_floating_point() else call[0].to(call[1].dtype)
        ),
        "Concat": lambda call: torch.cat(call.tensors, call.attributes["axis"]),
        "Constant": constant,
        "ConstantOfShape": constant_of_shape,
        "CumSum": cumulative_sum,
        "DepthToSpace": depth_to_space,
        "Expand": expand,
        "Gather": gather,
        "GatherElements": gather_elements,
        "GatherND": gather_points,
        "Pad": pad,
        "Range": arange,
        "Reshape": reshape,
        "Shape": shape,
        "Size": lambda call: torch.tensor(call[0].numel(), dtype=torch.int64),
        "Slice": slice_of,
        "SpaceToDepth": space_to_depth,
        "Split": split,
        "Squeeze": squeeze,
        "Tile": tile,
        "TopK": top_values,
        "Transpose": transpose,
        "Trilu": triangle,
        "Unsqueeze": unsqueeze,
    }
)
"""ONNX operator to the function that computes it."""

FROM_SHAPES_ALONE = frozenset({"Shape", "Size", "Constant"})
"""Operators whose result is known even when their input is not."""
