"""Figures from samples, and how far the samples support them.

Intervals of medians are order statistics, which assume no distribution: of n values the k-th smallest and the k-th
largest enclose the median with probability 1 - 2 P(B < k), B binomial with n draws of probability 1/2.

Inferences of one round resemble each other more than those of another, so that a round counts once: the latency is the
median over the rounds of each round's median, and its interval is that of the rounds.

A percentile p is reported only where n samples support it, which is where the smallest and the largest of them enclose
it with 95 % probability: 1 - p^n - (1 - p)^n >= 0.95. That takes 29 runs for p90, 299 for p99, 2995 for p99.9.
"""

import math
import statistics
from collections.abc import Iterable, Sequence

from edgekit.bench.record import Interval, Latency, Minute, Round

CONFIDENCE = 0.95

PERCENTILES = {"p90": 0.9, "p99": 0.99, "p99.9": 0.999}


def median_interval(values: Sequence[float], confidence: float = CONFIDENCE) -> Interval | None:
    """The narrowest pair of symmetric order statistics that encloses the median with at least this confidence.

    None where there are too few values: 95 % takes six.
    """
    ranked, drawn = sorted(values), len(values)
    outside, rank = 0.0, 0  # probability that fewer than `rank` of the values lie below the median
    while rank < drawn // 2:
        further = outside + _binomial(drawn, rank)
        if 1 - 2 * further < confidence:
            break
        outside, rank = further, rank + 1
    if rank == 0:
        return None
    return Interval(low=ranked[rank - 1], high=ranked[drawn - rank], confidence=1 - 2 * outside)


def _binomial(draws: int, hits: int) -> float:
    """Probability of so many hits in fair draws; by logarithms, for thousands of draws leave no float otherwise."""
    ways = math.lgamma(draws + 1) - math.lgamma(hits + 1) - math.lgamma(draws - hits + 1)
    return math.exp(ways - draws * math.log(2))


def supported(share: float, runs: int, confidence: float = CONFIDENCE) -> bool:
    """Whether so many samples support a percentile."""
    return 1 - share**runs - (1 - share) ** runs >= confidence


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of the values does not exceed (nearest rank).

    Raises:
        ValueError: There are no values.
    """
    if not values:
        raise ValueError("there is no percentile of nothing")
    return sorted(values)[max(math.ceil(share * len(values)) - 1, 0)]


def spread(values: Sequence[float]) -> float:
    """Distance of the quartiles over the median."""
    return (percentile(values, 0.75) - percentile(values, 0.25)) / statistics.median(values)


def trend(values: Sequence[float]) -> float:
    """Median of the last third over that of the first; 1 where nothing moved, or where there is nothing to divide."""
    third = max(len(values) // 3, 1)
    first, last = (statistics.median(part) for part in (values[:third], values[-third:]))
    return last / first if first else 1.0


def round_medians(rounds: Sequence[Round]) -> tuple[float, ...]:
    """Each round's median, in milliseconds."""
    return tuple(statistics.median(each.samples_ms) for each in rounds)


def latency(rounds: Sequence[Round]) -> Latency:
    """What rounds come to.

    Raises:
        statistics.StatisticsError: There is no round, or one without a sample.
    """
    medians = round_medians(rounds)
    samples = [sample for each in rounds for sample in each.samples_ms]
    return Latency(
        median_ms=statistics.median(medians),
        interval=median_interval(medians),
        minimum_ms=min(samples),
        percentiles={
            name: percentile(samples, share) for name, share in PERCENTILES.items() if supported(share, len(samples))
        },
        runs=len(samples),
        rounds=len(rounds),
    )


def minutes(rounds: Sequence[Round]) -> tuple[Minute, ...]:
    """A measurement minute by minute; empty where it took less than two."""
    if not rounds or rounds[-1].at_s < 60:
        return ()
    by_minute: dict[int, list[Round]] = {}
    for each in rounds:
        by_minute.setdefault(int(each.at_s // 60), []).append(each)
    return tuple(_minute(number, each) for number, each in sorted(by_minute.items()))


def _minute(number: int, rounds: Sequence[Round]) -> Minute:
    samples = [sample for each in rounds for sample in each.samples_ms]
    return Minute(
        minute=number,
        runs=len(samples),
        median_ms=statistics.median(samples),
        clock_mhz=middle(each.clock_mhz for each in rounds),
        temperature_c=middle(each.temperature_c for each in rounds),
    )


def middle(values: Iterable[float | None]) -> float | None:
    """The median of what is known; None where nothing is."""
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None
