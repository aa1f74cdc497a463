"""The process that is measured: it holds one artifact in one runtime, and does what it is asked on standard input.

    python -m edgekit.bench.worker

It is a process of its own so that a runtime that crashes takes nothing else along, so that its memory is only its own,
and so that the threads of two runtimes never meet. It ends when its standard input does.
"""

import hashlib
import os
import signal
import sys
import time
from importlib.metadata import distribution
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from edgekit.artifact import CaseParity
from edgekit.bench.protocol import (
    Answer,
    Failed,
    Infer,
    Load,
    Prepare,
    Prepared,
    Request,
    Timed,
    Verified,
    decode_request,
    encode,
)
from edgekit.bench.rounds import one_round
from edgekit.errors import ArtifactError, EdgekitError, MisuseError, first_line
from edgekit.reference_file import read_reference
from edgekit.runners import RUNNERS, loader
from edgekit.runners.base import Load as Loader
from edgekit.runners.base import Runner
from edgekit.verify import Reference, verify


class Worker:
    """One artifact, from before its runtime is imported to its last inference."""

    def __init__(self) -> None:
        self._path: Path
        self._reference: Reference
        self._inputs: dict[str, NDArray[np.float32]]
        self._loader: Loader
        self._runner: Runner

    def answer(self, request: Request) -> Answer:
        """Does what is asked.

        Raises:
            EdgekitError: The runtime is missing, does not take the file, or fails on it.
        """
        match request:
            case Prepare():
                return self._prepare(request)
            case Load():
                return Timed(samples_ms=(self._load(request.threads),))
            case Infer():
                return Timed(samples_ms=self._infer(request))
            case _:
                return Verified(parity=self._verify())

    def _prepare(self, request: Prepare) -> Prepared:
        if request.affinity is not None:
            settle_on(request.affinity)
        self._path = Path(request.path)
        self._reference = read_reference(Path(request.reference))
        names = [spec.name for spec in self._reference.inputs]
        self._inputs = dict(zip(names, self._reference.cases[0].inputs, strict=True))
        started = time.perf_counter_ns()
        self._loader = loader(request.runtime, self._path.name)
        import_ms = 1e-6 * (time.perf_counter_ns() - started)
        package = RUNNERS[request.runtime][1]
        return Prepared(import_ms=import_ms, version=distribution(package).version, build=build_of(package))

    def _load(self, threads: int) -> float:
        started = time.perf_counter_ns()
        self._runner = self._loader(self._path, threads)
        return 1e-6 * (time.perf_counter_ns() - started)

    def _infer(self, request: Infer) -> tuple[float, ...]:
        try:
            for _ in range(request.settle):
                self._runner.run(self._inputs)
            call = {"inference": lambda: self._runner.run(self._inputs)}
            return tuple(round(one_round(call)["inference"], 6) for _ in range(request.runs))  # to the nanosecond
        except EdgekitError:
            raise
        except Exception as error:
            raise ArtifactError(f"{self._path.name} fails in its runtime: {first_line(error)}") from error

    def _verify(self) -> tuple[CaseParity, ...]:
        try:
            return verify(self._runner, self._reference)
        except MisuseError as error:  # the runtime refuses the bundle's own input
            raise ArtifactError(f"{self._path.name} is not this bundle's network. {error}") from error


def settle_on(affinity: tuple[int, ...]) -> None:
    """Keeps this process on these processors, with the threads it has and those it will start.

    Raises:
        MisuseError: The system has no such processors, or does not let a process choose.
    """
    if not hasattr(os, "sched_setaffinity"):
        raise MisuseError("This system does not let a process choose its processors. Leave --affinity out.")
    try:
        for thread in Path("/proc/self/task").iterdir():  # numpy's have been started when it was imported
            os.sched_setaffinity(int(thread.name), affinity)
    except OSError as error:
        raise MisuseError(f"Processors {affinity} cannot be used: {error.strerror}. Give others.") from error


def build_of(package: str) -> str:
    """Which build of a package this is: SHA-256 over the hashes of the files it installed; "" where it keeps no list.

    Scripts are left out, for they name the interpreter they were installed for.
    """
    lines = (distribution(package).read_text("RECORD") or "").splitlines()
    hashes = sorted(line for line in lines if ",sha256=" in line and not line.startswith(".."))
    return hashlib.sha256("\n".join(hashes).encode()).hexdigest() if hashes else ""


def serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """Answers requests until there are no more."""
    worker = Worker()
    for line in requests:
        try:
            answer = worker.answer(decode_request(line))
        except EdgekitError as error:
            answer = Failed(kind=type(error).__name__, message=str(error))
        answers.write(encode(answer))
        answers.flush()


def main() -> None:
    """Serves standard input and output; what native code prints goes to standard error instead."""
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C reaches every process of the terminal; the parent ends this one
    with os.fdopen(os.dup(1), "wb") as answers:
        os.dup2(2, 1)
        serve(sys.stdin.buffer, answers)


if __name__ == "__main__":
    main()
