"""What a process owes its surroundings, whatever command it runs: privacy, open streams, and an orderly end."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from types import FrameType

ENDING_SIGNALS = ("SIGTERM", "SIGHUP")
"""What ends a process from outside: a scheduler, a container that stops, a lost ssh session."""


class Terminated(BaseException):
    """A signal ends the process; an exception, so that what was begun is cleaned up on the way out.

    Like `KeyboardInterrupt` it is no `Exception`, and unlike `SystemExit` nothing a user's code raises, so that whoever
    catches those does not swallow it.
    """

    def __init__(self, number: int) -> None:
        self.exit_code = 128 + number
        super().__init__(number)


def settle_environment() -> None:
    """Settings that frameworks read when they are imported; what the user has set stays."""
    # Idle OpenMP threads that spin make a float64 reference several times slower on a machine that is busy with
    # something else.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


@contextmanager
def orderly() -> Iterator[None]:
    """Makes the block end in order when a signal asks for it, and print on any terminal or none."""
    _open_descriptors()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # a question mark for a letter the terminal does not have
    with _ending_signals():
        yield


def drop_unwritable_output() -> None:
    """Lets what is buffered for standard output vanish where nobody takes it, or it would be tried again at the end."""
    if sys.stdout is None:
        return
    try:
        sys.stdout.flush()
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


@contextmanager
def _ending_signals() -> Iterator[None]:
    """Raises `Terminated` in the block on a signal that would kill the process; ignored ones (nohup) stay ignored."""
    if threading.current_thread() is not threading.main_thread():  # only it may set handlers
        yield
        return
    numbers = [signal.Signals[name] for name in ENDING_SIGNALS if hasattr(signal, name)]
    taken = [number for number in numbers if signal.getsignal(number) is signal.SIG_DFL]

    def end(number: int, _: FrameType | None) -> None:
        for each in taken:  # a second one must not interrupt the cleaning up
            signal.signal(each, signal.SIG_IGN)
        raise Terminated(number)

    for number in taken:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)


def _open_descriptors() -> None:
    """Opens the standard descriptors that are closed, or the next file that is opened would be taken for one."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
