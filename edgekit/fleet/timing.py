"""Times on a device: a short job tells how long an inference takes, then one takes turns and compares all outputs.

As on this machine every turn is one inference that is not counted, which brings caches and clock back to where they are
when the artifact runs alone, and then as many as spread the profile's time and runs evenly over its rounds.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from edgekit.artifact import CaseParity
from edgekit.bench.method import STEADY
from edgekit.bench.record import Measurement, Memory, Profile, Round, WarmUp
from edgekit.bench.statistics import latency, minutes, round_medians
from edgekit.bench.trust import Case, judge
from edgekit.fleet.compared import subject_of
from edgekit.fleet.entries import Entry
from edgekit.fleet.observed import evidence_of, reasons_of
from edgekit.targets.device import Device
from edgekit.targets.job import Job, Record

WARM_UP = 2
PILOT_RUNS = 3

PATIENCE_S = 3600.0
"""What a job may take beside the inferences that are timed: files, loading, and waiting for others on the board."""

SLACK = 3.0
"""A device may be this much slower than the first job had it."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """How a job takes turns: so many rounds, inferences of each artifact in a turn, and about how long it will take."""

    rounds: int
    turns: Mapping[str, int]
    seconds: float


def take_times(
    device: Device, entries: Sequence[Entry], threads: int, profile: Profile, governor: str
) -> tuple[Record, dict[str, tuple[Round, ...]]]:
    """Runs artifacts on a device, all in turn, and takes their times, round by round.

    Raises:
        DeviceError: The device was lost.
    """
    settle = 1 if len(entries) > 1 else 0
    pilot = Job(
        tasks=tuple(entry.task(cases=1) for entry in entries),
        repeats=PILOT_RUNS,
        warmup=1,
        threads=threads,
        outputs=False,
        governor=governor,
        timeout_s=PATIENCE_S,
    )
    expected_ms = {each.key: min(each.samples_ms) for each in device.run(pilot).artifacts if each.samples_ms}
    plan = schedule(expected_ms, profile, settle)
    job = replace(
        pilot,
        tasks=tuple(replace(entry.task(), turn=plan.turns.get(entry.key, 1)) for entry in entries),
        repeats=plan.rounds,
        settle=settle,
        warmup=WARM_UP,
        outputs=True,
        timeout_s=PATIENCE_S + SLACK * plan.seconds,
    )
    record = device.run(job)
    return record, rounds_of(record, {task.key: task.turn for task in job.tasks}, settle)


def schedule(expected_ms: Mapping[str, float], profile: Profile, settle: int) -> Schedule:
    """Turns that give every artifact its time and its runs, or as many rounds of them as the profile's limit allows."""
    turns = {
        key: max(math.ceil(max(profile.runs, 1e3 * profile.seconds / each) / profile.rounds), 1)
        for key, each in expected_ms.items()
    }
    round_s = 1e-3 * sum((turns[key] + settle) * each for key, each in expected_ms.items())
    most = math.floor(profile.limit_seconds * len(turns) / round_s) if round_s else profile.rounds
    rounds = max(min(profile.rounds, most), 1)
    return Schedule(rounds, turns, rounds * round_s)


def rounds_of(record: Record, turns: Mapping[str, int], settle: int) -> dict[str, tuple[Round, ...]]:
    """The rounds of every artifact, each begun when all inferences before it were over."""
    cut = {each.key: _cut(each.samples_ms, turns[each.key]) for each in record.artifacts if each.samples_ms}
    found: dict[str, list[Round]] = {key: [] for key in cut}
    at_ms = 0.0
    for number in range(max(map(len, cut.values()), default=0)):
        for key, turns_taken in cut.items():
            samples = turns_taken[number]
            found[key].append(Round(at_s=1e-3 * at_ms, samples_ms=samples, clock_mhz=None, temperature_c=None))
            at_ms += sum(samples) + settle * statistics.median(samples)
    return {key: tuple(each) for key, each in found.items()}


def _cut(samples: Sequence[float], turn: int) -> list[tuple[float, ...]]:
    return [tuple(samples[start : start + turn]) for start in range(0, len(samples), turn)]


def measurement(
    entry: Entry,
    record: Record,
    rounds: tuple[Round, ...],
    parity: CaseParity,
    profile: Profile,
    memory: Memory | None,
) -> Measurement:
    """The figures of one artifact, and how far they can be trusted."""
    measured, medians, evidence = record[entry.key], round_medians(rounds), evidence_of(record)
    found = latency(rounds)
    warm_up = WarmUp(runs=WARM_UP + len(entry.against.cases), steady=_steady(rounds))
    case = Case(
        medians=medians,
        runs=found.runs,
        steady=warm_up.steady,
        setting=entry.contestant.setting,
        profile=profile,
        evidence=evidence,
        emulated=record.device.emulated,
    )
    return Measurement(
        subject=subject_of(entry, measured),
        setting=entry.contestant.setting,
        import_ms=None,
        load_ms=measured.load_ms,
        first_ms=measured.first_ms,
        warm_up=warm_up,
        rounds=rounds,
        latency=found,
        mcycles=None if evidence.clock_mhz is None else 1e-3 * found.median_ms * evidence.clock_mhz,
        minutes=minutes(rounds),
        parity=parity,
        memory=memory,
        evidence=evidence,
        verdict=judge(case, reasons_of(record)),
    )


def _steady(rounds: Sequence[Round]) -> bool:
    """Whether inferences had stopped becoming faster when the rounds began, by the fastest of either half of them."""
    fastest = [min(each.samples_ms) for each in rounds]
    half = max(len(fastest) // 2, 1)
    return min(fastest[half:], default=fastest[0]) > STEADY * min(fastest[:half])
