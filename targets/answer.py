"""What a runner says, event by event, put together to a record."""

from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import msgspec

from edgekit.errors import DeviceError
from edgekit.targets.counter import read_counts
from edgekit.targets.job import Count, Facts, Failure, Job, Measured, Record, State, Task
from edgekit.targets.parcel import unpack_outputs
from edgekit.targets.shipped.watch import Footprint

STEP_SECONDS = 1.0
"""The clock that people set may run this much ahead of or behind the steady one before somebody must have set it."""


class _Loaded(msgspec.Struct, frozen=True):
    distribution: str
    version: str
    kernels: str
    load_ms: float
    first_ms: float
    memory_kib: dict[str, dict[str, int]]
    outputs: list[list[dict[str, Any]]]


@dataclass
class Answer:
    """Takes a runner's events one after the other."""

    job: Job
    begun: dict[str, Any] = field(default_factory=dict)
    done: dict[str, Any] = field(default_factory=dict)
    loaded: dict[int, _Loaded] = field(default_factory=dict)
    failed: dict[int, Failure] = field(default_factory=dict)
    samples: dict[int, list[float]] = field(default_factory=dict)
    counts: dict[int, tuple[Count, ...]] = field(default_factory=dict)
    footprints: dict[int, Footprint] = field(default_factory=dict)
    busy_with: str = "starting"

    def take(self, event: dict[str, Any]) -> None:
        """Takes one event; those that only show progress are passed over.

        Raises:
            DeviceError: The runner says that it cannot go on.
        """
        match event["event"]:
            case "begun":
                self.begun = event
            case "loading":
                self.busy_with = f"loading and trying {self.job.tasks[event['task']].key}"
            case "loaded":
                self.loaded[event["task"]] = msgspec.convert(event, _Loaded)
            case "weighed":
                self.footprints[event["task"]] = Footprint(**event["memory"])
            case "failed":
                self.failed[event["task"]] = msgspec.convert(event, Failure)
            case "measuring":
                self.busy_with = f"round 1 of {self.job.repeats}"
            case "rounds":
                self.busy_with = f"round {event['done'] + 1} of {self.job.repeats}"
                for task, milliseconds in chain.from_iterable(event["ms"]):
                    self.samples.setdefault(task, []).append(milliseconds)
            case "done":
                self.done = event
            case "broken":
                raise DeviceError(f"The runner broke off: {event['kind']}: {event['message']}.")

    def take_marks(self, text: str) -> None:
        """Takes what an instruction counter wrote."""
        self.counts = read_counts(text, empty=len(self.job.tasks))

    def record(self, device: Facts, results: bytes) -> Record:
        """Everything in one; `results` are the bytes of the output tensors, empty where nobody wants them.

        Raises:
            DeviceError: The runner stopped talking before it was done.
        """
        if not self.done:
            raise DeviceError(f"{device.address} stopped before it was done.")
        before, after = (msgspec.convert(each["state"], State) for each in (self.begun, self.done))
        return Record(
            device=device,
            measure=self.job.measure,
            threads=self.job.threads,
            artifacts=tuple(self._measured(number, task, results) for number, task in enumerate(self.job.tasks)),
            before=before,
            after=after,
            peak_kib=self.done["memory_kib"].get("VmHWM", 0),
            disturbances=tuple(disturbances(before, after)),
        )

    def _measured(self, number: int, task: Task, results: bytes) -> Measured:
        if number in self.failed:
            return Measured(key=task.key, runtime=task.runtime, failure=self.failed[number])
        if number in self.footprints:
            return Measured(key=task.key, runtime=task.runtime, footprint=self.footprints[number])
        loaded = self.loaded[number]
        return Measured(
            key=task.key,
            runtime=task.runtime,
            distribution=loaded.distribution,
            version=loaded.version,
            kernels=loaded.kernels,
            load_ms=loaded.load_ms,
            first_ms=loaded.first_ms,
            samples_ms=tuple(self.samples.get(number, ())),
            counts=self.counts.get(number, ()),
            outputs=unpack_outputs(loaded.outputs, results) if self.job.outputs else (),
            memory_kib=loaded.memory_kib,
        )


def disturbances(before: State, after: State) -> list[str]:
    """What happened to a machine during a job that makes its times doubtful."""
    found = []
    step = (after.wall_s - before.wall_s) - (after.monotonic_s - before.monotonic_s)
    if abs(step) > STEP_SECONDS:
        found.append(f"the clock was set by {step:+.0f} s meanwhile; times are from the steady clock and hold")
    if lowered := throttled_cores(before, after):
        found.append(f"the highest allowed clock of {', '.join(lowered)} was lowered meanwhile: throttled by heat")
    if before.governors != after.governors:
        found.append("the governor was changed meanwhile")
    return found


def throttled_cores(before: State, after: State) -> list[str]:
    """The cores whose highest allowed clock became lower."""
    return [core for core, allowed in after.allowed_khz.items() if allowed < before.allowed_khz.get(core, allowed)]
