"""Every metric against figures worked out by hand, and the gate against its formula."""

import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgekit.artifact import CaseParity, Parity, Shape
from edgekit.numerics import (
    EQUAL_DB,
    GATE_FLOOR_DB,
    SAMPLE,
    compare_one,
    compare_sampled,
    gate_db,
    sampled,
    snr_db,
    worst,
)

SAME = Parity(max_abs=0.0, relative=0.0, snr_db=400.0, cosine=1.0, top1_agreement=1.0, nonfinite=0)


@pytest.mark.parametrize(
    ("noise", "gate"),
    [(400.0, 110.0), (115.0, 105.0), (90.0, 80.0), (89.9, 80.0), (-400.0, 80.0)],
    ids=["equal", "usual", "at-the-floor", "below-the-floor", "nan"],
)
def test_the_gate_is_ten_db_below_float32_itself_and_never_below_the_floor(noise: float, gate: float) -> None:
    assert gate_db(noise) == pytest.approx(gate)


@pytest.mark.parametrize(
    ("reference", "actual", "expected"),
    [
        ([3.0, 4.0], [3.0, 4.5], 20.0),  # 25 / 0.25
        ([3.0, 4.0], [3.0, 4.0], 400.0),
        ([1.0, 1.0], [0.0, 0.0], 0.0),
        ([1.0], [11.0], -20.0),
        ([1e-30], [1.0], -400.0),
        ([0.0, 0.0], [0.0, 1e-9], -400.0),
        ([0.0, 0.0], [0.0, 0.0], 400.0),
        ([1.0, 1.0], [1.0, np.nan], -400.0),
        ([1.0, 1.0], [1.0, -np.inf], -400.0),
        ([1.0, np.nan], [1.0, 1.0], -400.0),
        ([np.inf, 1.0], [1.0, 1.0], -400.0),
    ],
    ids=[
        "by-hand",
        "equal",
        "dead-output",
        "louder-than-signal",
        "clipped",
        "silent-reference",
        "both-silent",
        "nan",
        "infinite",
        "nan-in-reference",
        "infinite-reference",
    ],
)
def test_snr(reference: list[float], actual: list[float], expected: float) -> None:
    assert snr_db(np.array(reference), np.array(actual)) == pytest.approx(expected, abs=1e-9)


@given(exponent=st.integers(-12, 2), seed=st.integers(0, 99))
def test_snr_of_a_relative_error_is_minus_twenty_decades(exponent: int, seed: int) -> None:
    reference = np.random.default_rng(seed).standard_normal((2, 7))
    assert snr_db(reference, reference * (1 + 10.0**exponent)) == pytest.approx(-20.0 * exponent, abs=1e-2)


def test_every_figure_of_two_by_three_by_hand() -> None:
    reference = np.array([[1.0, 2.0, -4.0], [0.0, 1.0, 0.5]])
    actual = np.array([[1.0, 2.5, -4.0], [0.0, 1.0, 1.5]])  # the second row's winner changes

    parity = compare_one(reference, actual)

    assert parity.max_abs == 1.0
    assert parity.relative == 0.25
    assert parity.snr_db == pytest.approx(10 * math.log10(22.25 / 1.25))
    assert parity.cosine == pytest.approx((1 + 5 + 16 + 1 + 0.75) / math.sqrt(22.25 * 26.5))
    assert parity.top1_agreement == 0.5
    assert parity.nonfinite == 0


@pytest.mark.parametrize(
    ("reference", "actual", "agreement"),
    [
        ([1.0, 3.0, 2.0], [1.0, 3.0, 2.9], 1.0),
        ([1.0, 3.0, 2.0], [1.0, 3.0, 3.1], 0.0),
        (5.0, 4.0, 1.0),
        ([[[1.0, 0.0]], [[0.0, 1.0]]], [[[0.0, 1.0]], [[1.0, 0.0]]], 1.0),  # one channel: nothing to decide
        ([[[1.0, 0.0], [0.0, 1.0]]], [[[1.0, 1.0], [0.0, 0.0]]], 0.5),  # channels are axis 1, per pixel
    ],
    ids=["vector-same", "vector-other", "scalar", "one-channel", "map"],
)
def test_decisions_are_taken_over_the_channels(reference: object, actual: object, agreement: float) -> None:
    assert compare_one(reference, actual).top1_agreement == agreement


@pytest.mark.parametrize("values", [[[0.5, -2.0]], [[0.0, 0.0]], [7.0]], ids=["values", "zeros", "one"])
def test_equal_outputs(values: list[object]) -> None:
    assert compare_one(values, values) == SAME


def test_float32_is_compared_in_float64() -> None:
    reference = np.array([[1.0, 1.0 + 2**-40]])
    assert compare_one(reference, reference.astype(np.float32)).max_abs == 2**-40


def test_nonfinite_values_are_counted_and_left_out_of_the_difference() -> None:
    parity = compare_one([[1.0, 2.0, 3.0, 4.0]], [[1.0, np.nan, np.inf, 4.5]])
    assert (parity.nonfinite, parity.max_abs, parity.relative) == (2, 0.5, 0.125)
    assert (parity.snr_db, parity.cosine) == (-EQUAL_DB, 0.0)


def test_a_silent_reference_makes_the_relative_error_absolute() -> None:
    parity = compare_one([0.0, 0.0], [0.0, 0.25])
    assert (parity.relative, parity.snr_db, parity.cosine) == (0.25, -EQUAL_DB, 0.0)


@pytest.mark.parametrize(
    ("reference", "actual", "message"),
    [
        (np.zeros((1, 3)), np.zeros(3), r"shape \(3,\) instead of \(1, 3\)"),
        (np.zeros((2, 3)), np.zeros((3, 2)), r"shape \(3, 2\) instead of \(2, 3\)"),
        (np.zeros((1, 1)), np.zeros((1, 5)), r"shape \(1, 5\) instead of \(1, 1\)"),
        (np.zeros((0, 3)), np.zeros((0, 3)), "nothing to compare: the output is empty"),
    ],
    ids=["rank", "transposed", "broadcastable", "empty"],
)
def test_what_cannot_be_compared_is_an_error(reference: object, actual: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        compare_one(reference, actual)


def test_the_worst_of_several_is_the_worst_of_each_figure() -> None:
    good = Parity(max_abs=0.1, relative=0.9, snr_db=90.0, cosine=0.5, top1_agreement=1.0, nonfinite=0)
    bad = Parity(max_abs=0.2, relative=0.3, snr_db=80.0, cosine=0.7, top1_agreement=0.5, nonfinite=2)
    assert worst([good, bad, bad]) == Parity(
        max_abs=0.2, relative=0.9, snr_db=80.0, cosine=0.5, top1_agreement=0.5, nonfinite=4
    )


def test_comparing_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match="nothing was compared"):
        worst([])


@pytest.mark.parametrize(
    ("snr", "nonfinite", "passed"),
    [(GATE_FLOOR_DB, 0, True), (GATE_FLOOR_DB - 0.001, 0, False), (400.0, 1, False)],
    ids=["at-the-gate", "just-below", "nan"],
)
def test_a_case_passes_at_its_gate_with_every_value_finite(snr: float, nonfinite: int, passed: bool) -> None:
    parity = Parity(max_abs=0, relative=0, snr_db=snr, cosine=1, top1_agreement=1, nonfinite=nonfinite)
    assert (
        CaseParity(case="edges", output="logits", parity=parity, noise_db=85.0, gate_db=GATE_FLOOR_DB).passed is passed
    )


# -- dense outputs --------------------------------------------------------------------------------------------------

DENSE: Shape = (1, 150, 96, 128)
"""Seven times as many values as are compared."""


def dense(shape: Shape = DENSE, seed: int = 0) -> NDArray[np.float64]:
    return np.random.default_rng(seed).standard_normal(shape)


def seen_db(wrong: NDArray[np.float64], right: NDArray[np.float64]) -> float:
    """The SNR of what is compared of an output."""
    return snr_db(sampled(right), sampled(wrong))


@pytest.mark.parametrize(
    "shape",
    [(1, 1000), (4, 1, 256, 256), (1, 21, 64, 64), (SAMPLE,), (2, SAMPLE), (3,), (), (0, 5)],
    ids=lambda shape: "x".join(map(str, shape)) or "scalar",
)
def test_small_outputs_and_vectors_are_compared_whole(shape: Shape) -> None:
    output = np.zeros(shape)
    assert sampled(output) is output


@pytest.mark.parametrize(
    "shape",
    [DENSE, (2, 21, 300, 200), (1, 1, 1024, 1024), (1, 4096, 16, 16), (3, 19, 128, 64, 8)],
    ids=lambda shape: "x".join(map(str, shape)),
)
def test_a_dense_output_keeps_all_channels_at_the_same_places(shape: Shape) -> None:
    size = math.prod(shape)
    output = np.arange(size).reshape(shape)
    kept = sampled(output)

    assert kept.shape[:2] == shape[:2]
    assert SAMPLE // 4 < kept.size <= SAMPLE
    places = math.prod(shape[2:])
    starts = np.arange(shape[0] * shape[1]).reshape(*shape[:2], 1) * places
    assert np.array_equal(kept - starts, np.broadcast_to(kept[0, 0], kept.shape))
    assert len(np.unique(kept)) == kept.size
    assert (kept.min(), kept.max()) == (0, size - 1)


def test_thinning_is_the_same_every_time_and_for_every_type() -> None:
    output = dense()
    assert np.array_equal(sampled(output), sampled(output.copy()))
    single = output.astype(np.float32)
    assert sampled(single).dtype == np.float32
    assert np.array_equal(sampled(single), sampled(output).astype(np.float32))
    assert np.array_equal(sampled(np.asfortranarray(output)), sampled(output))


def test_a_dense_output_can_have_more_channels_than_are_compared() -> None:
    kept = sampled(np.broadcast_to(np.arange(6.0).reshape(2, 3), (1, SAMPLE + 1, 2, 3)))
    assert np.array_equal(kept, np.broadcast_to([0.0, 5.0], (1, SAMPLE + 1, 2)))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_finite_are_counted_in_all_of_a_dense_output(bad: float) -> None:
    right = dense().astype(np.float32)
    parity = compare_sampled(sampled(right), right)
    assert (parity.nonfinite, parity.snr_db) == (0, EQUAL_DB)
    wrong = right.copy()
    wrong[0, 3, 5, 1:100] = bad
    parity = compare_sampled(sampled(right), wrong)
    assert (parity.nonfinite, parity.snr_db) == (99, -EQUAL_DB)


def test_a_small_output_is_compared_as_ever() -> None:
    right, wrong = dense((1, 5, 6, 7)), dense((1, 5, 6, 7), seed=1)
    assert compare_sampled(right, wrong) == compare_one(right, wrong)


@pytest.mark.parametrize("channel", [0, 77, 149])
def test_a_wrong_channel_of_a_dense_output_is_seen(channel: int) -> None:
    right = dense()
    wrong = right.copy()
    wrong[:, channel] *= 1.01
    assert seen_db(right, right) == EQUAL_DB
    # The channel is one of 150, and its error a hundredth.
    assert seen_db(wrong, right) == pytest.approx(40.0 + 10.0 * math.log10(150), abs=1.0)


@pytest.mark.parametrize("shape", [(1, 1024, 768), (1, 768, 1024)], ids=str)
@pytest.mark.parametrize("axis", [1, 2])
def test_a_wrong_channel_of_a_sequence_is_seen_whichever_axis_holds_channels(shape: Shape, axis: int) -> None:
    """A transformer's tokens (N, L, C) have their channels last, a convolution's (N, C, L) do not."""
    index = np.arange(shape[axis]).reshape([-1 if at == axis else 1 for at in range(3)])
    kept = sampled(np.broadcast_to(index, shape))
    assert kept.size <= SAMPLE
    assert np.array_equal(np.unique(kept), index.ravel())


@pytest.mark.parametrize("at", [(0, 0), (-1, -1)], ids=["first", "last"])
def test_a_wrong_corner_of_a_dense_output_is_seen(at: tuple[int, int]) -> None:
    right = dense()
    wrong = right.copy()
    wrong[0, 0, *at] += 1.0
    assert seen_db(wrong, right) < GATE_FLOOR_DB


@pytest.mark.parametrize(
    "band",
    [np.s_[..., 40:46, :], np.s_[..., 60:68], np.s_[..., -1, :], np.s_[..., 0], np.s_[..., -1]],
    ids=["rows", "columns", "last-row", "first-column", "last-column"],
)
def test_a_wrong_band_of_a_dense_output_is_seen(band: tuple[slice | int, ...]) -> None:
    right = dense()
    wrong = right.copy()
    wrong[band] *= 1.01
    assert seen_db(wrong, right) < GATE_FLOOR_DB


@given(channels=st.integers(1, 1024), height=st.integers(16, 1100), width=st.integers(16, 1100))
@example(channels=1024, height=144, width=144)
@example(channels=150, height=987, width=987)
@example(channels=256, height=233, width=377)
def test_a_wrong_band_of_rows_or_columns_is_seen_wherever_it_lies(channels: int, height: int, width: int) -> None:
    """One sixteenth of a side wide: what a wrong padding or a wrong tile leaves."""
    places = np.arange(height * width).reshape(1, 1, height, width)
    kept = sampled(np.broadcast_to(places, (1, channels, height, width)))[0, 0]
    compared = np.unravel_index(kept.ravel(), (height, width))
    for found, side in zip(compared, (height, width), strict=True):
        missed = np.diff(np.unique([-1, *found, side])) - 1
        assert missed.max() < max(side // 16, 1)
