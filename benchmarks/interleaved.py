"""Timing several artifacts in turn, one inference each a round, so that drift of the machine hits all alike."""

import time
from collections.abc import Hashable, Mapping
from typing import TypeVar

from edgekit.runners.base import Runner, Tensors

Key = TypeVar("Key", bound=Hashable)

WARM_UP = 2
"""Rounds before those that count."""


def interleaved(runners: Mapping[Key, tuple[Runner, Tensors]], rounds: int) -> dict[Key, list[float]]:
    """Milliseconds of every inference of every runner, given each with its inputs."""
    times: dict[Key, list[float]] = {key: [] for key in runners}
    for _ in range(rounds + WARM_UP):
        for key, (runner, inputs) in runners.items():
            started = time.perf_counter()
            runner.run(inputs)
            times[key].append(1e3 * (time.perf_counter() - started))
    return {key: values[WARM_UP:] for key, values in times.items()}
