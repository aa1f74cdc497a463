"""The command line, in this process and in one of its own."""

import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from edgekit.cli import cli
from tests.conftest import Exported

REPOSITORY = Path(__file__).parents[2]

Run = Callable[..., Result]
"""Arguments to what `edgekit` with them came to."""

Spawn = Callable[..., "subprocess.Popen[str]"]
"""Arguments, and options of Popen, to a process that runs `edgekit` with them in the test's folder."""

DEADLINE_SECONDS = 60


@pytest.fixture(autouse=True)
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A working folder and a cache of the test's own, and a machine on which nobody has set anything."""
    for name in ("EDGEKIT_CACHE_LIMIT_MB", "NO_COLOR", "FORCE_COLOR", "COLUMNS", "TTY_COMPATIBLE", "PYTHONWARNINGS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)


@pytest.fixture
def run() -> Run:
    """Runs a command in this process; an exception that is no message to the user fails the test."""

    def invoke(*arguments: object) -> Result:
        line = [str(argument) for argument in arguments]
        return CliRunner().invoke(cli, line, prog_name="edgekit", catch_exceptions=False)

    return invoke


@pytest.fixture
def spawn() -> Iterator[Spawn]:
    """Starts a command in a process of its own, which does not outlive the test."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: object, code: str = "", env: dict[str, str] | None = None, **options: Any) -> Any:
        # `code` runs in the new process before the command does. A job in the background ignores Ctrl-C and hands that
        # on; what is tested is a command in the foreground.
        signals = (
            "import signal\n"
            "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
            "signal.signal(signal.SIGHUP, signal.SIG_DFL)\n"
        )
        script = f"{signals}\n{code}\nfrom edgekit.cli import cli\ncli(prog_name='edgekit')"
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        process = subprocess.Popen(
            [sys.executable, "-c", script, *map(str, arguments)],
            env={**os.environ, "PYTHONPATH": str(REPOSITORY), **(env or {})},
            text=True,
            **{**pipes, **options},
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def finish(process: "subprocess.Popen[str]") -> tuple[int, str, str]:
    """Exit code, output and errors of a process, when it is done."""
    output, errors = process.communicate(timeout=DEADLINE_SECONDS)
    return process.returncode, output, errors


def wait_for(what: Callable[[], object], process: "subprocess.Popen[str]") -> None:
    """Waits until something has come true while a process runs."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not what():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def warm(exported: Exported, monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    """Arguments of an export whose every stage is in the cache."""
    monkeypatch.setenv("EDGEKIT_CACHE", str(exported.cache))
    return ("export", *exported.arguments)


def names(folder: Path) -> list[str]:
    """What is in a folder."""
    return sorted(path.name for path in folder.iterdir())


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
