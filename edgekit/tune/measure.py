"""Where the forms are measured: what a device has to say of itself, and this machine as one."""

import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edgekit.cache import tool_versions
from edgekit.errors import MisuseError
from edgekit.runners import RUNNERS, load
from edgekit.targets.board import HOST, load_board
from edgekit.tune.artifacts import EMPTY, Contest
from edgekit.tune.race import race
from edgekit.tuning.tables import Unit


@dataclass(frozen=True, slots=True)
class Scene:
    """Where a measurement takes place, in the words of a table's key."""

    architecture: str
    cpu: str
    threads: int
    unit: Unit
    emulated: bool


@dataclass(frozen=True, slots=True)
class Measured:
    """What a contest gave.

    Attributes:
        costs: Name of each candidate to its cost in every round.
        fastest: Those that nothing tells apart, the leader first.
        outputs: What each answered.
    """

    costs: Mapping[str, list[float]]
    fastest: tuple[str, ...]
    outputs: Mapping[str, NDArray[np.float32]]


class Device(Protocol):
    """Something that can run the files of a contest."""

    scene: Scene

    def package(self, runtime: str) -> str:
        """Distribution and version of a runtime on it, such as `onnxruntime 1.31.1`.

        Raises:
            EnvironmentProblemError: It has none.
        """
        ...

    def measure(self, contest: Contest, runtime: str, seconds: float) -> Measured:
        """Compares the files of a contest, in about so many seconds."""
        ...


class LocalDevice:
    """The machine edgekit runs on; its measure is time."""

    def __init__(self, threads: int) -> None:
        board = load_board(HOST)
        self.scene = Scene(board.architectures[0], board.clusters[0].core, threads, "ms", emulated=False)

    def package(self, runtime: str) -> str:
        distribution = RUNNERS[runtime][1]
        return f"{distribution} {tool_versions((distribution,))[distribution]}"

    def measure(self, contest: Contest, runtime: str, seconds: float) -> Measured:
        with ExitStack() as stack:
            runners = {
                name: stack.enter_context(load(runtime, files[0], self.scene.threads))
                for name, files in contest.files.items()
            }
            outputs = {name: next(iter(runner.run(contest.inputs).values())) for name, runner in runners.items()}
            calls = {name: partial(runner.run, contest.inputs) for name, runner in runners.items()}
            beside = EMPTY if EMPTY in calls else None
            result = race(calls, time.monotonic() + seconds, beside)
        return Measured(result.times, result.fastest, outputs)


def open_device(address: str, threads: int) -> Device:
    """The device at an address.

    Raises:
        MisuseError: There is no such kind of device.
    """
    if address == "local":
        return LocalDevice(threads)
    raise MisuseError(f"{address!r} is no device. Choose local.")
