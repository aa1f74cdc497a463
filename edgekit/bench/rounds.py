"""Rounds: everything under comparison runs once each, in turn, so that drift of the machine hits all alike."""

import time
from collections.abc import Callable, Hashable, Mapping
from typing import TypeVar

Key = TypeVar("Key", bound=Hashable)


def one_round(calls: Mapping[Key, Callable[[], object]]) -> dict[Key, float]:
    """Milliseconds that each call takes, called in order."""
    taken = {}
    for key, call in calls.items():
        started = time.perf_counter_ns()
        call()
        taken[key] = 1e-6 * (time.perf_counter_ns() - started)
    return taken
