"""The measuring process as its parent sees it: ask, wait, and turn whatever goes wrong into one line."""

import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Self, TypeVar

import msgspec

import edgekit
from edgekit import errors
from edgekit.artifact import CaseParity
from edgekit.bench.protocol import Answer, Failed, Prepare, Request, decode_answer, encode
from edgekit.bench.record import Setting
from edgekit.errors import ArtifactError, EdgekitError, EnvironmentProblemError
from edgekit.quiet import TAIL_LINES

PATIENCE_SECONDS = 600.0
"""How long one answer may take before the runtime counts as hanging."""

A = TypeVar("A", bound=Answer)


@dataclass(frozen=True, slots=True)
class Place:
    """Where an artifact is, and how it is to be run.

    Attributes:
        path: The artifact's main file.
        size_bytes: Size of all its files.
        reference: The reference of its bundle.
        recorded: Comparisons with it whose gates count instead of those of float32.
    """

    runtime: str
    path: Path
    size_bytes: int
    reference: Path
    setting: Setting
    recorded: tuple[CaseParity, ...] = ()

    @property
    def prepare(self) -> Prepare:
        """The first request to its process."""
        return Prepare(
            runtime=self.runtime,
            path=str(self.path.absolute()),
            reference=str(self.reference.absolute()),
            affinity=self.setting.affinity,
        )


class Child:
    """A process of `edgekit.bench.worker`; a context manager that ends it."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._chatter = tempfile.TemporaryFile()  # noqa: SIM115 - closed by __exit__
        root = str(Path(edgekit.__file__).parents[1])
        inherited = os.environ.get("PYTHONPATH")
        self._process = subprocess.Popen(
            # -P keeps the working folder out of what can be imported: a file there may have any name.
            [sys.executable, "-P", "-m", "edgekit.bench.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._chatter,
            bufsize=0,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([root, *([inherited] if inherited else [])])},
        )
        self.pid = self._process.pid

    def ask(
        self,
        request: Request,
        kind: type[A],
        *,
        meanwhile: Callable[[], object] | None = None,
        every: float = 1.0,
        patience: float = PATIENCE_SECONDS,
    ) -> A:
        """The answer to a request.

        Args:
            request: What to do.
            kind: What the answer is when it is done.
            meanwhile: Called while there is none yet, each time `every` seconds have passed.
            every: See there.
            patience: Seconds after which the process is ended.

        Raises:
            EdgekitError: Whatever error the process met, as if it had been met here.
            ArtifactError: The process crashed, or there was no answer in time.
            EnvironmentProblemError: The system ended it.
        """
        try:
            assert self._process.stdin is not None  # noqa: S101 - it was opened with a pipe
            self._process.stdin.write(encode(request))
        except BrokenPipeError as error:
            raise self._crashed() from error
        line = self._line(meanwhile, every, patience)
        try:
            answer = decode_answer(line)
        except msgspec.DecodeError as error:
            raise EnvironmentProblemError(
                f"The process that measures {self._name} answers in a language of its own ({error}). Is another "
                "edgekit installed beside this one?"
            ) from error
        if isinstance(answer, Failed):
            raise named_error(answer)
        assert isinstance(answer, kind)  # noqa: S101 - each request has one kind of answer
        return answer

    def _line(self, meanwhile: Callable[[], object] | None, every: float, patience: float) -> bytes:
        assert self._process.stdout is not None  # noqa: S101 - it was opened with a pipe
        descriptor, received = self._process.stdout.fileno(), b""
        deadline = time.monotonic() + patience
        while not received.endswith(b"\n"):
            ready, _, _ = select.select([descriptor], [], [], every if meanwhile else patience)
            if ready:
                chunk = os.read(descriptor, 1 << 20)
                if not chunk:
                    raise self._crashed()
                received += chunk
            elif time.monotonic() > deadline:
                raise ArtifactError(f"{self._name} gave no answer in {patience:.0f} s; its process was ended.")
            elif meanwhile:
                meanwhile()
        return received

    def _crashed(self) -> EdgekitError:
        """The error that says how the process ended, with the last of what it printed."""
        code = self._process.wait()
        self._chatter.seek(0)
        lines = [line for line in self._chatter.read().decode(errors="replace").splitlines() if line.strip()]
        said = f" Its last words: {lines[-1].strip()}" if lines else ""
        if code == -signal.SIGKILL:
            error: EdgekitError = EnvironmentProblemError(
                f"The system ended the process that ran {self._name}, as it does when there is no memory left."
            )
        else:
            how = f"crashed ({signal.Signals(-code).name})" if code < 0 else f"ended with exit code {code}"
            error = ArtifactError(f"The process that ran {self._name} {how}.{said}")
        error.add_note("\n".join(lines[-TAIL_LINES:]))
        return error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        for stream in (self._process.stdin, self._process.stdout, self._chatter):
            if stream is not None:
                stream.close()
        self._process.wait()


def named_error(failed: Failed) -> EdgekitError:
    """The error a process reported, as one of this process."""
    kind = getattr(errors, failed.kind, EdgekitError)
    made: EdgekitError = kind.__new__(kind, failed.message)  # some classes make their message from other arguments
    return made
