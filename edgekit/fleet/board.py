"""Measuring bundles on one device: times on a real one, executed instructions on an emulated one.

Outputs come back from the very process that is measured, and an artifact whose outputs are wrong is given no figure.
Memory is measured afterwards, of those that were right.
"""

import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from edgekit.artifact import CaseParity
from edgekit.bench.record import SCHEMA_VERSION, Execution, Machine, Measurement, Memory, Profile, Run, Watch
from edgekit.errors import EdgekitError, MisuseError
from edgekit.fleet.compared import check
from edgekit.fleet.counting import execute, execution, profile_of
from edgekit.fleet.entries import Entry, Line, line_up, problem
from edgekit.fleet.memory import memories
from edgekit.fleet.observed import machine_of, watch_of
from edgekit.fleet.timing import measurement, take_times
from edgekit.measure import Bundle, Choice, Outcome
from edgekit.targets.device import Device
from edgekit.targets.job import Record
from edgekit.version import __version__


@dataclass(slots=True)
class Findings:
    """What a device gave so far; figures by the number of their bundle.

    `weighs` says that memory is wanted and means something there; `no_memory` why it is wanted and means nothing.
    """

    weighs: bool
    no_memory: str
    machine: Machine | None = None
    measurements: list[tuple[int, Measurement]] = field(default_factory=list)
    executions: list[tuple[int, Execution]] = field(default_factory=list)
    watches: list[Watch] = field(default_factory=list)

    def watch(self, record: Record) -> None:
        """Notes what a device and its state were during a job."""
        self.machine = self.machine or machine_of(record.device, record.before)
        self.watches.append(watch_of(record))


def measure_on(
    device: Device,
    bundles: Sequence[Bundle],
    choice: Choice,
    profile: Profile,
    command: Sequence[str],
    governor: str = "",
) -> Outcome:
    """Measures what a device can run of some bundles.

    Args:
        device: Where.
        bundles: What.
        choice: Which artifacts of them, and with how many threads.
        profile: How long; an emulated device counts, and takes none.
        command: The command line, for the record.
        governor: Of the device's clocks meanwhile; "" leaves them alone.

    Raises:
        MisuseError: There is nothing to measure, or it cannot be measured as it was asked for.
        EnvironmentProblemError: The device has no runtime for anything of it.
        DeviceError: The device was lost.
    """
    facts = device.probe()
    line = line_up(bundles, choice, facts)
    no_memory = device.no_memory if choice.memory else ""
    found = Findings(weighs=choice.memory and not no_memory, no_memory=no_memory)
    if device.counts and max(line.entries, default=1) > 1:
        raise MisuseError(f"Threads that wait execute instructions too: {device.address} counts with --threads 1.")
    for threads, entries in line.entries.items():
        for group in [[entry] for entry in entries] if profile.alone else [entries]:
            if facts.emulated:
                _count(device, group, threads, line, found)
            else:
                _time(device, group, threads, profile, governor, line, found)
    ran = profile_of(device) if facts.emulated else profile
    return Outcome(tuple(_runs(bundles, ran, command, found)), tuple(line.problems), tuple(line.skipped))


def _count(device: Device, entries: Sequence[Entry], threads: int, line: Line, found: Findings) -> None:
    record = execute(device, entries, threads)
    found.watch(record)
    right = list(_right(entries, record, line))
    memory = _memories(device, right, threads, line, found)
    for entry, parity in right:
        taken = execution(entry, record, parity, memory.get(entry.key))
        found.executions.append((entry.contestant.bundle, taken))


def _time(
    device: Device, entries: Sequence[Entry], threads: int, profile: Profile, governor: str, line: Line, found: Findings
) -> None:
    record, rounds = take_times(device, entries, threads, profile, governor)
    found.watch(record)
    right = list(_right(entries, record, line))
    memory = _memories(device, right, threads, line, found)
    for entry, parity in right:
        taken = measurement(entry, record, rounds[entry.key], parity, profile, memory.get(entry.key))
        found.measurements.append((entry.contestant.bundle, taken))


def _memories(
    device: Device, right: Sequence[tuple[Entry, CaseParity]], threads: int, line: Line, found: Findings
) -> dict[str, Memory]:
    return memories(device, [entry for entry, _ in right], threads, line) if found.weighs else {}


def _right(entries: Sequence[Entry], record: Record, line: Line) -> Iterator[tuple[Entry, CaseParity]]:
    """The artifacts that computed the right thing; the others become problems."""
    for entry in entries:
        try:
            yield entry, check(entry, record[entry.key], record.device.address)
        except EdgekitError as error:
            line.problems.append(problem(entry.folder, entry.name, entry.contestant, record.device, error))


def _runs(bundles: Sequence[Bundle], profile: Profile, command: Sequence[str], found: Findings) -> Iterator[Run]:
    """One run of each bundle; none where nothing ran at all."""
    if found.machine is None:
        return
    name, now = secrets.token_hex(8), datetime.now(UTC).isoformat(timespec="seconds")
    for index, bundle in enumerate(bundles):
        yield Run(
            schema_version=SCHEMA_VERSION,
            run=name,
            bundle=bundle.folder.resolve().name,
            created=now,
            edgekit_version=__version__,
            command=tuple(command),
            profile=profile,
            machine=found.machine,
            measurements=tuple(each for number, each in found.measurements if number == index),
            executions=tuple(each for number, each in found.executions if number == index),
            watches=tuple(found.watches),
            no_memory=found.no_memory,
        )
