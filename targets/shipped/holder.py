"""A process that loads and runs one artifact and does nothing else, and how the one that watches it sees it."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from importlib import import_module
from typing import Any, Callable

from edgekit.targets.shipped.measure import Session, bind_inputs, choose, load, read_inputs
from edgekit.targets.shipped.runtimes import MODULES
from edgekit.targets.shipped.watch import LOOK_SECONDS, RUNS

KILLED = -9


class HolderError(Exception):
    """The process did not get to its next step; `kind` is the error it met, or that the system ended it."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


def hold(session: Session, number: int) -> None:
    """Takes a task's artifact one step further for each line on standard input, and says when it is there."""
    task = session.job["tasks"][number]
    inputs = read_inputs(session, task["cases"][0])
    import_module(MODULES[choose(task["runtime"])])
    wait(session, "imported")
    model, _ = load(session, task)
    wait(session, "loaded")
    bind_inputs(inputs, model)
    for _ in range(RUNS):
        model.run()
    wait(session, "run")


def wait(session: Session, step: str) -> None:
    """Says which step is done, and waits for the word to go on; whoever gave it may be gone."""
    session.emit("step", step=step)
    if not sys.stdin.readline():
        sys.exit(0)


class Holder:
    """Such a process, which begins with the first step; a context manager that ends it."""

    def __init__(self, session: Session, number: int) -> None:
        command = [sys.executable, sys.argv[0], "hold", session.folder, session.blobs, str(number)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
        self.pid = self._process.pid

    def go_on(self, meanwhile: Callable[[], object]) -> None:
        """Lets it take its next step; `meanwhile` is called again and again until that is done.

        Raises:
            HolderError: It ended, or was ended.
        """
        assert self._process.stdin is not None  # noqa: S101 - it was opened with a pipe
        try:
            self._process.stdin.write(b"\n")
        except BrokenPipeError:
            raise self._ended() from None
        self.wait(meanwhile)

    def wait(self, meanwhile: Callable[[], object] = int) -> None:
        """Waits until a step is done; the first begins by itself. See `go_on`."""
        assert self._process.stdout is not None  # noqa: S101 - it was opened with a pipe
        descriptor, said = self._process.stdout.fileno(), b""
        while not said.endswith(b"\n"):
            if select.select([descriptor], [], [], LOOK_SECONDS)[0]:
                part = os.read(descriptor, 1 << 16)
                if not part:
                    raise self._ended()
                said += part
            else:
                meanwhile()
        event: dict[str, Any] = json.loads(said)
        if event["event"] == "broken":
            raise HolderError(event["kind"], event["message"])

    def _ended(self) -> HolderError:
        code = self._process.wait()
        if code == KILLED:
            return HolderError("KilledError", "the system ended its process, as it does when there is no memory left")
        return HolderError("EndedError", f"its process ended with code {code}")

    def __enter__(self) -> Holder:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()
