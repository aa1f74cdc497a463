"""Two latencies beside each other: a ratio with an interval, or the reasons why there is none.

Of one run the rounds are pairs: the ratio is the median of the rounds' ratios, with the order statistics of that median
for an interval, so that drift cancels. Of two runs it is the ratio of the medians, with the extremes of their
intervals, and only where nothing but the artifact differs.
"""

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from msgspec import Struct

from edgekit.bench.record import Execution, Interval, Machine, Measurement, Printed, Run
from edgekit.bench.statistics import median_interval, round_medians


@dataclass(frozen=True, slots=True)
class Side:
    """A measurement, and the run it is of."""

    run: Run
    measurement: Measurement


class Comparison(Struct, frozen=True, kw_only=True):
    """How long the second takes over the first.

    `paired` says that they took turns. `ratio` is None where `obstacles` says why they cannot be compared.
    """

    ratio: float | None
    interval: Interval | None
    paired: bool
    obstacles: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """`1.024 [1.003, 1.045]`, as far as it is known; empty where they cannot be compared."""
        if self.ratio is None:
            return ""
        return (
            f"{self.ratio:.3f} [{self.interval.low:.3f}, {self.interval.high:.3f}]"
            if self.interval
            else f"{self.ratio:.3f}"
        )


def compare(first: Side, second: Side) -> Comparison:
    """The second's latency over the first's."""
    paired = first.run.run == second.run.run and not first.run.profile.alone
    obstacles = (*_invalid(first, second), *(() if paired else _differences(first, second)))
    if obstacles:
        return Comparison(ratio=None, interval=None, paired=paired, obstacles=obstacles)
    one, other = first.measurement, second.measurement
    if paired:
        ratios = [
            late / early for early, late in zip(round_medians(one.rounds), round_medians(other.rounds), strict=False)
        ]
        return Comparison(ratio=statistics.median(ratios), interval=median_interval(ratios), paired=True)
    ratio = other.latency.median_ms / one.latency.median_ms
    return Comparison(ratio=ratio, interval=_quotient(one.latency.interval, other.latency.interval), paired=False)


def _quotient(below: Interval | None, above: Interval | None) -> Interval | None:
    """The interval of a quotient; both must hold at once, so their doubts add up."""
    if below is None or above is None:
        return None
    return Interval(
        low=above.low / below.high, high=above.high / below.low, confidence=above.confidence + below.confidence - 1
    )


def _invalid(first: Side, second: Side) -> Iterator[str]:
    for each in (first,) if first is second else (first, second):
        verdict = each.measurement.verdict
        if verdict.level == "INVALID":
            texts = [reason.text for reason in verdict.reasons if reason.level == "INVALID"]
            yield f"The latency of {each.measurement.subject.artifact} is INVALID: {' '.join(texts)}"


_MACHINE = ("device", "architecture", "cores", "memory_bytes", "kernel", "emulated", "niceness", "environment")
"""What must be equal for two runs to be of one machine in one state."""


def _differences(first: Side, second: Side) -> Iterator[str]:
    """What else differs between two runs, as sentences."""
    one, other = first.measurement, second.measurement
    yield from _machines(first.run.machine, second.run.machine)
    if one.setting != other.setting:
        yield f"One ran with {setting_text(one)}, the other with {setting_text(other)}."
    if one.subject.runtime == other.subject.runtime:
        versions = one.subject.runtime_version, other.subject.runtime_version
        if versions[0] != versions[1]:
            yield f"One ran in {one.subject.runtime} {versions[0]}, the other in {versions[1]}."
        elif one.subject.build != other.subject.build:
            yield f"They ran in different builds of {one.subject.runtime} {versions[0]}."
    if first.run.profile.alone != second.run.profile.alone:
        yield f"One was measured with profile {first.run.profile.name}, the other with {second.run.profile.name}."


def _machines(first: Machine, second: Machine) -> Iterator[str]:
    for name in _MACHINE:
        one, other = getattr(first, name), getattr(second, name)
        if one != other:
            yield f"They are of different machines: {name.removesuffix('_bytes')} is {_text(one)} and {_text(other)}."


def _text(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(f"{core.count} x {core.name} {core.highest_mhz} MHz" for core in value)
    return str(value)


def names(sides: Sequence[Side]) -> list[str]:
    """What to call each artifact: its file's name, with its bundle's where another has a file of that name."""
    files = [side.measurement.subject.artifact for side in sides]
    bundles = [{side.run.bundle for side in sides if side.measurement.subject.artifact == file} for file in files]
    return [
        f"{side.run.bundle}/{file}" if len(held) > 1 else file
        for side, file, held in zip(sides, files, bundles, strict=True)
    ]


def setting_text(taken: Measurement | Execution | Printed) -> str:
    """1 thread, or 2 threads on processors 0, 1."""
    setting = taken.setting
    threads = f"{setting.threads} thread{'s' if setting.threads > 1 else ''}"
    return threads if setting.affinity is None else f"{threads} on processors {', '.join(map(str, setting.affinity))}"
