"""The words for depthwise kernels: what a convolution is called, and how a group can be written."""

from math import prod

import pytest
from msgspec.structs import replace

from edgekit.kernel_group import (
    FORMS,
    KernelGroup,
    KernelStep,
    candidates,
    forms_of_steps,
    merged_taps,
    merges,
    places,
    row_bytes,
    why_not,
    why_not_pieces,
    why_not_polyphase,
    why_not_rows,
)
from tests.kernels import GROUPS, TORUS, circular, group, same


@pytest.mark.parametrize(
    ("step", "text"),
    [
        (same(111, 1), "111x1"),
        (same(7, 7, bias=True), "7x7 biased"),
        (same(7, 7, dilation=2), "7x7 dilated 2x2"),
        (circular(0, 13), "13x1 circular"),
        (TORUS, "5x3 circular 2-2-1-1 biased"),
        (KernelStep(taps=(1, 9), wrap=(0, 0, 0, 8), padding=(1, 0)), "1x9 circular padded 1x0"),
        (KernelStep(taps=(3, 3), stride=(2, 2), padding=(1, 1)), "3x3 /2x2"),
        (KernelStep(taps=(7, 7)), "7x7 padded 0x0"),
        (KernelStep(taps=(4, 4), padding=(2, 2)), "4x4 padded 2x2"),
    ],
    ids=str,
)
def test_a_convolution_has_a_short_name(step: KernelStep, text: str) -> None:
    assert str(step) == text


def test_a_group_is_named_by_its_chains() -> None:
    both = group((same(111, 1), same(1, 111)), (same(7, 7),), size=(56, 48), channels=64)
    assert str(both) == "64 at 56x48: 111x1 > 1x111 + 7x7"


def test_no_two_groups_share_a_name() -> None:
    assert len({str(found) for found in GROUPS.values()}) == len(GROUPS)


@pytest.mark.parametrize(
    ("step", "axis"),
    [
        (same(1, 13), 1),
        (same(13, 1), 0),
        (circular(1, 13), 1),
        (KernelStep(taps=(1, 13), padding=(0, 6), stride=(1, 2)), 1),
        (same(3, 3), None),
        (same(1, 1), None),
        (KernelStep(taps=(1, 13), padding=(1, 6)), None),
        (KernelStep(taps=(1, 13), padding=(0, 6), stride=(2, 1)), None),
        (KernelStep(taps=(1, 13), wrap=(1, 0, 6, 6)), None),
    ],
    ids=str,
)
def test_a_line_lies_along_one_axis_and_leaves_the_other_alone(step: KernelStep, axis: int | None) -> None:
    assert step.axis == axis
    assert step.kind == ("plane" if axis is None else "line")


@pytest.mark.parametrize("name", GROUPS)
def test_the_first_candidate_is_as_trained_and_every_name_is_of_forms(name: str) -> None:
    ways = candidates(GROUPS[name])

    assert next(iter(ways)) == "depthwise"
    for text, way in ways.items():
        assert set(text.split(" + ")) == set(way.forms) <= set(FORMS)
        assert bool(way.kinds) == (way.whole is None)


FEW_TAPS = "it has no more than 25 taps"

WAYS = {
    "row": "depthwise, toeplitz, matmul",
    "plane": "depthwise, pieces, rows, polyphase, matmul",
    "smaller plane": "depthwise, matmul",
    "wide plane": "depthwise, rows, polyphase, matmul",
    "strided plane": "depthwise, rows, matmul",
    "even plane": "depthwise, rows, polyphase, matmul",
    "pair": "depthwise, toeplitz, dense, matmul",
    "pair with biases": "depthwise, toeplitz, matmul",
    "pair with a last bias": "depthwise, toeplitz, dense, matmul",
    "pair and local": (
        "depthwise, depthwise + pieces, depthwise + rows, depthwise + polyphase, toeplitz + depthwise, "
        "toeplitz + pieces, toeplitz + rows, toeplitz + polyphase, dense, matmul"
    ),
    "cross": "depthwise, pieces, rows, polyphase, dense, matmul",
    "row after row": "depthwise, toeplitz, matmul",
    "plane after plane": "depthwise, pieces, rows, polyphase, matmul",
    "circular pair": "depthwise, toeplitz, matmul",
    "torus": "depthwise, matmul",
}


@pytest.mark.parametrize("name", WAYS)
def test_the_ways_to_write_a_group(name: str) -> None:
    assert ", ".join(candidates(GROUPS[name])) == WAYS[name]


def test_a_group_with_both_kinds_is_as_trained_only_once() -> None:
    ways = candidates(GROUPS["local and row"])
    assert ways["depthwise"].kinds == {"line": "depthwise", "plane": "depthwise"}
    assert "depthwise + depthwise" not in ways


def test_matrices_grow_with_the_map_until_they_are_no_form() -> None:
    line, plane, pixels = group((same(1, 61),)), group((same(7, 7),)), group((same(5, 5),))

    def ways(of: KernelGroup, side: int) -> set[str]:
        return set(candidates(replace(of, channels=64, size=(side, side))))

    assert ways(line, 256) - ways(line, 257) == {"toeplitz"}  # 64 channels of 256 x 256 floats are 16 MiB
    assert ways(plane, 96) - ways(plane, 97) == {"rows"}  # seven rows of 96 x 96
    assert "polyphase" in ways(plane, 1000)  # whose constants do not grow
    assert ways(pixels, 22) - ways(pixels, 23) == {"matmul"}  # 22^4 floats in each channel


@pytest.mark.parametrize(
    ("step", "pieces", "rows", "polyphase"),
    [
        (same(5, 5), FEW_TAPS, FEW_TAPS, FEW_TAPS),
        (same(7, 7), None, None, None),
        (same(13, 13), "two rows of 13 taps are more than 25", None, None),
        (KernelStep(taps=(7, 7), stride=(2, 1)), "it has a stride or is dilated", None, "it has a stride"),
        (TORUS, FEW_TAPS, FEW_TAPS, FEW_TAPS),
        (
            KernelStep(taps=(7, 7), wrap=(3, 3, 3, 3)),
            "the zero padding is less than half the rows",
            "it is circular",
            "it is circular",
        ),
    ],
    ids=str,
)
def test_what_a_plane_cannot_be_written_as_has_a_reason(
    step: KernelStep, pieces: str | None, rows: str | None, polyphase: str | None
) -> None:
    assert why_not_pieces(step) == pieces
    assert why_not_rows(step, 1000) == rows
    assert why_not_polyphase(step, 1000) == polyphase


def test_rows_may_take_too_much() -> None:
    step = same(31, 31)
    (place,) = places(group((step,), size=(112, 112), channels=64))
    assert why_not_rows(step, row_bytes(64, *place)) == "the matrices would take 94 MiB"


def test_blocks_may_take_too_much() -> None:
    step = same(31, 31)
    (place,) = places(group((step,), channels=256))
    assert why_not("polyphase", 256, *place) == "the grouped kernel would take 20 MiB"
    assert why_not("polyphase", 128, *place) is None


def test_each_convolution_of_a_kind_has_its_form_or_stays() -> None:
    cross = GROUPS["cross"]
    assert forms_of_steps(cross, {"plane": "pieces"}) == ("pieces", "depthwise", "depthwise")
    assert forms_of_steps(cross, {"plane": "rows"}) == ("rows", "rows", "depthwise")


def test_equal_convolutions_at_different_sizes_have_forms_of_their_own() -> None:
    """The matrices of a kernel's rows may be too large at the first size, and small enough at the next."""
    step = KernelStep(taps=(7, 7), stride=(2, 2), padding=(3, 3))
    shrinking = group((step, step), size=(168, 168), channels=64)
    assert forms_of_steps(shrinking, {"plane": "rows"}) == ("depthwise", "rows")


# -- merging ----------------------------------------------------------------------------------------------------------

MERGED = {
    "pair": (17, 13),
    "pair with a last bias": (17, 13),
    "pair and local": (17, 13),
    "dilated pair and local": (13, 7),
    "local and row": (7, 13),
    "cross": (15, 15),
}


@pytest.mark.parametrize("name", GROUPS)
def test_only_zero_padded_crossing_kernels_are_one(name: str) -> None:
    assert merges(GROUPS[name]) == (name in MERGED)
    if name in MERGED:
        assert merged_taps(GROUPS[name]) == MERGED[name]


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(same(1, 13, bias=True), id="a bias that is convolved"),
        pytest.param(KernelStep(taps=(1, 13), padding=(0, 5)), id="a smaller map"),
        pytest.param(KernelStep(taps=(1, 13), padding=(0, 6), stride=(1, 2)), id="a stride"),
        pytest.param(circular(1, 7), id="circular"),
        pytest.param(same(3, 13), id="two along one axis"),
    ],
)
def test_what_is_not_one_kernel_is_not_merged(other: KernelStep) -> None:
    assert merges(group((same(1, 13), same(17, 1))))
    assert not merges(group((other, same(17, 1))))


# -- bytes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "way", "floats"),
    [
        ("row", "depthwise", 13 + 1),
        ("row", "toeplitz", 7 * 7 + 1),
        ("strided row", "toeplitz", 7 * 4),
        ("plane", "pieces", 49 + 1),
        ("plane", "rows", 7 * 7 * 7 + 1),
        ("plane", "polyphase", 16 * (16 * 3 * 3 + 1)),
        ("pair and local", "toeplitz + depthwise", 9 * 9 + 7 * 7 + 1 + 49 + 1),
        ("pair and local", "dense", 17 * 13 + 1),
        ("pair and local", "matmul", (9 * 7) ** 2 + 1),
        ("pair with biases", "matmul", (9 * 7) ** 2 + 9 * 7),
        ("strided plane", "matmul", (9 * 7) * (5 * 4) + 1),
    ],
)
def test_the_bytes_of_a_candidate(name: str, way: str, floats: int) -> None:
    found = GROUPS[name]
    assert candidates(found)[way].bytes == found.channels * floats * 4


@pytest.mark.parametrize("name", GROUPS)
def test_as_trained_takes_the_kernels_and_their_biases(name: str) -> None:
    found = GROUPS[name]
    taps = sum(prod(step.taps) + step.bias for step in found.steps)
    assert candidates(found)["depthwise"].bytes == found.channels * taps * 4
