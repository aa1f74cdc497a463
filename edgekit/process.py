"""A converter in a process of its own: what it prints is kept, and its crash is an error like any other."""

import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Finished:
    """How a program ended: its exit status, negative for the signal that killed it, and what it printed."""

    status: int
    output: str

    @property
    def crash(self) -> str | None:
        """The name of the signal that killed it, such as SIGSEGV; None where none did."""
        return signal.Signals(-self.status).name if self.status < 0 else None


def run(command: Sequence[str], folder: Path) -> Finished:
    """Runs a program in a folder, without a shell, and waits for it."""
    done = subprocess.run(
        [*command],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    return Finished(done.returncode, done.stdout.decode(errors="replace"))


def run_script(script: Path, arguments: Sequence[str], folder: Path) -> Finished:
    """Runs a Python file of this package; neither its folder nor the working one is searched for modules."""
    return run([sys.executable, "-P", str(script), *arguments], folder)
