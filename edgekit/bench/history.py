"""Of all that was ever measured of two artifacts, what can be put beside each other.

Runs in which both took turns come first, the latest of them; then the latest two that nothing but the artifact tells
apart; and where there are none, the latest two with the reasons why they cannot be compared.

Executed instructions of emulated boards need no pairs: two counts compare whenever they were taken, if they are of one
board and of one build of the runtime.
"""

from collections.abc import Iterator, Sequence
from itertools import product

from msgspec import Struct

from edgekit.bench.compare import Comparison, Side, compare
from edgekit.bench.record import Execution, Measurement, Run, Setting


class Pairing(Struct, frozen=True, kw_only=True):
    """Two artifacts in one setting, as they were measured, on which devices, and how they compare."""

    setting: Setting
    first: Measurement
    second: Measurement
    comparison: Comparison
    devices: tuple[str, str]

    @property
    def together(self) -> bool:
        """Whether both are of one device, without which memory is not compared either."""
        return self.devices[0] == self.devices[1]


class Tally(Struct, frozen=True, kw_only=True):
    """Executed instructions of two artifacts on one emulated board; no ratio where `obstacles` says why."""

    device: str
    first: Execution
    second: Execution
    ratio: float | None
    obstacles: tuple[str, ...] = ()


def tallies(first: Sequence[Run], second: Sequence[Run], sha256: tuple[str, str]) -> tuple[Tally, ...]:
    """The latest counts of two artifacts on each emulated board that counted both; arguments as for `pairings`."""
    early, late = (_counts(runs, wanted) for runs, wanted in zip((first, second), sha256, strict=True))
    return tuple(_tally(device, early[device], late[device]) for device in early if device in late)


def _counts(runs: Sequence[Run], sha256: str) -> dict[str, Execution]:
    """The latest count by device."""
    found: dict[str, Execution] = {}
    for run in runs:
        for one in run.executions:
            if one.subject.sha256 == sha256 and one.instructions is not None:
                found.setdefault(run.machine.device, one)
    return found


def _tally(device: str, first: Execution, second: Execution) -> Tally:
    builds = [f"{one.subject.distribution} {one.subject.runtime_version}" for one in (first, second)]
    obstacles = (f"One was counted in {builds[0]}, the other in {builds[1]}.",) if builds[0] != builds[1] else ()
    ratio = second.instructions / first.instructions if first.instructions and second.instructions else None
    return Tally(device=device, first=first, second=second, ratio=None if obstacles else ratio, obstacles=obstacles)


def pairings(first: Sequence[Run], second: Sequence[Run], sha256: tuple[str, str]) -> tuple[Pairing, ...]:
    """The best pairing of two artifacts in each setting that both were measured in.

    Args:
        first: The runs of the first's bundle, the latest first.
        second: Those of the second's.
        sha256: Which artifact of each.
    """
    early, late = (
        [Side(run, one) for run in runs for one in run.measurements if one.subject.sha256 == wanted]
        for runs, wanted in zip((first, second), sha256, strict=True)
    )
    settings = dict.fromkeys(side.measurement.setting for side in early)
    found = (_best(_in_setting(early, setting), _in_setting(late, setting), setting) for setting in settings)
    return tuple(pairing for pairing in found if pairing)


def _in_setting(sides: Sequence[Side], setting: Setting) -> list[Side]:
    return [side for side in sides if side.measurement.setting == setting]


def _best(first: Sequence[Side], second: Sequence[Side], setting: Setting) -> Pairing | None:
    candidates = list(_compared(first, second))
    if not candidates:
        return None
    # A stable sort: within a rank the latest stay first.
    one, other, comparison = min(candidates, key=lambda each: (bool(each[2].obstacles), not each[2].paired))
    return Pairing(
        setting=setting,
        first=one.measurement,
        second=other.measurement,
        comparison=comparison,
        devices=(one.run.machine.device, other.run.machine.device),
    )


def _compared(first: Sequence[Side], second: Sequence[Side]) -> Iterator[tuple[Side, Side, Comparison]]:
    for one, other in product(first, second):
        yield one, other, compare(one, other)
