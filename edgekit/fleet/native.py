"""Measuring bundles on devices without Python, by benchmark programs that the user has for the runtimes.

What such a program prints is all there is: it is recorded as printed, and marked wherever outputs were not compared.
"""

import hashlib
import math
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
from msgspec import structs
from numpy.typing import NDArray

from edgekit.artifact import CaseParity
from edgekit.bench.record import SCHEMA_VERSION, Evidence, Machine, Printed, Profile, Reason, Run, Verdict, Watch
from edgekit.bench.trust import OF_MACHINE, Case, emulation, judge
from edgekit.errors import DeviceError, EdgekitError, EnvironmentProblemError, MisuseError
from edgekit.fleet.compared import check, subject_of
from edgekit.fleet.entries import Entry, line_up, problem
from edgekit.fleet.observed import evidence_of, machine_of, reasons_of, watch_of
from edgekit.fleet.run import Fleet, joined
from edgekit.measure import LOCAL, Bundle, Choice, Outcome, Problem
from edgekit.targets.address import parse_address
from edgekit.targets.answer import disturbances
from edgekit.targets.counter import build_counter, read_total
from edgekit.targets.job import Arrays, Facts, Measured, Record
from edgekit.targets.link import Progress
from edgekit.targets.native import OUTPUT, PROGRAMS, Figures, Given, Order, fault, read_figures, unreadable
from edgekit.targets.shell_device import open_shell
from edgekit.targets.shell_machine import look
from edgekit.targets.shell_session import ARTIFACTS, ShellSession
from edgekit.version import __version__

HELP_SECONDS = 60.0
PATIENCE_S = 600.0
"""What a program may take beside the inferences that count: to load the network, and to warm up."""

EMULATED_PATIENCE_S = 3600.0
COUNTED_RUNS = 2

SLACK = 3.0
"""A device may be this much slower than the first inferences had it."""

NO_SAMPLES = "The program prints no single times: there is no interval, and nobody sees whether it was steady."


@dataclass(frozen=True)
class Work:
    """What is done on every device."""

    bundles: Sequence[Bundle]
    choice: Choice
    profile: Profile
    command: Sequence[str]
    programs: Mapping[str, Given]


def measure_natively(addresses: Sequence[str], work: Work, note: Progress) -> Outcome:
    """Measures bundles with programs of the user's: on this machine first and alone, then on all other devices.

    Raises:
        MisuseError: An address is none, or named twice, or there is nothing to measure.
    """
    texts = [parse_address(address).text for address in addresses]
    if twice := [text for text in texts if texts.count(text) > 1]:
        raise MisuseError(f"{twice[0]} is named twice.")
    outcomes: dict[str, Outcome] = {}
    for group in ([text for text in texts if text == LOCAL], [text for text in texts if text != LOCAL]):
        fleet = Fleet(
            lambda session: measure_with(session, work, note),
            note,
            lambda text, say: open_shell(parse_address(text), say),
        )
        outcomes |= fleet.visit(group)
    return joined([outcomes[text] for text in texts])


@dataclass(slots=True)
class _Findings:
    machine: Machine | None = None
    printed: list[tuple[int, Printed]] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    watches: list[Watch] = field(default_factory=list)


def measure_with(session: ShellSession, work: Work, note: Progress) -> Outcome:
    """Measures what there are programs for, one artifact after the other, when nobody else measures there.

    Raises:
        MisuseError: There is nothing to measure.
        EnvironmentProblemError: There is a program for nothing of it.
        DeviceError: The device was lost.
    """
    facts, state = look(session)
    line = line_up(work.bundles, work.choice, facts, work.programs, lacking)
    found = _Findings(machine_of(facts, state), problems=line.problems)
    session.take(note)
    for entry in (entry for entries in line.entries.values() for entry in entries):
        given = work.programs[entry.member.artifact.runtime]
        try:
            printed, watch = _Run(session, entry, given, facts, work.profile).carry_out()
        except EdgekitError as error:
            if not session.alive:
                if isinstance(error, DeviceError):
                    raise
                raise session.lost() from error
            found.problems.append(problem(entry.folder, entry.name, entry.contestant, facts, error))
            continue
        found.printed.append((entry.contestant.bundle, printed))
        found.watches.append(watch)
    return Outcome(_runs(work, found), tuple(found.problems), tuple(line.skipped))


def lacking(runtime: str, facts: Facts) -> str:
    """Why nothing of a runtime is measured that no program was given for."""
    if runtime not in PROGRAMS:
        return f"{runtime} has no benchmark program that is known here; it needs Python on {facts.address}"
    return f"No program of {runtime}'s was given for {facts.address}. Give one: --native {runtime}=PROGRAM"


class _Run:
    """One artifact in one program on one device."""

    def __init__(self, session: ShellSession, entry: Entry, given: Given, facts: Facts, profile: Profile) -> None:
        self._session, self._entry, self._given = session, entry, given
        self._facts, self._profile = facts, profile
        self._folder = f"{entry.member.artifact.sha256[:16]}"
        self._program = given.place or f"programs/{given.sha256[:16]}/{given.name}"

    def carry_out(self) -> tuple[Printed, Watch]:
        """Sends what is needed, lets it run, compares what can be compared."""
        self._send()
        order = self._order()
        obstacle = self._obstacle(order)
        orders = [order] if obstacle else [replace(order, given=name) for name in self._send_inputs()]
        _, before = look(self._session)
        figures, outputs = self._compute(orders) if self._facts.emulated else self._time(orders)
        instructions = self._count(order)
        _, after = look(self._session)
        measured = Measured(
            key=self._entry.key,
            runtime=self._given.runtime,
            distribution=self._given.name,
            outputs=tuple(outputs),
        )
        record = Record(
            device=self._facts,
            measure="latency",
            threads=order.threads,
            artifacts=(measured,),
            before=before,
            after=after,
            peak_kib=0,
            disturbances=tuple(disturbances(before, after)),
        )
        parity = None if obstacle else check(self._entry, measured, self._facts.address)
        printed = self._printed(figures, record, parity, obstacle)
        return structs.replace(printed, instructions=instructions), watch_of(record)

    def _send(self) -> None:
        if alien := self._given.foreign(self._facts.machine):
            raise EnvironmentProblemError(
                f"{self._given.name} is a program for {alien}, and {self._facts.address} is {self._facts.machine}. "
                "Build one for it."
            )
        if self._given.file is not None:
            self._session.push(self._program, self._given.file)
        for file in self._entry.files:
            self._session.push(f"{ARTIFACTS}/{self._folder}/{file.name}", file)

    def _send_inputs(self) -> list[str]:
        """Brings the cases' inputs there, and tells their names."""
        names = []
        for case in self._entry.against.cases:
            (given,) = case.inputs
            content = np.ascontiguousarray(given, given.dtype.newbyteorder("<")).tobytes()
            names.append(hashlib.sha256(content).hexdigest()[:16])
            self._session.push(f"{ARTIFACTS}/{names[-1]}", content)
        return names

    def _order(self) -> Order:
        order = Order(
            file=self._entry.name,
            shapes=tuple(spec.shape for spec in self._entry.against.inputs),
            threads=self._entry.contestant.setting.threads,
            runs=1,
            most_seconds=self._profile.limit_seconds,
        )
        if self._given.program.can_exchange is None:
            return order
        told = self._session.run(self._folder, self._program, ("--help",), HELP_SECONDS)
        return replace(order, help=told.said)

    def _obstacle(self, order: Order) -> str:
        """Why outputs cannot be compared, as a sentence; "" where they can."""
        program, against = self._given.program, self._entry.against
        if program.can_exchange is None:
            return program.remark
        if not program.can_exchange(order.help):
            return f"This {program.name} takes no input from a file, or leaves no output in one."
        if len(against.inputs) != 1 or len(against.outputs) != 1:
            return f"{program.name} does not say which of several inputs or outputs is which."
        return ""

    def _time(self, orders: Sequence[Order]) -> tuple[Figures, list[Arrays]]:
        """A short run tells how long an inference takes, a second one gives the figures; each other case has one."""
        profile = self._profile
        each_s = 1e-3 * self._once(orders[0], PATIENCE_S)[0].mean_ms
        wanted = max(profile.runs, math.ceil(profile.seconds / each_s))
        runs = max(min(wanted, math.floor(profile.limit_seconds / each_s)), 1)
        long = PATIENCE_S + SLACK * each_s * (runs + self._given.program.warm_up)
        figures, output = self._once(replace(orders[0], runs=runs), long)
        return figures, [output, *(self._once(order, PATIENCE_S)[1] for order in orders[1:])]

    def _compute(self, orders: Sequence[Order]) -> tuple[Figures, list[Arrays]]:
        """One inference of each case; an emulator's time is none."""
        found = [self._once(order, EMULATED_PATIENCE_S) for order in orders]
        return found[0][0], [output for _, output in found]

    def _count(self, order: Order) -> int | None:
        """Instructions of one inference, from what the whole program executes with few and with more; None if unknown.

        Raises:
            MisuseError: There are several threads, and those that wait execute instructions too.
        """
        if self._session.guest is None:
            return None
        if order.threads != 1:
            raise MisuseError(
                f"Threads that wait execute instructions too: {self._facts.address} counts with --threads 1."
            )
        few, more = (self._total(replace(order, runs=1 + extra)) for extra in (0, COUNTED_RUNS))
        return None if few is None or more is None else round((more - few) / COUNTED_RUNS)

    def _total(self, order: Order) -> int | None:
        marks = f"{ARTIFACTS}/marks"
        figures, _ = self._once(
            order, EMULATED_PATIENCE_S, ("-plugin", f"{build_counter()},out={self._session.path(marks)}")
        )
        total = read_total(self._session.fetch(marks).decode())
        return total.instructions if figures.runs == order.runs else None

    def _once(self, order: Order, timeout_s: float, options: Sequence[str] = ()) -> tuple[Figures, Arrays]:
        arguments = self._given.program.arguments(order)
        ended = self._session.run(self._folder, self._program, arguments, timeout_s, options)
        if error := fault(self._given, ended, self._entry.name, self._facts.address):
            raise error
        figures = read_figures(self._given.program, ended.said, order)
        if figures is None:
            raise unreadable(self._given, ended, self._facts.address)
        return figures, self._fetch() if order.given else {}

    def _fetch(self) -> Arrays:
        """The output that the program left, taken for the reference's own kind; nothing else says what it is."""
        (spec,) = self._entry.against.outputs
        content = self._session.fetch(f"{ARTIFACTS}/{OUTPUT}")
        flat: NDArray[Any] = np.frombuffer(content[: len(content) // 4 * 4], "<f4")
        fits = len(content) == 4 * math.prod(spec.shape)
        return {spec.name: flat.reshape(spec.shape) if fits else flat}

    def _printed(self, figures: Figures, record: Record, parity: CaseParity | None, obstacle: str) -> Printed:
        evidence = evidence_of(record)
        printed = Printed(
            subject=structs.replace(subject_of(self._entry, record.artifacts[0]), build=self._given.sha256),
            setting=self._entry.contestant.setting,
            runs=figures.runs,
            parity=parity,
            uncompared=obstacle,
            evidence=evidence,
            verdict=self._verdict(figures, record, evidence, obstacle),
            emulated=self._facts.emulated,
        )
        if printed.emulated:
            return printed
        return structs.replace(
            printed,
            minimum_ms=figures.minimum_ms,
            mean_ms=figures.mean_ms,
            maximum_ms=figures.maximum_ms,
            median_ms=figures.median_ms,
            load_ms=figures.load_ms,
            first_ms=figures.first_ms,
        )

    def _verdict(self, figures: Figures, record: Record, evidence: Evidence, obstacle: str) -> Verdict:
        """Never TRUSTED: there are no single times by which it could be judged."""
        emulated, profile = self._facts.emulated, self._profile
        texts = [] if emulated else [NO_SAMPLES]
        if obstacle:
            texts.append(f"Outputs were NOT compared: nobody knows whether it computed this network. {obstacle}")
        if figures.runs < profile.runs and not emulated:
            texts.append(f"Only {figures.runs} runs were done; the profile {profile.name} asks for {profile.runs}.")
        reasons = (*(Reason(level="NOISY", text=text) for text in texts), *reasons_of(record))
        setting = self._entry.contestant.setting
        case = Case((), figures.runs, True, setting, profile, evidence, emulated=emulated)
        return judge(case, reasons, (emulation,) if emulated else OF_MACHINE)


def _runs(work: Work, found: _Findings) -> tuple[Run, ...]:
    """One run of each bundle; none where nothing ran at all."""
    if found.machine is None or not found.printed:
        return ()
    name, now = secrets.token_hex(8), datetime.now(UTC).isoformat(timespec="seconds")
    return tuple(
        Run(
            schema_version=SCHEMA_VERSION,
            run=name,
            bundle=bundle.folder.resolve().name,
            created=now,
            edgekit_version=__version__,
            command=tuple(work.command),
            profile=work.profile,
            machine=found.machine,
            measurements=(),
            watches=tuple(found.watches),
            printed=tuple(each for number, each in found.printed if number == index),
        )
        for index, bundle in enumerate(work.bundles)
    )
