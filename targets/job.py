"""What a device is asked to do, and what it answers."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from msgspec import Struct
from numpy.typing import NDArray

from edgekit.targets.shipped.watch import Footprint

Arrays = Mapping[str, NDArray[Any]]
Measure = Literal["latency", "instructions", "memory"]


@dataclass(frozen=True, kw_only=True)
class Task:
    """One artifact to run.

    Attributes:
        key: What the answer is filed under; unique in a job.
        runtime: The runtime of the artifact, such as `tflite`, or a distribution of it, such as `tflite-runtime`.
        files: Its files, the loadable one first. They keep their names, so no two may have the same.
        cases: Inputs by name. The artifact runs once on each for its outputs, and is measured on the first.
        turn: How many times in a row it is timed in every repeat.
    """

    key: str
    runtime: str
    files: tuple[Path, ...]
    cases: tuple[Arrays, ...]
    turn: int = 1


@dataclass(frozen=True, kw_only=True)
class Job:
    """Artifacts that are measured together, in one process and in turn.

    Attributes:
        tasks: The artifacts.
        measure: Wall time, executed instructions where the device can count them, or the memory that each artifact
            takes, in a process of its own that gives neither outputs nor times.
        repeats: How often each is measured; with 0 the artifacts run on their cases only.
        settle: Runs before each turn, which bring its data back into the caches that others have used meanwhile.
        warmup: Runs before that, beyond the one on each case.
        threads: How many each runtime may use. Instructions are counted with one thread, or they count waiting too.
        outputs: Whether the tensors come back.
        governor: Of the clocks while the job runs, such as `performance`; put back afterwards. "" leaves it alone.
        timeout_s: When the device is taken for dead, in seconds for the whole job, waiting for others included.
    """

    tasks: tuple[Task, ...]
    measure: Measure = "latency"
    repeats: int = 10
    settle: int = 0
    warmup: int = 2
    threads: int = 1
    outputs: bool = True
    governor: str = ""
    timeout_s: float = 3600.0


NO_PYTHON = "none"
"""Stands for the Python of a board that has none."""


class Facts(Struct, frozen=True, kw_only=True):
    """What a device is.

    Attributes:
        address: As it was given.
        emulated: Whether a program stands in for the board; then no time or memory of it means anything.
        machine: Architecture in the words of `uname -m`; `bits` are those of its Python.
        model: The board's own name; "" where the system does not tell.
        processor: On ARM the implementer and part numbers, as in `/proc/cpuinfo`; elsewhere the model name.
        features: Vector and other features, in the words of `/proc/cpuinfo`.
        memory_kib: All of its memory; 0: unknown.
        python: Its version; "none" where there is none, and then nobody knows the C library.
        numpy: Its version; "" where there is none.
        runtimes: Version of every installed runtime, by distribution.
    """

    address: str
    emulated: bool
    machine: str
    bits: int
    model: str
    processor: str
    features: tuple[str, ...]
    cores: int
    memory_kib: int
    kernel: str
    libc: str
    python: str
    numpy: str
    runtimes: dict[str, str]


class State(Struct, frozen=True, kw_only=True):
    """What may change while a job runs.

    Attributes:
        wall_s: The clock that people set; `monotonic_s` is the one that only time moves.
        clocks_khz: Current clock by core; `highest_khz` what the core can do, `allowed_khz` what it may.
        residency: By core, hundredths of a second since the start spent at each clock in kHz.
        temperatures_c: By thermal zone.
    """

    wall_s: float
    monotonic_s: float
    clocks_khz: dict[str, int]
    highest_khz: dict[str, int]
    allowed_khz: dict[str, int]
    governors: dict[str, str]
    residency: dict[str, dict[str, int]]
    temperatures_c: dict[str, float]
    available_kib: int
    load: float | None


class Count(Struct, frozen=True, kw_only=True):
    """Instructions that one inference executed, and how many of them were vector or floating-point ones."""

    instructions: int
    simd: int


class Failure(Struct, frozen=True, kw_only=True):
    """Why an artifact did not run: the name of the error that its runtime or the runner raised, and its first line."""

    kind: str
    message: str


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What became of one artifact; with a `failure` everything else is empty.

    Attributes:
        distribution: What it ran in, such as `ai-edge-litert`, of `version`, and with which `kernels`.
        load_ms, first_ms: Time to load it, and for its very first inference.
        samples_ms: Wall time of each measured inference.
        counts: Instructions of each, where these were measured.
        outputs: For every case the tensors by name.
        memory_kib: `VmRSS` and `VmHWM` of the process `before` and `after` loading it.
        footprint: Where memory was measured, what it takes in a process of its own.
    """

    key: str
    runtime: str
    distribution: str = ""
    version: str = ""
    kernels: str = ""
    load_ms: float = 0.0
    first_ms: float = 0.0
    samples_ms: tuple[float, ...] = ()
    counts: tuple[Count, ...] = ()
    outputs: tuple[Arrays, ...] = ()
    memory_kib: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    footprint: Footprint | None = None
    failure: Failure | None = None

    @property
    def executed(self) -> Count | None:
        """The lowest of the counts: what another thread of a runtime does meanwhile can only add to one."""
        return min(self.counts, key=lambda count: count.instructions, default=None)


@dataclass(frozen=True, kw_only=True)
class Record:
    """What a device answers to a job.

    Attributes:
        artifacts: In the order of the job's tasks.
        peak_kib: Highest memory of the process that ran the job; 0: unknown.
        disturbances: What makes the times doubtful, such as a clock that was throttled; empty for a quiet run.
    """

    device: Facts
    measure: Measure
    threads: int
    artifacts: tuple[Measured, ...]
    before: State
    after: State
    peak_kib: int
    disturbances: tuple[str, ...] = ()

    def __getitem__(self, key: str) -> Measured:
        """What became of the task of that key."""
        return next(artifact for artifact in self.artifacts if artifact.key == key)
