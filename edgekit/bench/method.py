"""Measuring latency: load, first inference, parity, warm-up, then turns.

    A  load  first  verify  warm up
    B                                load  first  verify  warm up
                                                                   A B C  A B C  A B C ...

Every artifact has a process of its own, which waits while others have their turn. A turn is one inference that is not
counted, which brings caches and clock back to where they are when the artifact runs alone, and then as many counted
ones as spread the profile's time and runs evenly over its rounds. Drift of the machine so hits all alike, and the
rounds of two artifacts are pairs.
"""

import math
import os
import time
from collections.abc import Hashable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from edgekit.artifact import CaseParity
from edgekit.bench.child import Child, Place
from edgekit.bench.machine import Glance, Probe, evidence
from edgekit.bench.protocol import Infer, Load, Prepared, Timed, Verified, Verify
from edgekit.bench.record import Evidence, Profile, Round, WarmUp
from edgekit.bundle import Progress, Stage
from edgekit.errors import EdgekitError, EnvironmentProblemError, ParityError
from edgekit.verify import failure, held_to, tightest

WINDOW_SECONDS = 0.2
"""A warm-up is looked at in windows of about this long."""

WINDOW_RUNS = (3, 200)
"""Inferences of a window at least and at most."""

STEADY = 0.98
"""A window whose fastest inference takes more than this share of the fastest before has nothing left to warm."""

WARM_UP_SECONDS = 15.0
"""After this much of it a warm-up is over, steady or not."""

HEADROOM_BYTES = 256 << 20
"""Memory that stays free: less, and a system starts to swap or to end processes."""

SIZE_IN_MEMORY = 3
"""An artifact takes up to about this many times its size while it is loaded, where a runtime packs the weights anew."""

Key = TypeVar("Key", bound=Hashable)


@dataclass(slots=True)
class Taken:
    """What was measured of one artifact."""

    prepared: Prepared
    load_ms: float
    first_ms: float
    parity: CaseParity
    warm_up: WarmUp
    expected_ms: float
    rounds: list[Round] = field(default_factory=list)
    glances: list[Glance] = field(default_factory=list)
    evidence: Evidence | None = None

    @property
    def runs(self) -> int:
        """Counted inferences so far."""
        return sum(len(each.samples_ms) for each in self.rounds)

    def has_enough(self, profile: Profile) -> bool:
        """Whether the profile asks for no more."""
        total = sum(sum(each.samples_ms) for each in self.rounds)
        enough = self.runs >= profile.runs and total >= 1e3 * profile.seconds
        return enough and len(self.rounds) >= profile.rounds

    def turn_runs(self, profile: Profile) -> int:
        """Counted inferences of one turn."""
        wanted = max(profile.runs, math.ceil(1e3 * profile.seconds / self.expected_ms))
        return max(math.ceil(wanted / profile.rounds), 1)


@dataclass(frozen=True, slots=True)
class Seat:
    """An artifact that takes part: where it is, its process, and what was measured so far."""

    place: Place
    child: Child
    taken: Taken


@contextmanager
def stage(progress: Progress, name: str) -> Iterator[None]:
    """Times the block as one stage."""
    progress.begin(name)
    started = time.perf_counter()
    yield
    progress.end(Stage(name=name, seconds=round(time.perf_counter() - started, 3), cached=False))


def measure(
    places: Mapping[Key, Place], profile: Profile, probe: Probe, progress: Progress
) -> dict[Key, Taken | EdgekitError]:
    """Measures artifacts in turns, or one after the other where the profile says so.

    Returns:
        What was measured of each, or the error that kept it from being measured: the others go on without it.
    """
    groups = [[key] for key in places] if profile.alone else [list(places)]
    found: dict[Key, Taken | EdgekitError] = {}
    for group in groups:
        found.update(_together({key: places[key] for key in group}, profile, probe, progress))
    return found


def _together(
    places: Mapping[Key, Place], profile: Profile, probe: Probe, progress: Progress
) -> dict[Key, Taken | EdgekitError]:
    load = probe.load()
    failed: dict[Key, Taken | EdgekitError] = {}
    with ExitStack() as stack:
        seats: dict[Key, Seat] = {}
        for key, place in places.items():
            try:
                check_room(probe, place, len(places))
                with stage(progress, f"warm up {place.path.name}"):
                    seats[key] = _seat(place, stack.enter_context(Child(place.path.name)))
            except EdgekitError as error:
                failed[key] = error
        everyone = dict(seats)
        before = probe.moment(_pids(seats.values()))
        with stage(progress, "rounds"):
            failed |= _take_rounds(seats, profile, probe, progress)
        after = probe.moment(_pids(seat for key, seat in everyone.items() if key in seats))
    for seat in seats.values():
        seat.taken.evidence = evidence(probe, load, before, after, seat.taken.glances)
    found = {key: seat.taken for key, seat in seats.items()}
    return {key: failed.get(key) or found[key] for key in places}


def _pids(seats: Iterable[Seat]) -> list[int]:
    return [os.getpid(), *(seat.child.pid for seat in seats)]


def check_room(probe: Probe, place: Place, together: int) -> None:
    """Refuses an artifact that would drive the machine out of memory, where the machine tells.

    Raises:
        EnvironmentProblemError: It would.
    """
    free = probe.available_bytes()
    needed = SIZE_IN_MEMORY * place.size_bytes + HEADROOM_BYTES
    if free is not None and free < needed:
        raise EnvironmentProblemError(
            f"There is not enough memory for {place.path.name} beside the others: {free >> 20} MiB are free, it may "
            f"take {needed >> 20}. All {together} artifacts are in memory at once; choose fewer with --format or "
            "--runtime."
        )


def _seat(place: Place, child: Child) -> Seat:
    """Takes an artifact to the point from which on its inferences count.

    Raises:
        ParityError: It is another network than its bundle says.
        EdgekitError: It does not load, or its runtime fails.
    """
    prepared = child.ask(place.prepare, Prepared)
    (load_ms,) = child.ask(Load(threads=place.setting.threads), Timed).samples_ms
    (first_ms,) = child.ask(Infer(runs=1), Timed).samples_ms
    cases = held_to(child.ask(Verify(), Verified).parity, place.recorded)
    if reason := failure(cases):
        raise ParityError(f"{place.path.name} is not the same network: {reason}. It was not timed.")
    warm_up, expected_ms = _warm_up(child)
    return Seat(place, child, Taken(prepared, load_ms, first_ms, tightest(cases), warm_up, expected_ms))


def _warm_up(child: Child) -> tuple[WarmUp, float]:
    """Runs an artifact until it becomes no faster; also gives the milliseconds an inference is then likely to take."""
    (guess_ms,) = child.ask(Infer(runs=1), Timed).samples_ms
    least, most = WINDOW_RUNS
    runs = min(max(round(1e3 * WINDOW_SECONDS / guess_ms), least), most)
    fastest, done, started = math.inf, 1, time.monotonic()
    while True:
        window = child.ask(Infer(runs=runs), Timed).samples_ms
        done += runs
        steady = min(window) > STEADY * fastest
        if steady or time.monotonic() - started > WARM_UP_SECONDS:
            return WarmUp(runs=done, steady=steady), sorted(window)[len(window) // 2]
        fastest = min(window)


def _take_rounds(
    seats: dict[Key, Seat], profile: Profile, probe: Probe, progress: Progress
) -> dict[Key, Taken | EdgekitError]:
    """Lets everyone take turns until everyone has enough; whoever fails leaves `seats` and is returned."""
    failed: dict[Key, Taken | EdgekitError] = {}
    began = time.monotonic()
    settle = 1 if len(seats) > 1 else 0
    limit = began + profile.limit_seconds * len(seats)
    number = 0
    while time.monotonic() < limit and not all(seat.taken.has_enough(profile) for seat in seats.values()):
        number += 1
        progress.begin(f"round {number} of {max(profile.rounds, number)}, {len(seats)} in turn")
        for key, seat in list(seats.items()):
            try:
                _turn(seat, profile, probe, began, settle)
            except EdgekitError as error:
                failed[key] = error
                del seats[key]
    return failed


def _turn(seat: Seat, profile: Profile, probe: Probe, began: float, settle: int) -> None:
    """One turn: its inferences, and the machine in its middle."""
    setting, taken = seat.place.setting, seat.taken
    seen: list[Glance] = []

    def look() -> None:
        seen.append(probe.glance(setting.affinity, setting.threads))

    runs = taken.turn_runs(profile)
    at, half = time.monotonic() - began, 5e-4 * taken.expected_ms * (runs + settle)
    samples = seat.child.ask(Infer(runs=runs, settle=settle), Timed, meanwhile=look, every=half).samples_ms
    if not seen:  # it was done sooner than expected; the clock is still what it was
        look()
    glance = seen[len(seen) // 2]
    taken.glances.append(glance)
    taken.rounds.append(
        Round(at_s=at, samples_ms=samples, clock_mhz=glance.clock_mhz, temperature_c=glance.temperature_c)
    )
