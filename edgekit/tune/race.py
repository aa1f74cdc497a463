"""Timing candidates in turn until it is certain which is fastest.

Every round runs each candidate once. From one round to the next the machine may be slower or faster, but within a round
it is the same for all, so candidates are compared round by round: one that was slower than the leader so often that a
coin would hardly fall that way (sign test) is out, and the time goes to those that are left.

The order changes from round to round, or whatever else comes and goes as often as the rounds would always meet the
same candidate. What else the machine does can only add to a time: the cost of a candidate is the lower quartile of its
times, which three disturbed rounds in four leave as it is.
"""

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import comb
from statistics import median

from edgekit.bench.rounds import one_round

SEED = 0

WARM_UP = 3
LEAST_ROUNDS = 12
MOST_ROUNDS = 120

HOPELESS = 3
"""Candidates this many times slower than the fastest are not timed any further.

Each is taken at the best of its warm-up runs: a first run prepares the others, and any one may be disturbed.
"""

DOUBT = 0.005
"""Probability that candidates alike are told apart by accident, each time they are compared."""

EQUAL = 1.01
"""Candidates whose cost is within one percent of the leader's when the rounds are over are as good as it."""


@dataclass(frozen=True, slots=True)
class Result:
    """How a race ended.

    Attributes:
        times: Milliseconds of each round a candidate took part in.
        fastest: The candidates that nothing tells apart, the leader first.
    """

    times: Mapping[str, list[float]]
    fastest: tuple[str, ...]


def race(
    calls: Mapping[str, Callable[[], object]],
    deadline: float,
    beside: str | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Result:
    """Times candidates until one is left, or the rounds or the time are over.

    Args:
        calls: What runs a candidate once.
        deadline: When to stop, by `clock`; the least number of rounds is made in any case.
        beside: A call that is timed in every round without being a candidate.
        clock: Seconds.
    """
    order = random.Random(SEED)  # noqa: S311 - no secret
    alive, always = [name for name in calls if name != beside], [beside] if beside is not None else []
    times: dict[str, list[float]] = {name: [] for name in calls}
    if not alive:
        return Result(times, ())
    warm = [one_round(shuffled(calls, [*always, *alive], order)) for _ in range(WARM_UP)]
    least = {name: min(taken[name] for taken in warm) for name in alive}
    for name in [name for name in alive if least[name] > HOPELESS * min(least.values())]:
        alive.remove(name)
        times[name].append(least[name])
    for done in range(1, MOST_ROUNDS + 1):
        for name, taken in one_round(shuffled(calls, [*always, *alive], order)).items():
            times[name].append(taken)
        if done >= LEAST_ROUNDS:
            alive = still_running(times, alive)
            if len(alive) == 1 or clock() > deadline:
                break
    return Result(times, as_fast(times, alive))


def shuffled(
    calls: Mapping[str, Callable[[], object]], names: Sequence[str], order: random.Random
) -> dict[str, Callable[[], object]]:
    """Some of the calls, in another order every time."""
    return {name: calls[name] for name in order.sample(names, len(names))}


def still_running(times: Mapping[str, list[float]], alive: list[str]) -> list[str]:
    """The candidates that are not surely slower than the one with the lowest cost."""
    leader = min(alive, key=lambda name: typical(times[name]))
    return [name for name in alive if name == leader or not surely_slower(times[name], times[leader])]


def surely_slower(times: list[float], leader: list[float]) -> bool:
    """Whether a candidate lost more rounds than chance explains."""
    lost = sum(own > best for own, best in zip(times, leader, strict=True))
    rounds = len(times)
    by_chance = sum(comb(rounds, hits) for hits in range(lost, rounds + 1)) / (1 << rounds)
    return by_chance < DOUBT


def typical(times: Sequence[float]) -> float:
    """The lower quartile."""
    return sorted(times)[len(times) // 4]


def cost(times: Sequence[float], leader: Sequence[float]) -> float:
    """The lower quartile, as it would be had a candidate run in every round that the leader ran in.

    Rounds differ, and what dropped out early met only the first ones: what counts is its ratio to the leader in these.
    """
    if len(times) < LEAST_ROUNDS:
        return typical(times)
    return typical(leader) * median(own / best for own, best in zip(times, leader, strict=False))


def as_fast(times: Mapping[str, list[float]], alive: list[str]) -> tuple[str, ...]:
    """Of those still running, the ones that are as good as the one with the lowest cost, that one first."""
    ranked = sorted(alive, key=lambda name: typical(times[name]))
    limit = EQUAL * typical(times[ranked[0]])
    return tuple(name for name in ranked if typical(times[name]) <= limit)
