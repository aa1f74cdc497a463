"""Timing several artifacts in turn, one inference each a round."""

from collections.abc import Callable, Hashable, Mapping
from functools import partial
from typing import TypeVar

from edgekit.bench.rounds import one_round
from edgekit.runners.base import Runner, Tensors

Key = TypeVar("Key", bound=Hashable)

WARM_UP = 2
"""Rounds before those that count."""


def inferences(runners: Mapping[Key, tuple[Runner, Tensors]]) -> dict[Key, Callable[[], object]]:
    """One inference of every runner, given each with its inputs."""
    return {key: partial(runner.run, inputs) for key, (runner, inputs) in runners.items()}


def interleaved(calls: Mapping[Key, Callable[[], object]], rounds: int) -> dict[Key, list[float]]:
    """Milliseconds of every call in every round."""
    taken = [one_round(calls) for _ in range(rounds + WARM_UP)][WARM_UP:]
    return {key: [each[key] for each in taken] for key in calls}
