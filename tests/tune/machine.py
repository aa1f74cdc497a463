"""A machine whose calls take as long as a test says: its clock moves only when something runs."""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest


@dataclass
class Machine:
    """Calls of known length, with noise, and whatever else the machine does meanwhile.

    Attributes:
        costs: Milliseconds of each call when nothing disturbs it.
        noise: How much longer a call takes that nothing disturbs, on the average, as a share.
        disturb: (call, how many calls there were before, random numbers) to a factor on the time of that call.
    """

    costs: Mapping[str, float]
    seed: int = 0
    noise: float = 0.03
    disturb: Callable[[str, int, random.Random], float] = lambda name, before, numbers: 1.0
    now: float = 0.0
    made: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.numbers = random.Random(self.seed)  # noqa: S311 - no secret

    def calls(self) -> dict[str, Callable[[], None]]:
        return {name: lambda name=name: self.run(name) for name in self.costs}  # type: ignore[misc]

    def run(self, name: str) -> None:
        jitter = 1.0 + self.numbers.expovariate(1 / self.noise) if self.noise else 1.0
        self.now += self.costs[name] * jitter * self.disturb(name, len(self.made), self.numbers)
        self.made.append(name)

    def seconds(self) -> float:
        return self.now / 1000

    def install(self, patch: pytest.MonkeyPatch) -> None:
        """Has rounds read this clock."""
        clock = SimpleNamespace(perf_counter_ns=lambda: round(self.now * 1e6))
        patch.setattr("edgekit.bench.rounds.time", clock)
