"""Carries out one job: every artifact is loaded and run on its inputs, then all are measured.

An artifact that fails says so and leaves the others alone. Rounds are interleaved, so that a drift of the machine hits
all artifacts alike.
"""

from __future__ import annotations

import gc
import hashlib
import json
import os
import time
from contextlib import suppress
from importlib import import_module
from typing import Any, BinaryIO

from edgekit.targets.shipped.arrays import read_array, write_array
from edgekit.targets.shipped.events import Emit, first_line
from edgekit.targets.shipped.machine import facts, installed, resident_kib, state
from edgekit.targets.shipped.parts_model import load_any
from edgekit.targets.shipped.runtimes import BESIDE, DISTRIBUTIONS, MODULES, RUNTIMES

MARK = 0x5E000000
"""`close` of a number like this is a mark for an instruction counter, and nowhere an open file: task, begin or end."""

TELL_SECONDS = 1.0
"""Times are told this often at most; sending them wakes other programs."""

EMPTY_REGIONS = 5
"""How often nothing at all is measured, to learn what the marks themselves cost; the first times cost more."""


class MissingRuntimeError(Exception):
    """The runtime that an artifact is for is not installed here."""


class DamagedFileError(Exception):
    """A file that arrived with other bytes than it was sent with."""


class Session:
    """A job in its folder, and the artifacts of it that are loaded."""

    def __init__(self, folder: str, blobs: str, emit: Emit) -> None:
        with open(os.path.join(folder, "job.json"), encoding="utf-8") as file:
            self.job: dict[str, Any] = json.load(file)
        self.folder = folder
        self.blobs = blobs
        self.emit = emit
        self.loaded: dict[int, Any] = {}

    def blob(self, digest: str) -> str:
        """Where the file with that SHA-256 is."""
        return os.path.join(self.blobs, digest)


def carry_out(session: Session) -> None:
    """Runs a job; outputs go to `results` in its folder, everything else into events."""
    check_blobs(session)
    session.emit("begun", facts=facts(), state=state())
    with open(os.path.join(session.folder, "results"), "wb") as results:
        for task in session.job["tasks"]:
            prepare(session, task, results)
    gc.collect()
    gc.disable()
    if session.loaded and session.job["repeats"]:
        session.emit("measuring")
    if session.job["measure"] == "instructions":
        count(session)
    else:
        take_rounds(session)
    session.emit("done", state=state(), memory_kib=resident_kib())


def check_blobs(session: Session) -> None:
    """Compares every file that a job needs with the hash it was sent under."""
    tasks = session.job["tasks"]
    wanted = {file["sha256"] for task in tasks for file in task["files"]}
    wanted |= {given["sha256"] for task in tasks for case in task["cases"] for given in case.values()}
    for expected in sorted(wanted):
        digest = hashlib.sha256()
        with open(session.blob(expected), "rb") as file:
            for chunk in iter(lambda: file.read(1 << 20), b""):
                digest.update(chunk)
        if digest.hexdigest() != expected:
            raise DamagedFileError(f"a file arrived damaged; it should have the SHA-256 {expected}")


def prepare(session: Session, task: dict[str, Any], results: BinaryIO) -> None:
    """Loads an artifact, runs it on its cases and warms it up; a failure becomes an event."""
    number = task["number"]
    session.emit("loading", task=number)
    try:
        model, report = load(session, task)
        report.update(run_cases(session, task, model, results))
        for _ in range(session.job["warmup"]):
            model.run()
    except Exception as error:  # noqa: BLE001 - whatever a runtime raises
        session.emit("failed", task=number, kind=type(error).__name__, message=first_line(error))
        return
    session.loaded[number] = model
    session.emit("loaded", task=number, **report)


def load(session: Session, task: dict[str, Any]) -> Any:
    """A model in its runtime, and what is to be said about that."""
    distribution = choose(task["runtime"])
    before = resident_kib()
    started = time.perf_counter()
    loads = DISTRIBUTIONS[distribution], BESIDE.get(distribution, DISTRIBUTIONS[distribution])
    model = load_any(loads, place_files(session, task), session.job["threads"])
    report = {
        "distribution": distribution,
        "version": installed((distribution,)).get(distribution, ""),
        "kernels": model.kernels,
        "load_ms": 1e3 * (time.perf_counter() - started),
        "memory_kib": {"before": before, "after": resident_kib()},
    }
    return model, report


def choose(runtime: str) -> str:
    """The distribution that will run artifacts of a runtime; a distribution's own name is taken as it is."""
    wanted = RUNTIMES.get(runtime, (runtime,))
    here = installed(tuple(DISTRIBUTIONS))
    for distribution in wanted:
        if distribution in here and distribution in DISTRIBUTIONS:
            return distribution
    there = ", ".join(sorted(here)) or "no runtime at all"
    raise MissingRuntimeError(f"{' or '.join(wanted)} is not installed; there is {there}")


def check_runtimes(emit: Emit) -> None:
    """Imports every installed runtime, and says which of them do not work."""
    for distribution in installed(tuple(DISTRIBUTIONS)):
        failure = ""
        try:
            import_module(MODULES[distribution])
        except Exception as error:  # noqa: BLE001 - whatever an import raises
            failure = f"{type(error).__name__}: {first_line(error)}"
        emit("checked", distribution=distribution, failure=failure)


def place_files(session: Session, task: dict[str, Any]) -> list[str]:
    """The files of an artifact under the names they had, beside each other, as formats of several files need them."""
    place = os.path.join(session.folder, "task{}".format(task["number"]))
    os.makedirs(place)
    paths = []
    for file in task["files"]:
        path = os.path.join(place, file["name"])
        os.symlink(os.path.abspath(session.blob(file["sha256"])), path)
        paths.append(path)
    return paths


def run_cases(session: Session, task: dict[str, Any], model: Any, results: BinaryIO) -> dict[str, Any]:
    """Runs every case once, writing down what came out, and leaves the first one bound."""
    places, first_ms = [], 0.0
    for number, case in enumerate(task["cases"]):
        bind(session, case, model)
        started = time.perf_counter()
        model.run()
        if number == 0:
            first_ms = 1e3 * (time.perf_counter() - started)
        places.append([write_array(results, name, array) for name, array in model.outputs()])
    if len(task["cases"]) > 1:
        bind(session, task["cases"][0], model)
    return {"outputs": places, "first_ms": first_ms}


def bind(session: Session, case: dict[str, Any], model: Any) -> None:
    """Hands the inputs of a case to the runtime."""
    bind_inputs(read_inputs(session, case), model)


def read_inputs(session: Session, case: dict[str, Any]) -> dict[str, Any]:
    """The inputs of a case by name."""
    return {
        name: read_array(session.blob(given["sha256"]), given["dtype"], given["shape"]) for name, given in case.items()
    }


def bind_inputs(inputs: dict[str, Any], model: Any) -> None:
    """Hands inputs to the runtime, if they are those of the model."""
    if sorted(inputs) != model.inputs:
        raise ValueError(f"its inputs are {model.inputs}, and given were {sorted(inputs)}")
    model.bind(inputs)


def take_rounds(session: Session) -> None:
    """Gives every artifact its turn in each round, and says the milliseconds, but not so often that it disturbs."""
    clock = time.perf_counter
    taken: list[list[list[float]]] = []
    said = clock()
    for number in range(session.job["repeats"]):
        taken.append([[task, taken_ms] for task in session.loaded for taken_ms in take_turn(session, task)])
        if clock() - said > TELL_SECONDS:
            session.emit("rounds", done=number + 1, ms=taken)
            taken, said = [], clock()
    session.emit("rounds", done=session.job["repeats"], ms=taken)


def take_turn(session: Session, task: int) -> list[float]:
    """The milliseconds of one artifact's inferences in one round, after those that only bring its data back."""
    clock, run = time.perf_counter, session.loaded[task].run
    for _ in range(session.job["settle"]):
        run()
    milliseconds = []
    for _ in range(session.job["tasks"][task]["turn"]):
        started = clock()
        run()
        milliseconds.append(1e3 * (clock() - started))
    return milliseconds


def count(session: Session) -> None:
    """Brackets every inference with marks for whoever counts; after the last task comes one that does nothing."""
    for task, model in session.loaded.items():
        run_marked(task, model.run, session.job["repeats"])
    run_marked(len(session.job["tasks"]), int, EMPTY_REGIONS)


def run_marked(task: int, run: Any, repeats: int) -> None:
    """Runs something between two marks."""
    for _ in range(repeats):
        mark(task << 1)
        run()
        mark(task << 1 | 1)


def mark(label: int) -> None:
    """Tells an instruction counter that this place was reached."""
    with suppress(OSError):  # as always: there is no such file
        os.close(MARK | label)
