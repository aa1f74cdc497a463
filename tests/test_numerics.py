"""Every metric against figures worked out by hand, and the gate against its formula."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.artifact import CaseParity, Parity
from edgekit.numerics import EQUAL_DB, GATE_FLOOR_DB, compare, compare_one, gate_db, snr_db, worst

SAME = Parity(max_abs=0.0, relative=0.0, snr_db=400.0, cosine=1.0, top1_agreement=1.0, nonfinite=0)


@pytest.mark.parametrize(
    ("noise", "gate"),
    [(400.0, 390.0), (130.0, 120.0), (90.0, 80.0), (89.9, 80.0), (-400.0, 80.0)],
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
    with pytest.raises(ValueError, match="nothing was compared"):
        compare([], [])


def test_pairs_of_outputs_are_compared_one_by_one() -> None:
    ones = np.ones(4)
    assert compare([ones, ones], [ones, 2 * ones]).max_abs == 1.0
    with pytest.raises(ValueError, match="zip"):
        compare([ones, ones], [ones])


@pytest.mark.parametrize(
    ("snr", "nonfinite", "passed"),
    [(GATE_FLOOR_DB, 0, True), (GATE_FLOOR_DB - 0.001, 0, False), (400.0, 1, False)],
    ids=["at-the-gate", "just-below", "nan"],
)
def test_a_case_passes_at_its_gate_with_every_value_finite(snr: float, nonfinite: int, passed: bool) -> None:
    parity = Parity(max_abs=0, relative=0, snr_db=snr, cosine=1, top1_agreement=1, nonfinite=nonfinite)
    assert CaseParity(case="edges", parity=parity, noise_db=85.0, gate_db=GATE_FLOOR_DB).passed is passed
