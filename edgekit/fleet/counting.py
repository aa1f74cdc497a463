"""What an emulated device gives: whether the outputs are right, and how many instructions that took; never a time."""

from collections.abc import Sequence

from edgekit.artifact import CaseParity
from edgekit.bench.record import Execution, Memory, Profile
from edgekit.fleet.compared import subject_of
from edgekit.fleet.entries import Entry
from edgekit.targets.device import Device
from edgekit.targets.job import Job, Record

COUNTED = Profile(
    name="counted",
    summary="executed instructions of one inference, the lowest of 2; they are no time",
    seconds=0.0,
    runs=2,
    rounds=1,
    limit_seconds=86_400.0,
)
"""How emulated devices are measured, whatever profile was asked for."""

COMPARED = Profile(
    name="compared",
    summary="outputs only: this emulator cannot count instructions, and its time is none",
    seconds=0.0,
    runs=0,
    rounds=0,
    limit_seconds=86_400.0,
)


def profile_of(device: Device) -> Profile:
    """What can be had of an emulated device."""
    return COUNTED if device.counts else COMPARED


def execute(device: Device, entries: Sequence[Entry], threads: int) -> Record:
    """Runs artifacts on an emulated device, and counts where it can.

    Raises:
        DeviceError: The device was lost.
    """
    profile = profile_of(device)
    return device.run(
        Job(
            tasks=tuple(entry.task() for entry in entries),
            measure="instructions" if device.counts else "latency",
            repeats=profile.runs,
            warmup=1 if device.counts else 0,
            threads=threads,
            timeout_s=profile.limit_seconds,
        )
    )


def execution(entry: Entry, record: Record, parity: CaseParity, memory: Memory | None) -> Execution:
    """What became of one artifact."""
    measured = record[entry.key]
    executed = measured.executed
    return Execution(
        subject=subject_of(entry, measured),
        setting=entry.contestant.setting,
        counts=tuple(each.instructions for each in measured.counts),
        instructions=executed.instructions if executed else None,
        simd=executed.simd if executed else None,
        parity=parity,
        memory=memory,
    )
