"""The inputs a region is proved on: as small as its kernels allow, and looking for trouble.

A map of H pixels is cut to H - k S, S the stride from it to the region's result, with one k for all sources: every
remainder stays, so borders and padding fall as they do at full size. Four inputs make one batch: noise, large values in
one channel at a time, spikes on the border alone, a constant.
"""

from collections.abc import Iterable, Mapping
from math import prod

import torch
from torch import Tensor
from torch.fx import Node

from edgekit.artifact import Shape
from edgekit.passes.fuse.affine import Operator
from edgekit.passes.fuse.forms import Form

CASES = ("noise", "large single channels", "border spikes", "constant")
"""The inputs, in the order of the batch."""


def shapes(form: Form, inner: Iterable[Operator], channel_axis: int) -> Mapping[Node, Shape]:
    """The shape of each source for the proof: one batch of inputs, and the smallest map that shows every border.

    Args:
        form: What the region computes.
        inner: The operators it was composed from.
        channel_axis: Where the channels are.
    """
    found = {term.source: [int(side) for side in term.source.meta["val"].shape] for term in form.terms}
    rank = len(next(iter(found.values())))
    inner = [*inner, *(term.operator for term in form.terms)]
    for position, axis in enumerate(axis for axis in range(1, rank) if axis != channel_axis):
        column = min(position, 1)
        reach = max(o.dilation[column] * (o.kernel[column] - 1) + 1 for o in inner)
        strides = {term.source: term.operator.stride[column] for term in form.terms}
        cut = min((found[source][axis] - reach - stride) // stride for source, stride in strides.items())
        unequal = any(term.operator.stride[column] != strides[term.source] for term in form.terms)
        for source, stride in strides.items():
            found[source][axis] -= 0 if unequal else max(0, cut) * stride
    return {source: (len(CASES), *shape[1:]) for source, shape in found.items()}


def probe(shape: Shape, channel_axis: int) -> Tensor:
    """The batch of inputs for a source of this shape, the same values every time."""
    generator = torch.Generator().manual_seed(prod(shape))
    batch = torch.randn(shape, generator=generator)
    channels = shape[channel_axis]
    sides = [side for axis, side in enumerate(shape) if axis not in (0, channel_axis)]
    lone = torch.arange(prod(sides))[:, None] % channels == torch.arange(channels)
    border = torch.zeros((), dtype=torch.bool)
    for side in sides:
        places = torch.arange(side)
        border = border[..., None] | (places == 0) | (places == side - 1)
    batch[1] *= 1e4 * lone.reshape(*sides, channels).movedim(-1, channel_axis - 1)
    spikes = torch.where(border[..., None].movedim(-1, channel_axis - 1), 10.0 * batch[2].sign(), 0.0)
    batch[2] = spikes if sides else 10.0 * batch[2].sign()
    batch[3] = 1.0
    return batch
