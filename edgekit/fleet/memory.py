"""What artifacts take of a device's memory: the runner there holds each in a process of its own, without a clock."""

from collections.abc import Sequence

from edgekit.bench.record import Memory
from edgekit.errors import DeviceError, EdgekitError, EnvironmentProblemError
from edgekit.fleet.entries import Entry, Line, problem
from edgekit.fleet.timing import PATIENCE_S
from edgekit.footprint import untold
from edgekit.measure import Problem
from edgekit.targets.device import Device
from edgekit.targets.job import Failure, Job

UNTOLD = "UntoldError"
"""What the runner on a device says where its system keeps the memory of processes to itself."""


def memories(device: Device, entries: Sequence[Entry], threads: int, line: Line) -> dict[str, Memory]:
    """The memory of artifacts by their keys; what is not known becomes a problem, and costs no other figure."""
    if not entries:
        return {}
    tasks = tuple(entry.task(cases=1) for entry in entries)
    job = Job(tasks=tasks, measure="memory", threads=threads, outputs=False, timeout_s=PATIENCE_S)
    try:
        record = device.run(job)
    except DeviceError as lost:
        line.problems.append(Problem(None, "", None, lost, device.address))
        return {}
    found = {}
    for entry in entries:
        measured = record[entry.key]
        if measured.footprint is not None:
            found[entry.key] = Memory(**measured.footprint._asdict())
        elif measured.failure is not None:
            error = _error(entry, measured.failure, device.address)
            line.problems.append(problem(entry.folder, entry.name, entry.contestant, record.device, error))
    return found


def _error(entry: Entry, failure: Failure, address: str) -> EdgekitError:
    if failure.kind == UNTOLD:
        return EnvironmentProblemError(untold(address, failure.message))
    return EnvironmentProblemError(
        f"The memory of {entry.name} on {address} is not known: {failure.kind}: {failure.message}. Make room there, or "
        "measure with --no-memory."
    )
