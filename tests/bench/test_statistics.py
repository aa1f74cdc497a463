"""Figures against values known in closed form, and intervals against what they promise."""

import math
from fractions import Fraction

import numpy as np
import pytest

from edgekit.bench.record import Round
from edgekit.bench.statistics import (
    latency,
    median_interval,
    minutes,
    percentile,
    round_medians,
    spread,
    supported,
    trend,
)
from tests.bench.figures import rounds


def coverage(drawn: int, rank: int) -> float:
    """Exactly how often the rank-th smallest and largest of so many values enclose the median."""
    return float(1 - 2 * sum(Fraction(math.comb(drawn, hits), 2**drawn) for hits in range(rank)))


# Ranks of the 95 % interval of a median, as printed in tables of the sign test.
@pytest.mark.parametrize(("drawn", "rank"), [(6, 1), (8, 1), (9, 2), (12, 3), (20, 6), (25, 8), (50, 18), (100, 40)])
def test_interval_of_a_median_has_the_ranks_of_the_tables(drawn: int, rank: int) -> None:
    values = [float(value) for value in range(1, drawn + 1)]

    interval = median_interval(values[::-1])

    assert interval is not None
    assert (interval.low, interval.high) == (rank, drawn + 1 - rank)
    assert interval.confidence == pytest.approx(coverage(drawn, rank), abs=1e-9)
    assert interval.confidence >= 0.95
    assert coverage(drawn, rank + 1) < 0.95


def test_too_few_values_for_an_interval() -> None:
    assert median_interval([1.0, 2.0, 3.0, 4.0, 5.0]) is None
    assert median_interval([]) is None
    assert median_interval([1.0, 2.0, 3.0, 4.0, 5.0], confidence=0.9) is not None


def test_interval_of_thousands_of_values_is_that_of_the_normal_approximation() -> None:
    interval = median_interval([float(value) for value in range(40_000)])

    assert interval is not None
    assert interval.low == pytest.approx(20_000 - 1.96 * 100, abs=2)
    assert interval.high == pytest.approx(20_000 + 1.96 * 100, abs=2)


@pytest.mark.parametrize("drawn", [6, 20, 51])
def test_interval_encloses_the_median_as_often_as_it_says(drawn: int) -> None:
    samples = np.random.default_rng(7).lognormal(sigma=0.6, size=(4000, drawn))  # its median is 1
    found = [median_interval(row.tolist()) for row in samples]

    hits = sum(1 for interval in found if interval and interval.low <= 1.0 <= interval.high) / len(found)
    assert found[0] is not None
    deviation = math.sqrt(found[0].confidence * (1 - found[0].confidence) / len(found))
    assert hits == pytest.approx(found[0].confidence, abs=3 * deviation)


@pytest.mark.parametrize(("share", "least"), [(0.5, 6), (0.9, 29), (0.99, 299), (0.999, 2995)])
def test_a_percentile_is_supported_from_so_many_runs(share: float, least: int) -> None:
    assert supported(share, least)
    assert not supported(share, least - 1)


def test_supported_percentile_lies_between_the_samples_as_often_as_promised() -> None:
    samples = np.random.default_rng(11).exponential(size=(4000, 29))
    true = math.log(10)  # the 90th percentile of the exponential distribution

    hits = np.mean((samples.min(axis=1) < true) & (true < samples.max(axis=1)))
    assert hits == pytest.approx(1 - 0.9**29 - 0.1**29, abs=0.011)


@pytest.mark.parametrize(("share", "value"), [(0.5, 5.0), (0.9, 9.0), (0.91, 10.0), (1.0, 10.0), (0.05, 1.0)])
def test_percentile_is_the_nearest_rank(share: float, value: float) -> None:
    assert percentile([float(each) for each in range(10, 0, -1)], share) == value


def test_percentile_of_nothing() -> None:
    with pytest.raises(ValueError, match="no percentile of nothing"):
        percentile([], 0.5)


def test_spread_is_the_distance_of_the_quartiles() -> None:
    assert spread([4.0, 1.0, 3.0, 2.0]) == pytest.approx((3 - 1) / 2.5)
    assert spread([7.0] * 9) == 0


@pytest.mark.parametrize(
    ("values", "expected"),
    [([1.0] * 9, 1.0), ([1.0, 1.0, 1.0, 5.0, 5.0, 5.0, 1.2, 1.2, 1.2], 1.2), ([2.0, 1.0], 0.5), ([3.0], 1.0)],
)
def test_trend_is_the_last_third_over_the_first(values: list[float], expected: float) -> None:
    assert trend(values) == pytest.approx(expected)


def test_latency_counts_a_round_once_however_many_runs_it_has() -> None:
    uneven = [
        Round(at_s=0.0, samples_ms=(9.0,) * 50, clock_mhz=None, temperature_c=None),
        *rounds([1.0, 2.0, 3.0, 4.0, 5.0], runs=1),
    ]

    found = latency(uneven)

    assert round_medians(uneven) == (9.0, 1.0, 2.0, 3.0, 4.0, 5.0)
    assert found.median_ms == 3.5
    assert found.interval is not None
    assert (found.interval.low, found.interval.high) == (1.0, 9.0)
    assert (found.minimum_ms, found.runs, found.rounds) == (1.0, 55, 6)


def test_latency_reports_only_the_percentiles_its_runs_support() -> None:
    assert latency(rounds([1.0] * 7, runs=4)).percentiles == {}
    assert latency(rounds([1.0] * 6, runs=5)).percentiles == {"p90": 1.0}
    assert latency(rounds([1.0] * 20, runs=15)).percentiles.keys() == {"p90", "p99"}


def test_minutes_have_the_median_of_their_own_runs() -> None:
    taken = [
        Round(at_s=at, samples_ms=(milliseconds,), clock_mhz=clock, temperature_c=None)
        for at, milliseconds, clock in ((0.0, 10.0, 1800.0), (30.0, 12.0, 1700.0), (61.0, 20.0, 1200.0))
    ]

    first, second = minutes(taken)

    assert (first.minute, first.runs, first.median_ms, first.clock_mhz) == (0, 2, 11.0, 1750.0)
    assert (second.minute, second.runs, second.median_ms, second.clock_mhz) == (1, 1, 20.0, 1200.0)
    assert first.temperature_c is None


def test_a_short_measurement_has_no_minutes() -> None:
    assert minutes(rounds([1.0] * 59)) == ()
    assert minutes(()) == ()
