"""Devices that a guard serves: one connection for a session, over which files and jobs go and events come back.

The guard is a program of edgekit's own, `edgekit.targets.shipped.guard`. It is sent along when the connection is made,
and clears up by itself when the connection ends, however that happens.
"""

import errno
import os
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib import resources
from pathlib import Path
from typing import Any, Protocol

import msgspec

from edgekit.errors import DeviceError, NoPythonError
from edgekit.targets.address import Address
from edgekit.targets.archive import runner_archive
from edgekit.targets.link import (
    LAST_WORDS_SECONDS,
    Content,
    Events,
    Order,
    Progress,
    decode_event,
    end_process,
    ending,
    limited,
    tail,
)
from edgekit.targets.posix import PYTHON_MISSING

ANSWER_SECONDS = 90.0
"""How long a guard may take for what takes it no time; a busy board starts Python in half a minute."""

UNPACK_SECONDS = 600.0
SLOWEST_BYTES_PER_S = 50_000
"""A link that is slower than this is taken for dead."""

SILENCE, SILENCE_SECONDS = "EDGEKIT_SILENCE", 60.0
"""After how much silence a guard takes this side for dead, and the variable that says otherwise."""

BEATS = 6
"""How often in that time the guard is told that this side lives."""

CHUNK = 1 << 20


class Shell(Protocol):
    """How a program is started on a device, with its standard input and output at this end."""

    address: Address
    bases: tuple[str, ...]

    def command(self, arguments: tuple[str, ...]) -> list[str]:
        """What to start here, so that the device's Python runs with these arguments."""
        ...

    def explain(self, complaints: str) -> str:
        """Why a connection ended, from what was written to standard error; the whole message."""
        ...


class ServedLink:
    """A session with a guard."""

    emulated = False
    counts = False
    no_memory = ""

    def __init__(self, shell: Shell, progress: Progress) -> None:
        self._shell = shell
        self._progress = progress
        self._complaints = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as the link
        self._writing = threading.Lock()
        self._over = threading.Event()
        self.address = shell.address
        runner = runner_archive()
        text = (resources.files("edgekit.targets.shipped") / "bootstrap.py").read_text(encoding="utf-8")
        # A session of its own, or Ctrl-C at a terminal would end the connection before the guard has cleared up.
        self._process = subprocess.Popen(
            shell.command(("-c", text, str(len(runner)), *shell.bases)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._complaints,
            start_new_session=True,
        )
        try:
            with self._within(ANSWER_SECONDS):
                self._send(runner)
                self.ready = self._expect("ready")
        except BaseException:
            self.close()
            raise
        self._patience_s = float(os.environ.get(SILENCE, SILENCE_SECONDS))
        if self._patience_s != SILENCE_SECONDS:
            self._command({"command": "patience", "seconds": self._patience_s})
        threading.Thread(target=self._beat, daemon=True).start()
        for session in self.ready["swept"]:
            progress(f"{self.address.text}: cleared up session {session}, which was cut off")

    def push(self, files: Mapping[str, Content]) -> None:
        for name, content in files.items():
            size = content.stat().st_size if isinstance(content, Path) else len(content)
            with self._within(ANSWER_SECONDS + size / SLOWEST_BYTES_PER_S):
                with self._writing:
                    self._write_line({"command": "put", "name": name, "size": size})
                    for part in _parts(content):
                        self._write(part)
                self._expect("taken")

    def fetch(self, name: str) -> bytes:
        with self._within(ANSWER_SECONDS):
            self._command({"command": "get", "name": name})
            size = int(self._expect("file")["size"])
        with self._within(ANSWER_SECONDS + size / SLOWEST_BYTES_PER_S):
            return self._read(size)

    def run(self, *arguments: str, order: Order) -> Events:
        if arguments == ("probe",):
            yield self._ask({"command": "probe"}, "probed")
            return
        alone = arguments[0] == "run"
        with self._within(order.timeout_s):
            self._command({"command": "run", "arguments": arguments, "alone": alone, "governor": order.governor})
            yield from self._worker_events()

    def install(self, archive: Path) -> None:
        """Brings packages to the device, where they stay after this session."""
        self.push({archive.name: archive})
        self._ask({"command": "install", "name": archive.name}, "installed", UNPACK_SECONDS)

    def uninstall(self) -> None:
        """Removes the packages that were ever installed there by edgekit."""
        self._ask({"command": "uninstall"}, "uninstalled")

    def _ask(self, command: Mapping[str, object], answer: str, seconds: float = ANSWER_SECONDS) -> dict[str, Any]:
        with self._within(seconds):
            self._command(command)
            return self._expect(answer)

    def _worker_events(self) -> Events:
        """Events of the worker, until it ends; those of the guard are dealt with here."""
        last = "nothing"
        while True:
            event = self._next()
            match event["event"]:
                case "ended":
                    if event["code"]:
                        raise DeviceError(self._ending(event, last))
                    return
                case "refused":
                    raise DeviceError(refusal(self.address, event))
                case "queued":
                    self._progress(f"{self.address.text}: waiting, somebody else is measuring there")
                case "governor":
                    if event["refused"]:
                        self._progress(f"{self.address.text}: the governor stays as it is: {event['refused']}")
                case name:
                    last = str(name)
                    yield event

    def _ending(self, event: dict[str, Any], last: str) -> str:
        return ending(self.address, int(event["code"]), last, str(event["complaints"]))

    def close(self) -> None:
        """Ends the session; the guard clears up when its input ends."""
        self._over.set()
        with suppress(OSError):
            if self._process.stdin:
                self._process.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(ANSWER_SECONDS)
        end_process(self._process)
        if self._process.stdout:
            self._process.stdout.close()
        self._complaints.close()

    def _expect(self, name: str) -> dict[str, Any]:
        event = self._next()
        if event["event"] == "refused":
            raise DeviceError(refusal(self.address, event))
        if event["event"] != name:
            raise DeviceError(f"{self.address.text} answered {event['event']!r} where {name!r} was due.")
        return event

    def _next(self) -> dict[str, Any]:
        line = self._process.stdout.readline() if self._process.stdout else b""
        if not line.endswith(b"\n"):
            raise self._lost()
        return decode_event(self.address, line)

    def _read(self, size: int) -> bytes:
        content = self._process.stdout.read(size) if self._process.stdout else b""
        if len(content) < size:
            raise self._lost()
        return content

    def _lost(self) -> DeviceError:
        """Why the connection is over, once it is."""
        with suppress(subprocess.TimeoutExpired):  # it has something to say, perhaps
            self._process.wait(LAST_WORDS_SECONDS)
        end_process(self._process)
        complaints = tail(self._complaints)
        kind = NoPythonError if PYTHON_MISSING in complaints else DeviceError
        return kind(self._shell.explain(complaints))

    def _command(self, command: Mapping[str, object]) -> None:
        with self._writing:
            self._write_line(command)

    def _send(self, content: bytes) -> None:
        with self._writing:
            self._write(content)

    def _write_line(self, command: Mapping[str, object]) -> None:
        self._write(msgspec.json.encode(command) + b"\n")

    def _write(self, content: bytes) -> None:
        try:
            if self._process.stdin:
                self._process.stdin.write(content)
                self._process.stdin.flush()
        except OSError as error:
            raise self._lost() from error

    def _beat(self) -> None:
        """Tells the guard now and then that this side lives; an empty line is no command."""
        while not self._over.wait(self._patience_s / BEATS):
            try:
                with self._writing:
                    self._write(b"\n")
            except DeviceError:  # whoever waits for an answer is told
                return

    @contextmanager
    def _within(self, seconds: float) -> Iterator[None]:
        """Gives the connection up when the block takes longer."""
        with limited(self._process, seconds) as expired:
            try:
                yield
            except DeviceError as error:
                if expired.is_set():
                    raise DeviceError(f"{self.address.text} did not answer in time and was given up.") from error
                raise


def _parts(content: Content) -> Iterator[bytes]:
    if isinstance(content, bytes):
        yield content
        return
    with content.open("rb") as file:
        while part := file.read(CHUNK):
            yield part


def refusal(address: Address, event: Mapping[str, Any]) -> str:
    """Why a device did not do what it was asked to, in words."""
    if event["number"] in (errno.ENOSPC, errno.EDQUOT):
        return f"{address.text} has no space left for {event['file'] or 'a file'}. Free some there and try again."
    return f"{address.text} refused: {event['reason']} ({event['file']})."
