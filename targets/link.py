"""How files and commands reach a device, and what comes back."""

import math
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

import msgspec

from edgekit.errors import DeviceError, first_line
from edgekit.targets.address import Address

Events = Iterator[dict[str, Any]]
Content = Path | bytes
Progress = Callable[[str], None]
"""Gets a line for each thing that takes its time."""

TAIL_LINES = 12
SLICE_SECONDS = 0.25
LAST_WORDS_SECONDS = 10.0


@dataclass(frozen=True, kw_only=True)
class Order:
    """How the runner is to be started.

    Attributes:
        timeout_s: Seconds after which it is ended.
        marks: File that takes the marks of an instruction counter; "" for no counting.
        governor: Of the clocks, for the time it runs; "" leaves them alone.
    """

    timeout_s: float
    marks: str = ""
    governor: str = ""


class Link(Protocol):
    """A folder on a device for the time of a session, and the runner in it.

    Names of files are relative to that folder. Every call ends within a limit of time, and raises `DeviceError` with
    what happened when the device does not do what it should.
    """

    address: Address
    emulated: bool
    counts: bool
    no_memory: str
    """Why the memory of a process there says nothing; "" where it does."""

    def push(self, files: Mapping[str, Content]) -> None:
        """Writes files into the session's folder."""
        ...

    def fetch(self, name: str) -> bytes:
        """Reads a file of the session's folder."""
        ...

    def run(self, *arguments: str, order: "Order") -> Events:
        """Starts the runner with arguments, a command and names of files, and gives its events as they come.

        Raises:
            DeviceError: It ended before its time, or was ended.
        """
        ...

    def close(self) -> None:
        """Removes the session's folder and ends whatever still runs in it."""
        ...


@contextmanager
def limited(
    process: "subprocess.Popen[bytes]", seconds: float, end: Callable[["subprocess.Popen[bytes]"], None] | None = None
) -> Iterator[threading.Event]:
    """Ends a process when the block takes too long; the event tells whether it did.

    Time in which this machine sleeps or stands still does not count: the limit is counted in slices. `end` is another
    way to end it than `end_process`.
    """
    finished, expired = threading.Event(), threading.Event()

    def watch() -> None:
        for _ in range(math.ceil(seconds / SLICE_SECONDS)):
            if finished.wait(SLICE_SECONDS):
                return
        expired.set()
        (end or end_process)(process)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield expired
    finally:
        finished.set()
        watcher.join()


def end_process(process: "subprocess.Popen[bytes]") -> None:
    """Ends a process, the hard way when it does not go by itself."""
    process.terminate()
    try:
        process.wait(LAST_WORDS_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def stream_events(
    address: Address,
    command: list[str],
    environment: Mapping[str, str],
    timeout_s: float,
    started: Callable[["subprocess.Popen[bytes]"], None],
) -> Events:
    """Starts a program that speaks in events, one JSON object in a line, and passes them on.

    Args:
        address: What to call the device.
        command: The program.
        environment: All of its environment.
        timeout_s: Seconds after which it is ended.
        started: Gets the process, for whoever may have to end it from elsewhere.

    Raises:
        DeviceError: It ended in another way than well; the message holds the end of what it said to standard error.
    """
    with tempfile.TemporaryFile() as complaints:
        process = subprocess.Popen(
            command, env=dict(environment), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=complaints
        )
        started(process)
        last = "nothing"
        try:
            with limited(process, timeout_s) as expired:
                for line in process.stdout or ():
                    event = decode_event(address, line)
                    last = str(event.get("event"))
                    yield event
                code = process.wait()
        finally:
            end_process(process)
        if expired.is_set():
            raise DeviceError(f"{address.text} did not finish within {timeout_s:g} s; its last sign of life: {last}.")
        if code:
            raise DeviceError(ending(address, code, last, tail(complaints)))


def decode_event(address: Address, line: bytes) -> dict[str, Any]:
    """The event that a line is."""
    try:
        return msgspec.json.decode(line, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise DeviceError(f"{address.text} sent what is no event ({first_line(error)}): {line[:200]!r}") from error


def ending(address: Address, code: int, last: str, complaints: str) -> str:
    """Why a runner ended early, in words."""
    how = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
    hint = " It may have run out of memory." if code in (-9, 137) else ""
    said = f" It said:\n{complaints}" if complaints else ""
    return f"The runner on {address.text} {how} after event {last!r}.{hint}{said}"


def tail(file: IO[bytes]) -> str:
    """The last lines of a file."""
    file.seek(0)
    return "\n".join(file.read().decode(errors="replace").splitlines()[-TAIL_LINES:])
