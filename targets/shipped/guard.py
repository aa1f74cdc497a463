"""Stands between a board and the link to it: takes files and jobs, and clears up whatever happens.

It starts the worker as a process of its own, so that one that dies, or that the system kills for its memory, can be
told about. When the link is cut, or the other side falls silent, the worker is ended, the governors are put back and
the session's folder is removed.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from types import FrameType
from typing import Any

from edgekit.targets.shipped.events import first_line
from edgekit.targets.shipped.governors import restore_governors, set_governor
from edgekit.targets.shipped.inbox import HostGoneError, Inbox
from edgekit.targets.shipped.machine import facts, state
from edgekit.targets.shipped.packages import install, uninstall
from edgekit.targets.shipped.sessions import BoardLock, remove, sweep

POLL_SECONDS = 0.2
TAIL_LINES = 12
CHUNK = 1 << 20


class Counting:
    """A file that remembers how many bytes it was offered; without a file to write to, it only counts."""

    def __init__(self, file: Any = None) -> None:
        self._file = file
        self.offered = 0

    def write(self, content: bytes) -> None:
        self.offered += len(content)
        if self._file is not None:
            self._file.write(content)
            self._file.flush()


class Guard:
    """A session on a board, from the first command to the cleaning up."""

    def __init__(self, session: str) -> None:
        self._session = session
        self._inbox = Inbox(0)

    def serve(self) -> None:
        """Obeys commands until the link is cut."""
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            signal.signal(number, _end)
        os.set_blocking(1, False)
        try:
            swept = sweep(self._session)
            self.say("ready", facts=facts(), state=state(), swept=swept, session=self._session)
            while True:
                line = self._inbox.line(POLL_SECONDS * 50)
                if line and line.strip():
                    self.obey(json.loads(line))
        except (HostGoneError, BrokenPipeError):
            return
        finally:
            try:
                restore_governors(self._session)
            finally:
                remove(self._session)

    def say(self, event: str, **content: Any) -> None:
        """Sends an event."""
        self.send(json.dumps({"event": event, **content}).encode() + b"\n")

    def send(self, content: bytes) -> None:
        """Sends bytes as they are; a link that takes none for too long is as good as cut."""
        view = memoryview(content)
        while view:
            self._inbox.wait_for_room(1)
            with suppress(BlockingIOError):
                view = view[os.write(1, view) :]

    def obey(self, command: dict[str, Any]) -> None:
        """Carries out one command; `put`, for one, by `do_put`."""
        try:
            getattr(self, "do_" + command["command"])(command)
        except OSError as error:
            if isinstance(error, BrokenPipeError):
                raise
            self.say("refused", reason=error.strerror or str(error), number=error.errno, file=error.filename or "")

    def do_patience(self, command: dict[str, Any]) -> None:
        """Sets how long the other side may be silent."""
        self._inbox.patience_s = command["seconds"]

    def do_put(self, command: dict[str, Any]) -> None:
        """Takes a file; where it cannot be kept its bytes are read all the same."""
        size = command["size"]
        path = os.path.join(self._session, command["name"])
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "wb") as file:
                taken = Counting(file)
                try:
                    self._inbox.copy(size, taken)
                except OSError:
                    self._inbox.copy(size - taken.offered, Counting())
                    raise
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT) and os.path.exists(path):
                os.unlink(path)
            raise
        self.say("taken")

    def do_get(self, command: dict[str, Any]) -> None:
        """Sends a file."""
        with open(os.path.join(self._session, command["name"]), "rb") as file:
            self.say("file", size=os.fstat(file.fileno()).st_size)
            for part in iter(lambda: file.read(CHUNK), b""):
                self.send(part)

    def do_probe(self, command: dict[str, Any]) -> None:  # noqa: ARG002 - every command has this form
        """Says what the board is, now."""
        self.say("probed", facts=facts(), state=state())

    def do_install(self, command: dict[str, Any]) -> None:
        """Unpacks an archive of packages into the private folder, all of them or none."""
        install(os.path.join(self._session, command["name"]), self._session)
        self.say("installed")

    def do_uninstall(self, command: dict[str, Any]) -> None:  # noqa: ARG002
        """Removes all packages that `install` brought."""
        uninstall(self._session)
        self.say("uninstalled")

    def do_run(self, command: dict[str, Any]) -> None:
        """Runs the worker on a job, alone on the board when it is to be timed."""
        with BoardLock() as lock:
            if command["alone"]:
                self.wait_for(lock)
            try:
                if command["governor"]:
                    self.say("governor", refused=set_governor(command["governor"], self._session))
                self.work(command["arguments"])
            finally:
                restore_governors(self._session)

    def wait_for(self, lock: BoardLock) -> None:
        """Waits until nobody else measures on the board."""
        if lock.try_it():
            return
        self.say("queued")
        while not lock.try_it():
            self._inbox.line(POLL_SECONDS)

    def work(self, arguments: list[str]) -> None:
        """Starts the worker and passes its events on, until it ends."""
        names = [arguments[0], *(os.path.join(self._session, name) for name in arguments[1:])]
        complaints = os.path.join(self._session, "complaints")
        with open(complaints, "wb") as errors:
            worker = subprocess.Popen(
                [sys.executable, sys.argv[0], *names],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                start_new_session=True,
            )
        try:
            self.relay(worker)
        finally:
            if worker.poll() is None:
                os.killpg(worker.pid, signal.SIGKILL)  # with the process it may have started
            worker.wait()
        self.say("ended", code=worker.returncode, complaints=_tail(complaints))

    def relay(self, worker: subprocess.Popen[bytes]) -> None:
        """Passes on what the worker says, and watches the link meanwhile."""
        pipe = worker.stdout
        assert pipe is not None  # noqa: S101 - it was asked for
        while True:
            self._inbox.line(POLL_SECONDS * 50, also=(pipe.fileno(),))
            os.set_blocking(pipe.fileno(), False)
            content = pipe.read(CHUNK)
            if content:
                self.send(content)
            elif content == b"":
                worker.wait()
                return


def _end(number: int, _: FrameType | None) -> None:
    signal.signal(number, signal.SIG_IGN)  # a second one must not interrupt the clearing up
    raise HostGoneError(f"signal {number}")


def _tail(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as file:
        return "\n".join(file.read().splitlines()[-TAIL_LINES:])


def guard(session: str) -> None:
    """Serves a session; what breaks the guard itself is told on standard error."""
    try:
        Guard(session).serve()
    except Exception as error:  # noqa: BLE001 - whatever it is, it has to be told
        sys.exit(f"edgekit: the guard broke: {type(error).__name__}: {first_line(error)}")
