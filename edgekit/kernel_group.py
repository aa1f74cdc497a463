"""The words for depthwise kernels: groups of convolutions that are chosen for together, and the ways to write them.

A group is what lies between one map and another and is linear in every channel by itself: chains of depthwise
convolutions, each applied to what the one before it gives, and the sum of such chains over one map. An oversized pair
with a local kernel beside it is one group, `1x111 > 111x1 + 7x7`.

Its convolutions are of two kinds, and every kind has forms of its own:

    line    1 x K or K x 1    depthwise, or toeplitz: a product with one banded (circular: circulant) matrix per channel
    plane   anything else     depthwise; pieces: a sum of kernels with few taps; rows: a product with the banded
                              matrices of all its rows; or polyphase: a grouped convolution between blocks of pixels

A group as a whole may be written as one kernel (`dense`), or as one matrix between all pixels (`matmul`).
"""

from collections.abc import Iterable, Iterator, Mapping
from itertools import product
from math import prod
from typing import Annotated, Literal

from msgspec import Meta, Struct

Pair = tuple[int, int]

_Side = Annotated[int, Meta(ge=1)]
_Sides = tuple[_Side, _Side]
_Extra = Annotated[int, Meta(ge=0)]

Kind = Literal["line", "plane"]

KINDS: tuple[Kind, ...] = ("line", "plane")

DEPTHWISE, TOEPLITZ, PIECES, ROWS, POLYPHASE = "depthwise", "toeplitz", "pieces", "rows", "polyphase"
DENSE, MATMUL = "dense", "matmul"

FORMS = (DEPTHWISE, TOEPLITZ, PIECES, ROWS, POLYPHASE, DENSE, MATMUL)
"""Every form there is; the first is as trained."""

PIECE_TAPS = 25
"""Most taps of a piece: up to so many, XNNPACK has fast depthwise kernels."""

PHASES = 4
"""Rows and columns of a block of pixels: 16 channels in and out of each group, as many as wide vectors hold."""

SMALL_TAPS = 9
"""Every runtime has fast kernels of up to so many taps; groups without a larger or circular one are left alone."""

MOST_MATMUL_BYTES = 64 << 20
"""A matrix between all pixels, which grows with the fourth power of the side, is for tiny maps."""

FLOAT_BYTES = 4


class KernelStep(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One depthwise convolution, all pairs (height, width).

    Attributes:
        padding: Rows and columns of zeros on either side.
        wrap: Rows above, rows below, columns left and right that are repeated from the other end, before the padding.
        bias: Whether it has one.
    """

    taps: _Sides
    stride: _Sides = (1, 1)
    padding: tuple[_Extra, _Extra] = (0, 0)
    dilation: _Sides = (1, 1)
    wrap: tuple[_Extra, _Extra, _Extra, _Extra] = (0, 0, 0, 0)
    bias: bool = False

    @property
    def kind(self) -> Kind:
        """Whether it lies along one axis."""
        return "line" if self.axis is not None else "plane"

    @property
    def axis(self) -> int | None:
        """0 for K x 1, 1 for 1 x K, where the other axis is left as it is; else None."""
        for along in (0, 1):
            across = 1 - along
            idle = self.stride[across] == 1 and self.padding[across] == 0 and not any(self.wraps(across))
            if self.taps[across] == 1 < self.taps[along] and idle:
                return along
        return None

    @property
    def reach(self) -> Pair:
        """Rows and columns from the first tap to the last."""
        return _pair(self.dilation[axis] * (self.taps[axis] - 1) + 1 for axis in (0, 1))

    def wraps(self, axis: int) -> Pair:
        """What is repeated before and after the map along an axis."""
        return self.wrap[2 * axis], self.wrap[2 * axis + 1]

    def output(self, size: Pair) -> Pair:
        """The size of its result."""
        slid = (size[axis] + sum(self.wraps(axis)) + 2 * self.padding[axis] - self.reach[axis] for axis in (0, 1))
        return _pair(length // stride + 1 for length, stride in zip(slid, self.stride, strict=True))

    def __str__(self) -> str:
        """`111x1`, with what differs from a zero-padded convolution that keeps the size: `13x1 circular`, `3x3 /2x2`.

        No two convolutions have the same name.
        """
        words = [_text(self.taps)]
        words += self._circular()
        words += [f"/{_text(self.stride)}"] if self.stride != (1, 1) else []
        words += [f"dilated {_text(self.dilation)}"] if self.dilation != (1, 1) else []
        keeps = (0, 0) if any(self.wrap) else _pair((reach - 1) // 2 for reach in self.reach)
        words += [f"padded {_text(self.padding)}"] if self.padding != keeps else []
        words += ["biased"] if self.bias else []
        return " ".join(words)

    def _circular(self) -> list[str]:
        """Nothing, `circular` where all of the map is repeated behind it that the kernel needs, or what is repeated."""
        behind = all(self.wraps(axis) in ((0, 0), (0, self.reach[axis] - 1)) for axis in (0, 1))
        if not any(self.wrap):
            return []
        return ["circular"] if behind else ["circular " + "-".join(map(str, self.wrap))]


class KernelGroup(Struct, frozen=True, kw_only=True):
    """Chains of depthwise convolutions over one map of (channels, *size), whose results are added."""

    channels: _Side
    size: _Sides
    chains: tuple[tuple[KernelStep, ...], ...]

    @property
    def steps(self) -> tuple[KernelStep, ...]:
        """Every convolution, chain by chain."""
        return tuple(step for chain in self.chains for step in chain)

    @property
    def biased(self) -> bool:
        """Whether it adds a constant."""
        return any(step.bias for step in self.steps)

    @property
    def biased_inside(self) -> bool:
        """Whether what it adds is convolved, and so is not the same everywhere once a kernel has met the border."""
        return any(step.bias for chain in self.chains for step in chain[:-1])

    @property
    def output(self) -> Pair:
        """The size of its result."""
        size = self.size
        for step in self.chains[0]:
            size = step.output(size)
        return size

    def __str__(self) -> str:
        """`64 at 56x56: 111x1 > 1x111 + 7x7`."""
        chains = " + ".join(" > ".join(map(str, chain)) for chain in self.chains)
        return f"{self.channels} at {_text(self.size)}: {chains}"


class Candidate(Struct, frozen=True, kw_only=True):
    """One way to write a group: a form for each kind of convolution, or one for the whole.

    `bytes` is the memory of its float32 constants.
    """

    kinds: dict[Kind, str]
    whole: str | None
    bytes: int

    @property
    def forms(self) -> tuple[str, ...]:
        """Every form in it."""
        return tuple(self.kinds.values()) if self.whole is None else (self.whole,)


MOST_TOEPLITZ_BYTES = 16 << 20
"""Most memory for the matrices of one convolution, which grows with the square of the side."""


def candidates(group: KernelGroup) -> dict[str, Candidate]:
    """Every way to write a group by its name, as trained first."""
    forms: dict[Kind, tuple[str, ...]] = {"line": line_forms(group), "plane": plane_forms(group)}
    kinds: list[Kind] = [kind for kind in KINDS if any(step.kind == kind for step in group.steps)]
    found = {}
    for chosen in product(*(forms[kind] for kind in kinds)):
        of_kinds: dict[Kind, str] = dict(zip(kinds, chosen, strict=True))
        name = DEPTHWISE if set(chosen) == {DEPTHWISE} else " + ".join(chosen)
        found[name] = Candidate(kinds=of_kinds, whole=None, bytes=separate_bytes(group, of_kinds))
    for name, needed in whole_forms(group):
        found[name] = Candidate(kinds={}, whole=name, bytes=needed)
    return found


def line_forms(group: KernelGroup) -> tuple[str, ...]:
    """The forms its one-dimensional convolutions have."""
    largest = max((matrix_bytes(group.channels, *along) for along in line_sides(group)), default=0)
    return (DEPTHWISE, TOEPLITZ) if 0 < largest <= MOST_TOEPLITZ_BYTES else (DEPTHWISE,)


def line_sides(group: KernelGroup) -> Iterator[Pair]:
    """Length before and after every one-dimensional convolution, along its axis."""
    for step, size, result in places(group):
        if step.axis is not None:
            yield size[step.axis], result[step.axis]


def places(group: KernelGroup) -> Iterator[tuple[KernelStep, Pair, Pair]]:
    """Every convolution with the size of what it reads and of what it gives."""
    for chain in group.chains:
        size = group.size
        for step in chain:
            result = step.output(size)
            yield step, size, result
            size = result


def matrix_bytes(channels: int, side: int, result: int) -> int:
    """Bytes of one matrix for every channel."""
    return channels * side * result * FLOAT_BYTES


def plane_forms(group: KernelGroup) -> tuple[str, ...]:
    """The forms its two-dimensional convolutions have."""
    planes = [place for place in places(group) if place[0].kind == "plane"]
    others = (PIECES, ROWS, POLYPHASE)
    return (
        DEPTHWISE,
        *(form for form in others if any(why_not(form, group.channels, *place) is None for place in planes)),
    )


def why_not(form: str, channels: int, step: KernelStep, size: Pair, result: Pair) -> str | None:
    """Why a two-dimensional convolution has not a form, None where it has."""
    if form == PIECES:
        return why_not_pieces(step)
    if form == ROWS:
        return why_not_rows(step, row_bytes(channels, step, size, result))
    if form == POLYPHASE:
        return why_not_polyphase(step, polyphase_bytes(channels, step))
    return None


def why_not_rows(step: KernelStep, needed: int) -> str | None:
    """Why a convolution is not written as a product with its rows, given the bytes that takes; None where it can be."""
    if step.taps[0] * step.taps[1] <= PIECE_TAPS:
        return f"it has no more than {PIECE_TAPS} taps"
    if any(step.wrap):
        return "it is circular"
    if needed > MOST_TOEPLITZ_BYTES:
        return f"the matrices would take {needed >> 20} MiB"
    return None


def why_not_polyphase(step: KernelStep, needed: int) -> str | None:
    """Why a convolution is not written between blocks, given the bytes that takes; None where it can be."""
    if step.taps[0] * step.taps[1] <= PIECE_TAPS:
        return f"it has no more than {PIECE_TAPS} taps"
    if any(step.wrap):
        return "it is circular"
    if step.stride != (1, 1):
        return "it has a stride"
    if needed > MOST_TOEPLITZ_BYTES:
        return f"the grouped kernel would take {needed >> 20} MiB"
    return None


def why_not_pieces(step: KernelStep) -> str | None:
    """Why a convolution is not written as a sum of kernels with few taps, None where it can be."""
    rows, columns = step.taps
    if rows * columns <= PIECE_TAPS:
        return f"it has no more than {PIECE_TAPS} taps"
    if 2 * columns > PIECE_TAPS:
        return f"two rows of {columns} taps are more than {PIECE_TAPS}"
    if rows % 2 == 0:
        return "an even number of rows has no middle"
    if step.stride != (1, 1) or step.dilation != (1, 1):
        return "it has a stride or is dilated"
    if step.padding[0] < rows // 2 or any(step.wrap):
        return "the zero padding is less than half the rows"
    return None


def whole_forms(group: KernelGroup) -> Iterator[tuple[str, int]]:
    """The forms a group has as a whole, with the bytes of their constants."""
    if merges(group):
        yield DENSE, group.channels * (prod(merged_taps(group)) + group.biased) * FLOAT_BYTES
    needed = matrix_bytes(group.channels, prod(group.size), prod(group.output))
    if needed <= MOST_MATMUL_BYTES:
        added = prod(group.output) if group.biased_inside else int(group.biased)
        yield MATMUL, needed + group.channels * added * FLOAT_BYTES


def merges(group: KernelGroup) -> bool:
    """Whether a group is one zero-padded kernel, exactly.

    Zeros that a second convolution meets beyond the map are what the first gives there only where that one does not
    reach beyond it, so the convolutions of a chain must lie along different axes. All keep the size of the map.
    """
    if len(group.steps) < 2 or any(step.stride != (1, 1) or any(step.wrap) for step in group.steps):
        return False
    if group.biased_inside:
        return False
    crossing = all(sum(step.reach[axis] > 1 for step in chain) <= 1 for chain in group.chains for axis in (0, 1))
    return crossing and all(2 * step.padding[axis] == step.reach[axis] - 1 for step in group.steps for axis in (0, 1))


def merged_taps(group: KernelGroup) -> Pair:
    """Sides of the one kernel that a group is."""
    return _pair(max(step.reach[axis] for step in group.steps) for axis in (0, 1))


def forms_of_steps(group: KernelGroup, forms: Mapping[Kind, str]) -> tuple[str, ...]:
    """The form of every convolution, given that of its kind; one that has no such form stays depthwise."""
    wanted = ((place, forms[place[0].kind]) for place in places(group))
    return tuple(form if why_not(form, group.channels, *place) is None else DEPTHWISE for place, form in wanted)


def separate_bytes(group: KernelGroup, forms: Mapping[Kind, str]) -> int:
    """Bytes of the constants where every convolution is written by itself."""
    written = zip(places(group), forms_of_steps(group, forms), strict=True)
    return sum(step_bytes(group.channels, *place, form) for place, form in written)


def step_bytes(channels: int, step: KernelStep, size: Pair, result: Pair, form: str) -> int:
    """Bytes of one convolution's constants in a form."""
    bias = channels * step.bias * FLOAT_BYTES
    if form == TOEPLITZ and step.axis is not None:
        return bias + matrix_bytes(channels, size[step.axis], result[step.axis])
    if form == ROWS:
        return bias + row_bytes(channels, step, size, result)
    if form == POLYPHASE:
        return PHASES**2 * bias + polyphase_bytes(channels, step)
    return bias + channels * prod(step.taps) * FLOAT_BYTES


def polyphase_taps(step: KernelStep) -> Pair:
    """Blocks that the kernel meets from a block of pixels, along each axis."""
    return _pair(-(-(reach + PHASES - 1) // PHASES) for reach in step.reach)


def polyphase_bytes(channels: int, step: KernelStep) -> int:
    """Bytes of the grouped kernel between blocks."""
    return channels * PHASES**4 * prod(polyphase_taps(step)) * FLOAT_BYTES


def row_bytes(channels: int, step: KernelStep, size: Pair, result: Pair) -> int:
    """Bytes of the banded matrices of a kernel's rows."""
    return step.taps[0] * matrix_bytes(channels, size[1], result[1])


def _pair(values: Iterable[int]) -> Pair:
    height, width = values
    return height, width


def _text(pair: Pair) -> str:
    return f"{pair[0]}x{pair[1]}"
