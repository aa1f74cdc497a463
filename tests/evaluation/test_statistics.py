"""Paired statistics against values worked out elsewhere, and against what must hold of all of them."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.evaluation.statistics import decide, drop_interval, images_needed, mcnemar, points

counts = st.integers(0, 60)


@pytest.mark.parametrize(
    ("lost", "gained", "p"),
    [
        (0, 0, 1.0),
        (1, 0, 1.0),
        (5, 0, 0.0625),  # 2 / 2^5
        (8, 1, 0.0390625),  # 2 (1 + 9) / 2^9
        (10, 3, 0.09228515625),  # 2 (1 + 13 + 78 + 286) / 2^13
        (7, 7, 1.0),
        (25, 5, 348_874 / 2**30),  # 2 (1 + 30 + 435 + 4060 + 27405 + 142506) / 2^30
    ],
)
def test_known_values_of_mcnemar(lost: int, gained: int, p: float) -> None:
    assert mcnemar(lost, gained) == pytest.approx(p, rel=1e-12)
    assert mcnemar(gained, lost) == mcnemar(lost, gained)


@given(counts, counts)
def test_mcnemar_is_the_sum_of_the_binomial_distribution(lost: int, gained: int) -> None:
    tosses = lost + gained
    fewer = sum(math.comb(tosses, k) for k in range(min(lost, gained) + 1))

    assert mcnemar(lost, gained) == pytest.approx(min(1, 2 * fewer / 2**tosses), rel=1e-12)


def test_mcnemar_of_thousands_is_exact_and_no_overflow() -> None:
    """Twenty thousand discordant images: the normal approximation, with its correction for continuity, is close."""
    z = (10_200 - 9_800 - 1) / math.sqrt(20_000)

    assert mcnemar(10_200, 9_800) == pytest.approx(math.erfc(z / math.sqrt(2)), rel=1e-3)
    assert mcnemar(20_000, 0) == 0.0


@given(counts, counts, st.integers(120, 5000))
@settings(max_examples=20, deadline=None)
def test_interval_holds_the_drop_and_turns_with_the_sides(lost: int, gained: int, images: int) -> None:
    low, high = drop_interval(lost, gained, images)
    drop = points(lost, gained, images)

    assert low <= drop <= high
    assert drop_interval(lost, gained, images) == (low, high)
    back = drop_interval(gained, lost, images)
    assert (-back[1], -back[0]) == pytest.approx((low, high), abs=0.12 * (high - low) + 100 / images)


def test_no_difference_seen_is_not_no_difference() -> None:
    """The rule of three: with none among n, up to about 3 / n may be there."""
    low, high = drop_interval(0, 0, 100)

    assert low < 0 < high
    assert 2.0 <= high <= 4.0
    assert drop_interval(0, 0, 10_000)[1] <= 0.04


def test_interval_narrows_as_images_are_added() -> None:
    widths = [np.ptp(drop_interval(3 * n, 2 * n, 100 * n)) for n in (1, 4, 16, 64)]

    assert widths == sorted(widths, reverse=True)
    assert widths[1] / widths[3] == pytest.approx(4, rel=0.15)


@pytest.mark.parametrize(("lost", "gained", "images"), [(0.03, 0.02, 400), (0.006, 0.0, 400), (0.1, 0.02, 1000)])
def test_interval_covers_the_truth_as_often_as_it_says(lost: float, gained: float, images: int) -> None:
    drawn = np.random.default_rng(7).multinomial(images, [lost, gained, 1 - lost - gained], size=100)
    truth = 100 * (lost - gained)

    intervals = [drop_interval(int(row[0]), int(row[1]), images) for row in drawn]

    assert np.mean([low <= truth <= high for low, high in intervals]) >= 0.89


def test_needed_images_give_the_resolution() -> None:
    needed = images_needed(30, 20, 1000)
    factor = needed / 1000

    low, high = drop_interval(round(30 * factor), round(20 * factor), needed)

    assert (high - low) / 2 == pytest.approx(0.3, rel=0.05)
    assert images_needed(30, 20, 1000, resolution=0.6) == pytest.approx(needed / 4, rel=0.01)
    assert images_needed(0, 0, 1_000_000) == 1


@pytest.mark.parametrize(
    ("interval", "budget", "decision"),
    [
        ((0.6, 1.4), 0.5, "over"),
        ((0.4, 1.4), 0.5, "undecided"),
        ((-0.4, 0.6), 0.5, "undecided"),
        ((-0.4, 0.5), 0.5, "within"),
        ((-2.0, -1.0), 0.0, "within"),
        ((0.5, 0.9), 0.5, "undecided"),
    ],
)
def test_a_budget_is_decided_by_the_whole_interval(interval: tuple[float, float], budget: float, decision: str) -> None:
    assert decide(interval, budget) == decision


def test_comparing_nothing_is_an_error() -> None:
    for call in (points, drop_interval):
        with pytest.raises(ValueError, match="nothing was compared"):
            call(0, 0, 0)
    with pytest.raises(ValueError, match="no number of images"):
        images_needed(1, 1, 10, resolution=0.0)
