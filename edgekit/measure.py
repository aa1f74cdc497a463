"""Measuring bundles: which of their artifacts, in which settings, and what becomes of the figures.

bundles -> artifacts x settings -> memory, each alone -> latency, in turns -> verdicts -> one run for each bundle
"""

import os
import platform
import re
import secrets
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import cycle
from pathlib import Path

import msgspec

from edgekit.bench.child import Place
from edgekit.bench.machine import ROOT, Probe
from edgekit.bench.method import Taken, measure, stage
from edgekit.bench.record import SCHEMA_VERSION, Core, Machine, Measurement, Memory, Profile, Run, Setting, Subject
from edgekit.bench.statistics import latency, minutes, round_medians
from edgekit.bench.store import write_run
from edgekit.bench.trust import Case, judge
from edgekit.bundle import Manifest, Member, Progress, check_file
from edgekit.errors import CheckFailedError, EdgekitError, MisuseError, OutputError
from edgekit.files import whole_file
from edgekit.footprint import measure_memory
from edgekit.targets.board import probe_host
from edgekit.version import __version__

LOCAL = "local"

READ_BY_RUNTIMES = re.compile(r"(OMP|KMP|GOMP|MKL|OPENBLAS|ORT|OV|OPENVINO|TFLITE|XNNPACK|LD_PRELOAD|MALLOC)(_|$)")
"""Names of variables by which users and systems steer runtimes."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle to measure."""

    folder: Path
    manifest: Manifest


@dataclass(frozen=True, slots=True)
class Choice:
    """What to measure of each bundle; no runtimes or formats are all of them."""

    settings: tuple[Setting, ...] = (Setting(threads=1),)
    runtimes: tuple[str, ...] = ()
    formats: tuple[str, ...] = ()
    memory: bool = True

    def takes(self, member: Member) -> bool:
        """Whether an artifact is among what was asked for."""
        wanted = not self.runtimes or member.artifact.runtime in self.runtimes
        return wanted and (not self.formats or member.artifact.format in self.formats)


@dataclass(frozen=True, slots=True)
class Contestant:
    """One artifact of one bundle in one setting."""

    bundle: int
    member: int
    setting: Setting


@dataclass(frozen=True, slots=True)
class Problem:
    """Why an artifact has no figures, or lacks some; with no bundle and no artifact it is the whole device."""

    bundle: Path | None
    artifact: str
    setting: Setting | None
    error: EdgekitError
    device: str = LOCAL


@dataclass(frozen=True, slots=True)
class Skipped:
    """An artifact that nobody asked for by name and that a device cannot run, and what would help."""

    device: str
    bundle: Path
    artifact: str
    reason: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a measuring came to: for each device one run of each bundle, in order, and what went wrong."""

    runs: tuple[Run, ...]
    problems: tuple[Problem, ...]
    skipped: tuple[Skipped, ...] = ()


def measure_bundles(
    bundles: Sequence[Bundle],
    choice: Choice,
    profile: Profile,
    command: Sequence[str],
    progress: Progress,
    root: Path = ROOT,
) -> Outcome:
    """Measures artifacts of several bundles in turns.

    Args:
        bundles: What to measure.
        choice: Which artifacts of them, and how.
        profile: How long.
        command: The command line, for the record.
        progress: Who watches.
        root: Folder with the `proc` and `sys` that tell about the machine.

    Raises:
        MisuseError: Nothing of the bundles was chosen.
        ArtifactError: A bundle's reference is missing or is not the one in the manifest.
    """
    contestants = choose_contestants(bundles, choice)
    places, problems = _places(bundles, contestants)
    memory = _memories(bundles, places, problems, progress) if choice.memory else {}
    probe, machine = Probe(root), host_machine(root)
    taken: dict[Contestant, Taken] = {}
    for contestant, result in measure(places, profile, probe, progress).items():
        if isinstance(result, Taken):
            taken[contestant] = result
        else:
            problems.append(_problem(bundles, contestant, result))
    measured = {
        contestant: _measurement(bundles[contestant.bundle], contestant, one, memory.get(contestant), profile, machine)
        for contestant, one in taken.items()
    }
    return Outcome(_runs(bundles, measured, profile, command, machine), tuple(problems))


def choose_contestants(bundles: Sequence[Bundle], choice: Choice) -> list[Contestant]:
    """What there is to measure, by bundle, artifact and setting.

    Raises:
        MisuseError: It is nothing.
        ArtifactError: A bundle's reference is missing or is not the one in the manifest.
    """
    contestants = [
        Contestant(index, number, setting)
        for index, bundle in enumerate(bundles)
        for number, member in enumerate(bundle.manifest.members)
        if choice.takes(member)
        for setting in choice.settings
    ]
    if not contestants:
        held = sorted({each.artifact.format for bundle in bundles for each in bundle.manifest.members})
        raise MisuseError(f"Nothing is left to measure; the bundles hold {', '.join(held) or 'no artifact'}.")
    for bundle in bundles:
        check_file(bundle.folder, bundle.manifest.reference)
    return contestants


def _places(
    bundles: Sequence[Bundle], contestants: Sequence[Contestant]
) -> tuple[dict[Contestant, Place], list[Problem]]:
    """Where each artifact is, after comparing its hashes; and those that are not what the manifest says."""
    places, problems = {}, []
    for contestant in contestants:
        bundle = bundles[contestant.bundle]
        member = bundle.manifest.members[contestant.member]
        artifact = member.artifact
        try:
            paths = [check_file(bundle.folder, file) for file in artifact.files]
        except CheckFailedError as error:
            problems.append(_problem(bundles, contestant, error))
            continue
        places[contestant] = Place(
            runtime=artifact.runtime,
            path=paths[0],
            size_bytes=sum(file.size for file in artifact.files),
            reference=bundle.folder / bundle.manifest.reference.name,
            setting=contestant.setting,
            recorded=member.recorded,
        )
    return places, problems


def _memories(
    bundles: Sequence[Bundle], places: Mapping[Contestant, Place], problems: list[Problem], progress: Progress
) -> dict[Contestant, Memory]:
    """Memory of each artifact, one after the other; an artifact that fails here fails again when it is timed."""
    found = {}
    for contestant, place in places.items():
        try:
            with stage(progress, f"memory {place.path.name}"):
                found[contestant] = measure_memory(place)
        except CheckFailedError:
            continue
        except EdgekitError as error:
            problems.append(_problem(bundles, contestant, error))
    return found


def _problem(bundles: Sequence[Bundle], contestant: Contestant, error: EdgekitError) -> Problem:
    bundle = bundles[contestant.bundle]
    name = bundle.manifest.members[contestant.member].artifact.files[0].name
    return Problem(bundle.folder, name, contestant.setting, error)


def _measurement(
    bundle: Bundle, contestant: Contestant, taken: Taken, memory: Memory | None, profile: Profile, machine: Machine
) -> Measurement:
    assert taken.evidence is not None, "it comes with the last round"  # noqa: S101
    found, rounds = latency(taken.rounds), tuple(taken.rounds)
    clock = taken.evidence.clock_mhz
    case = Case(
        medians=round_medians(rounds),
        runs=taken.runs,
        steady=taken.warm_up.steady,
        setting=contestant.setting,
        profile=profile,
        evidence=taken.evidence,
        mixed=len(machine.cores) > 1,
        emulated=machine.emulated,
    )
    return Measurement(
        subject=subject(bundle.manifest, contestant.member, taken),
        setting=contestant.setting,
        import_ms=taken.prepared.import_ms,
        load_ms=taken.load_ms,
        first_ms=taken.first_ms,
        warm_up=taken.warm_up,
        rounds=rounds,
        latency=found,
        mcycles=None if clock is None else 1e-3 * found.median_ms * clock,
        minutes=minutes(rounds),
        parity=taken.parity,
        memory=memory,
        evidence=taken.evidence,
        verdict=judge(case),
    )


def subject(manifest: Manifest, member: int, taken: Taken) -> Subject:
    """What was measured, in words that identify it."""
    artifact = manifest.members[member].artifact
    return Subject(
        model=manifest.model.name,
        artifact=artifact.files[0].name,
        sha256=artifact.sha256,
        format=artifact.format,
        precision=artifact.precision,
        runtime=artifact.runtime,
        runtime_version=taken.prepared.version,
        build=taken.prepared.build,
        inputs=tuple(spec.shape for spec in manifest.inputs),
    )


def _runs(
    bundles: Sequence[Bundle],
    measured: Mapping[Contestant, Measurement],
    profile: Profile,
    command: Sequence[str],
    machine: Machine,
) -> tuple[Run, ...]:
    name, now = secrets.token_hex(8), datetime.now(UTC).isoformat(timespec="seconds")
    return tuple(
        Run(
            schema_version=SCHEMA_VERSION,
            run=name,
            bundle=bundle.folder.resolve().name,
            created=now,
            edgekit_version=__version__,
            command=tuple(command),
            profile=profile,
            machine=machine,
            measurements=tuple(each for contestant, each in measured.items() if contestant.bundle == index),
        )
        for index, bundle in enumerate(bundles)
    )


def host_machine(root: Path = ROOT) -> Machine:
    """The machine this process runs on.

    Raises:
        MisuseError: edgekit's own description of the host is malformed.
    """
    board = probe_host(root)
    governors = " and ".join(Probe(root).governors()) or None
    libc = " ".join(platform.libc_ver()).strip()
    return Machine(
        device=LOCAL,
        architecture=board.architectures[0],
        cores=tuple(
            Core(name=each.core, count=each.count, highest_mhz=each.clock_mhz, governor=governors)
            for each in board.clusters
        ),
        memory_bytes=board.memory_mb << 20,
        system=platform.system(),
        kernel=platform.release(),
        libc=libc or "unknown",
        python=platform.python_version(),
        virtual=_is_virtual(root),
        emulated=False,
        niceness=os.nice(0) if sys.platform != "win32" else 0,
        environment={name: value for name, value in sorted(os.environ.items()) if READ_BY_RUNTIMES.match(name)},
    )


def _is_virtual(root: Path) -> bool:
    """Whether the processor says that a hypervisor is below; ARM's does not tell."""
    try:
        text = (root / "proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return re.search(r"^flags\s*:.*\bhypervisor\b", text, re.MULTILINE) is not None


def choose_settings(threads: Sequence[int], affinity: tuple[int, ...] | None) -> tuple[Setting, ...]:
    """One setting for each number of threads; one thread where none is given.

    Raises:
        MisuseError: The processors are too few, or not this process's.
    """
    settings = tuple(Setting(threads=count, affinity=affinity) for count in dict.fromkeys(threads or (1,)))
    if affinity is None:
        return settings
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else frozenset[int]()
    foreign = [cpu for cpu in affinity if cpu not in allowed]
    if foreign:
        raise MisuseError(
            f"Processor {foreign[0]} cannot be used; there is {', '.join(map(str, sorted(allowed))) or 'no choice'}."
        )
    most = max(setting.threads for setting in settings)
    if most > len(affinity):
        raise MisuseError(f"{most} threads do not fit on {len(affinity)} processors. Give more with --affinity.")
    return settings


def check_storage(bundles: Sequence[Bundle], out: Path | None) -> None:
    """Refuses a place that cannot be written before anything is measured for it.

    Raises:
        OutputError: It cannot.
    """
    for folder in [out.parent] if out else [bundle.folder for bundle in bundles]:
        if not os.access(folder, os.W_OK):
            raise OutputError(f"{folder} cannot be written. Write the figures elsewhere with -o.")


def store(bundles: Sequence[Bundle], runs: Sequence[Run], out: Path | None) -> tuple[Path, ...]:
    """Writes the runs of each device into their bundles, or all of them into one file, and says where.

    Raises:
        OutputError: A place cannot be written.
    """
    if out is not None:
        with whole_file(out) as partial:
            content = msgspec.json.encode({"schema_version": SCHEMA_VERSION, "runs": runs})
            partial.write_bytes(msgspec.json.format(content, indent=1) + b"\n")
        return (out,)
    pairs = zip(cycle(bundles), runs)  # every device has one run of each bundle, in order
    return tuple(write_run(run, bundle.folder) for bundle, run in pairs if not run.empty)


def conclude(problems: Sequence[Problem]) -> EdgekitError | None:
    """The problem that decides the exit code: a failed check weighs more than a missing runtime."""
    return min((problem.error for problem in problems), key=lambda error: error.exit_code, default=None)
