"""The algebra: linear operators on channels-first maps.

An `Operator` maps x (N, I, H, W) to y (N, O, H', W') by a strided, dilated, grouped correlation over the zero-extended
map (x is 0 outside of H x W), here for one axis:

    y[o, r] = sum_{c, i} W[o, c, i] x[c, s r + d i - t]            s stride, d dilation, t offset (padding before)

Convolution, average pooling, batch norm, per-channel scale, identity, zero pad are all of this form. With operator 1
first and operator 2 second:

    compose   s = s1 s2,   t = s1 t2 + t1,   tap i of 2 and tap j of 1 meet at   s1 d2 i + d1 j,   W = sum W2[i] W1[j]
    add       equal strides; kernels are laid on one grid, aligned by their offsets
    groups    block-diagonal in g1 and in g2 blocks is block-diagonal in gcd(g1, g2) blocks

Composition is exact only where operator 2 reads nothing outside of the map between them, or where operator 1, extended
beyond the border, gives zero there; a shift gives none (`inexact`). Kernels are float64 and made only when `make` is
called: costs and conditions need their shapes alone.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from math import gcd

import torch
from torch import Tensor

Pair = tuple[int, int]
Make = Callable[[], Tensor]

ONE: Pair = (1, 1)
ZERO: Pair = (0, 0)


@dataclass(frozen=True, slots=True)
class Operator:
    """A linear operator; `make` gives W as (O, I / groups, Kh, Kw).

    `unit` is 1 for the identity and -1 for its negative.
    """

    outputs: int
    inputs: int
    groups: int
    make: Make
    kernel: Pair = ONE
    stride: Pair = ONE
    dilation: Pair = ONE
    offset: Pair = ZERO
    unit: int = 0

    @property
    def diagonal(self) -> bool:
        """Whether this is one factor per channel."""
        return self.pointwise and self.depthwise

    @property
    def depthwise(self) -> bool:
        """Whether every output reads the channel of its own number alone."""
        return self.groups == self.inputs == self.outputs

    @property
    def pointwise(self) -> bool:
        """Whether every output pixel reads the one input pixel at its place."""
        return self.kernel == ONE and self.stride == ONE and self.offset == ZERO

    @property
    def elements(self) -> int:
        """Number of weights."""
        return self.outputs * (self.inputs // self.groups) * self.kernel[0] * self.kernel[1]


def identity(channels: int) -> Operator:
    """The operator that changes nothing."""
    return replace(scale(channels, lambda: torch.ones(channels, dtype=torch.float64)), unit=1)


def scale(channels: int, factors: Make) -> Operator:
    """One factor per channel, made as (C,)."""
    return Operator(channels, channels, channels, lambda: factors().reshape(channels, 1, 1, 1))


def times(operator: Operator, factor: float) -> Operator:
    """The operator multiplied by a number."""
    if factor == 1.0:
        return operator
    unit = -operator.unit if factor == -1.0 else 0
    return replace(operator, make=lambda: operator.make() * factor, unit=unit)


def average(channels: int, kernel: Pair, stride: Pair, padding: Pair, divisor: int) -> Operator:
    """Average pooling as a depthwise convolution; taps in the padding count as zeros."""
    size = (channels, 1, *kernel)
    return Operator(
        channels,
        channels,
        channels,
        lambda: torch.full(size, 1.0 / divisor, dtype=torch.float64),
        kernel,
        stride,
        ONE,
        padding,
    )


def zero_pad(channels: int, before: Pair) -> Operator:
    """Zero padding: the identity, moved down and right."""
    return replace(identity(channels), offset=before, unit=0)


def with_groups(weight: Tensor, have: int, want: int) -> Tensor:
    """(O, I / have, ...) -> (O, I / want, ...): fewer groups, zeros where channels did not meet; want divides have."""
    if have == want:
        return weight
    outputs, per_group = weight.shape[:2]
    merged = have // want
    blocks = weight.reshape(want, merged, outputs // have, per_group, *weight.shape[2:])
    wide = weight.new_zeros(want, merged, outputs // have, merged, per_group, *weight.shape[2:])
    for block in range(merged):
        wide[:, block, :, block] = blocks[:, block]
    return wide.reshape(outputs, merged * per_group, *weight.shape[2:])


def compose(second: Operator, first: Operator) -> Operator:
    """The operator that applies `first`, then `second`; `inexact` tells where the border forbids it."""
    if first.unit == 1:
        return second
    if second.unit == 1:
        return first
    groups = gcd(first.groups, second.groups)
    step = _pairwise(lambda s, d: s * d, first.stride, second.dilation)
    axes = [_grid(*four) for four in zip(second.kernel, step, first.kernel, first.dilation, strict=True)]
    dilation, kernel = (_pair(column) for column in zip(*axes, strict=True))
    return Operator(
        second.outputs,
        first.inputs,
        groups,
        lambda: _compose_weights(second, first, groups, step, dilation, kernel),
        kernel,
        _pairwise(lambda a, b: a * b, first.stride, second.stride),
        dilation,
        _pair(s * t2 + t1 for s, t2, t1 in zip(first.stride, second.offset, first.offset, strict=True)),
    )


def _grid(taps2: int, step: int, taps1: int, dilation: int) -> Pair:
    """Dilation and taps of the grid that holds every sum of a tap of 1 and a stepped tap of 2, on one axis."""
    spacing = gcd(step if taps2 > 1 else 0, dilation if taps1 > 1 else 0) or 1
    return spacing, (step * (taps2 - 1) + dilation * (taps1 - 1)) // spacing + 1


def _compose_weights(
    second: Operator, first: Operator, groups: int, step: Pair, dilation: Pair, kernel: Pair
) -> Tensor:
    """The composed kernel: one product of matrices for each tap of the second operator."""
    product = _tap_product(second, first, groups)
    if second.kernel == ONE:
        return product(0, 0)
    taps = (first.inputs // groups, *first.kernel)
    result = torch.zeros(second.outputs, taps[0], *kernel, dtype=torch.float64)
    stride = [max(d1 // d, 1) for d1, d in zip(first.dilation, dilation, strict=True)]
    height, width = (s * (k - 1) + 1 for s, k in zip(stride, first.kernel, strict=True))
    for row in range(second.kernel[0]):
        for column in range(second.kernel[1]):
            top, left = row * step[0] // dilation[0], column * step[1] // dilation[1]
            result[:, :, top : top + height : stride[0], left : left + width : stride[1]] += product(row, column)
    return result


def _tap_product(second: Operator, first: Operator, groups: int) -> Callable[[int, int], Tensor]:
    """What one tap of the second operator makes of the first's kernel, as (O, I / groups, Kh, Kw) of the first."""
    outer, inner = second.make(), first.make()
    taps = (second.outputs, first.inputs // groups, *first.kernel)
    middle = first.outputs // groups
    if second.depthwise:  # each output reads the one channel of its own: no matrix product
        return lambda row, column: outer[:, :, row, column, None, None] * inner
    if first.depthwise:  # (O, M / g) times the channels' own taps, which repeat for the outputs of a group
        own = inner.reshape(groups, 1, middle, *first.kernel)
        wide = outer.reshape(groups, -1, middle, *second.kernel)
        return lambda row, column: (wide[..., row, column, None, None] * own).reshape(taps)
    # (O, M / g, k..) -> (g, O / g, M / g, k..);  (M, I / g, k..) -> (g, M / g, I / g * k..)
    wide = with_groups(outer, second.groups, groups).reshape(groups, -1, middle, *second.kernel)
    flat = with_groups(inner, first.groups, groups).reshape(groups, middle, -1)
    return lambda row, column: (wide[..., row, column] @ flat).reshape(taps)


def inexact(second: Operator, first: Operator, sizes: tuple[Pair, Pair, Pair], *, shift: bool) -> str | None:
    """Why `second` after `first` is not their composition at the border; None where it is.

    Args:
        second: What is applied last.
        first: What is applied before it.
        sizes: Height and width of the input, of the map in between, and of the output.
        shift: Whether a bias is added between the two.
    """
    window = f"{second.kernel[0]}x{second.kernel[1]}"
    for axis in (0, 1):
        source, middle, out = (size[axis] for size in sizes)
        lowest = -second.offset[axis]
        highest = second.stride[axis] * (out - 1) + second.dilation[axis] * (second.kernel[axis] - 1) + lowest
        if lowest >= 0 and highest < middle:
            continue
        if shift:
            return f"{window} with zero padding after a shift: not exact at the border"
        reach = first.dilation[axis] * (first.kernel[axis] - 1) - first.offset[axis]
        before = lowest < 0 and reach - first.stride[axis] >= 0
        after = highest >= middle and first.stride[axis] * middle - first.offset[axis] < source
        if before or after:
            inner = f"{first.kernel[0]}x{first.kernel[1]}"
            return f"{window} with zero padding after {inner}: not exact at the border"
    return None


def add(a: Operator, b: Operator) -> Operator | None:
    """The sum of two operators on the same input; None where their strides differ."""
    if a.stride != b.stride or a.inputs != b.inputs or a.outputs != b.outputs:
        return None
    groups = gcd(a.groups, b.groups)
    axes = [_common_axis(a, b, axis) for axis in (0, 1)]
    dilation, offset, kernel = (_pair(column) for column in zip(*axes, strict=True))

    grid = (groups, kernel, dilation, offset)

    def make() -> Tensor:
        full = next((p for p in (a, b) if (p.groups, p.kernel, p.dilation, p.offset) == grid), None)
        size = (a.outputs, a.inputs // groups, *kernel)
        total = full.make().clone() if full else torch.zeros(size, dtype=torch.float64)
        for part in (part for part in (a, b) if part is not full):
            step = [max(d1 // d, 1) for d1, d in zip(part.dilation, dilation, strict=True)]
            start = [(t - t1) // d for t, t1, d in zip(offset, part.offset, dilation, strict=True)]
            stop = [lead + s * (taps - 1) + 1 for lead, s, taps in zip(start, step, part.kernel, strict=True)]
            total[:, :, start[0] : stop[0] : step[0], start[1] : stop[1] : step[1]] += with_groups(
                part.make(), part.groups, groups
            )
        return total

    return Operator(a.outputs, a.inputs, groups, make, kernel, a.stride, dilation, offset)


def _common_axis(a: Operator, b: Operator, axis: int) -> tuple[int, int, int]:
    """Dilation, offset and taps of the coarsest grid on which the taps of both lie, on one axis."""
    offset = max(a.offset[axis], b.offset[axis])
    spacing = abs(a.offset[axis] - b.offset[axis])
    for part in (a, b):
        if part.kernel[axis] > 1:
            spacing = gcd(spacing, part.dilation[axis])
    spacing = spacing or 1
    ends = [part.dilation[axis] * (part.kernel[axis] - 1) - part.offset[axis] for part in (a, b)]
    return spacing, offset, (max(ends) + offset) // spacing + 1


def stack(parts: list[Operator]) -> Operator | None:
    """The operators' outputs one after the other along the channels; None where they do not share a grid."""
    head = parts[0]
    for part in parts[1:]:
        same = (part.kernel, part.stride, part.dilation, part.offset, part.inputs)
        if same != (head.kernel, head.stride, head.dilation, head.offset, head.inputs):
            return None
    return replace(
        head,
        outputs=sum(part.outputs for part in parts),
        groups=1,
        make=lambda: torch.cat([with_groups(part.make(), part.groups, 1) for part in parts]),
        unit=0,
    )


def rows(operator: Operator, start: int, stop: int) -> Operator | None:
    """Outputs `start` to `stop` alone; None for an operator of several groups."""
    if operator.groups != 1:
        return None
    return replace(operator, outputs=stop - start, make=lambda: operator.make()[start:stop], unit=0)


def applied_to_constant(operator: Operator, values: Tensor) -> Tensor:
    """What the operator makes of maps that are constant, (I,) -> (O,), away from any border."""
    weight = operator.make().sum(dim=(2, 3))
    grouped = weight.reshape(operator.groups, -1, weight.shape[1])
    return (grouped @ values.reshape(operator.groups, -1, 1)).reshape(-1)


def _pair(values: Iterable[int]) -> Pair:
    first, second = values
    return first, second


def _pairwise(function: Callable[[int, int], int], a: Pair, b: Pair) -> Pair:
    return function(a[0], b[0]), function(a[1], b[1])
