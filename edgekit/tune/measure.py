"""Where files are compared: on this machine, as a race, or on a device, as a job."""

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edgekit.bench.machine import Probe, evidence
from edgekit.bench.trust import crowding
from edgekit.cache import tool_versions
from edgekit.errors import ArtifactError, MisuseError
from edgekit.runners import RUNNERS, load
from edgekit.targets.board import DOT_PRODUCTS, HOST, core_name, load_board
from edgekit.targets.device import Device, open_device
from edgekit.targets.job import Job, Task
from edgekit.targets.job import Measured as Answered
from edgekit.tune.artifacts import EMPTY, Contest
from edgekit.tune.race import as_fast, race, still_running
from edgekit.tuning.tables import Unit

DISTRIBUTIONS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        **{runtime: (distribution,) for runtime, (_, distribution, _) in RUNNERS.items()},
        "tflite": ("ai-edge-litert", "tflite-runtime"),
    }
)
"""Runtime to the distributions it comes in."""

ROUNDS = 30
"""Inferences of each candidate on a device that is not this machine."""

COUNTS = 3
"""Inferences that are counted of each; the least counts, for another thread of a runtime can only add to one."""


@dataclass(frozen=True, slots=True)
class Scene:
    """Where a measurement takes place, in the words of a table's key, and the runtimes there."""

    architecture: str
    cpu: str
    threads: int
    unit: Unit
    emulated: bool
    runtimes: frozenset[str]
    dot_products: bool = False


@dataclass(frozen=True, slots=True)
class Measured:
    """What a contest gave.

    Attributes:
        package: Distribution and version of the runtime, such as `onnxruntime 1.31.1`.
        costs: Name of each candidate to its cost in every round.
        fastest: Those that nothing tells apart, the leader first.
        outputs: What each answered.
        failures: Why others did not run.
        disturbance: What speaks against the costs; None where nothing was seen.
    """

    package: str
    costs: Mapping[str, list[float]]
    fastest: tuple[str, ...]
    outputs: Mapping[str, NDArray[np.float32]]
    failures: Mapping[str, str]
    disturbance: str | None = None


class Bench(Protocol):
    """Somewhere that the files of a contest can be compared."""

    @property
    def scene(self) -> Scene:
        """Where that is."""
        ...

    def measure(self, contest: Contest, runtime: str, seconds: float) -> Measured:
        """Compares the files of a contest, in about so many seconds where the cost is time.

        Raises:
            DeviceError: The device was lost.
            MissingExtraError: The runtime is not installed.
        """
        ...


@dataclass(frozen=True, slots=True)
class LocalBench:
    """The machine edgekit runs on; its measure is time."""

    scene: Scene

    def measure(self, contest: Contest, runtime: str, seconds: float) -> Measured:
        with ExitStack() as stack:
            runners, failures = {}, {}
            for name, files in contest.files.items():
                try:
                    runners[name] = stack.enter_context(load(runtime, files[0], self.scene.threads))
                except ArtifactError as error:
                    failures[name] = str(error)
            outputs = {name: next(iter(runner.run(contest.inputs).values())) for name, runner in runners.items()}
            calls = {name: partial(runner.run, contest.inputs) for name, runner in runners.items()}
            beside = EMPTY if EMPTY in calls else None
            probe, own = Probe(), (os.getpid(),)
            load_before, before = probe.load(), probe.moment(own)
            result = race(calls, time.monotonic() + seconds, beside)
            seen = evidence(probe, load_before, before, probe.moment(own), ())
        distribution = RUNNERS[runtime][1]
        package = f"{distribution} {tool_versions((distribution,))[distribution]}"
        found = crowding(seen, self.scene.threads)
        disturbance = found[1] if found is not None and found[0] == "INVALID" else None
        return Measured(package, result.times, result.fastest, outputs, failures, disturbance)


@dataclass(frozen=True, slots=True)
class DeviceBench:
    """A device; its measure is time, or executed instructions where it is emulated."""

    scene: Scene
    device: Device

    @property
    def counted(self) -> bool:
        """Whether instructions are counted, which what runs beside them does not change."""
        return self.scene.unit == "instructions"

    def measure(self, contest: Contest, runtime: str, seconds: float) -> Measured:  # noqa: ARG002 - jobs have rounds
        (measured,) = self.measure_together([contest], runtime)
        return measured

    def measure_together(self, contests: Sequence[Contest], runtime: str) -> list[Measured]:
        """Several contests in one job, which begins the board's programs once.

        Raises:
            DeviceError: The device was lost.
        """
        tasks = tuple(
            Task(key=f"{index} {name}", runtime=runtime, files=files, cases=(contest.inputs,))
            for index, contest in enumerate(contests)
            for name, files in contest.files.items()
        )
        job = Job(
            tasks=tasks,
            measure="instructions" if self.counted else "latency",
            repeats=COUNTS if self.counted else ROUNDS,
            warmup=1,
            threads=self.scene.threads,
        )
        record = self.device.run(job)
        disturbance = None if self.counted else " ".join(record.disturbances) or None
        return [
            measured_of({name: record[f"{index} {name}"] for name in contest.files}, disturbance, counted=self.counted)
            for index, contest in enumerate(contests)
        ]


def measured_of(found: Mapping[str, Answered], disturbance: str | None, *, counted: bool) -> Measured:
    """What a device's answers say of the files of one contest."""
    done = {name: each for name, each in found.items() if each.failure is None}
    costs = {
        name: [float(one.instructions) for one in each.counts] or [*each.samples_ms] for name, each in done.items()
    }
    candidates = [name for name in costs if name != EMPTY]
    return Measured(
        package=next((f"{each.distribution} {each.version}" for each in done.values()), ""),
        costs=costs,
        fastest=as_fast(costs, candidates if counted else still_running(costs, candidates)) if candidates else (),
        outputs={name: next(iter(each.outputs[0].values())) for name, each in done.items()},
        failures={name: each.failure.message for name, each in found.items() if each.failure is not None},
        disturbance=disturbance,
    )


def measure_in_turn(
    bench: Bench, contests: Sequence[Contest], runtime: str, seconds: float
) -> Iterator[Measured | None]:
    """Measures one contest after another, each with its share of the time that is left; None where there is none.

    What is counted is counted in one job; there is no time to share.
    """
    if isinstance(bench, DeviceBench) and bench.counted:
        yield from bench.measure_together(contests, runtime)
        return
    left = seconds
    for index, contest in enumerate(contests):
        started = time.monotonic()
        yield bench.measure(contest, runtime, left / (len(contests) - index)) if left > 0 else None
        left -= time.monotonic() - started


@contextmanager
def open_bench(address: str, threads: int, progress: Callable[[str], None]) -> Iterator[Bench]:
    """The device at an address, as a place to compare files.

    Raises:
        MisuseError: The address is none, or an emulated device is to count more than one thread.
        EnvironmentProblemError: The device cannot be reached.
    """
    if address == "local":
        board = load_board(HOST)
        here = tool_versions(tuple(name for names in DISTRIBUTIONS.values() for name in names))
        core = board.clusters[0].core
        scene = Scene(board.architectures[0], core, threads, "ms", emulated=False, runtimes=known(here))
        yield LocalBench(replace(scene, dot_products=board.dot_products))
        return
    with open_device(address, progress) as device:
        facts = device.probe()
        if device.counts and threads > 1:
            raise MisuseError("Threads that wait execute instructions too: an emulated device counts with --threads 1.")
        unit: Unit = "instructions" if device.counts else "ms"
        core, runtimes = core_name(facts.processor), known(facts.runtimes)
        scene = Scene(facts.machine, core, threads, unit, emulated=facts.emulated, runtimes=runtimes)
        yield DeviceBench(replace(scene, dot_products=bool(DOT_PRODUCTS & {*facts.features})), device)


def known(installed: Iterable[str]) -> frozenset[str]:
    """The runtimes that distributions bring."""
    there = {name.lower() for name in installed}
    return frozenset(runtime for runtime, names in DISTRIBUTIONS.items() if there & {name.lower() for name in names})
