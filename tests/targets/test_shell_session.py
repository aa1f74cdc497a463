"""Sessions that a shell keeps, on this machine: files, programs, their ends, and that nothing is ever left."""

import hashlib
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgekit.errors import DeviceError
from edgekit.targets.address import parse_address
from edgekit.targets.local import LocalShell
from edgekit.targets.shell_device import open_shell
from edgekit.targets.shell_session import LOCK, ShellSession

LOCAL = parse_address("local")


@pytest.fixture(autouse=True)
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where sessions are kept."""
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path / "it's a cache"))
    return tmp_path / "it's a cache" / "local"


@pytest.fixture
def session(base: Path) -> Iterator[ShellSession]:
    with open_shell(LOCAL, print) as opened:
        yield opened
    assert list(base.iterdir()) == []


def script(session: ShellSession, text: str, name: str = "programs/one/pro gram") -> str:
    """A program on the device."""
    session.push(name, f"#!/bin/sh\n{text}\n".encode())
    session.push("artifacts/a/file", b"content")
    return name


def working_in(folder: Path) -> list[str]:
    """Processes that work below a folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            place = (process / "cwd").readlink()
        except OSError:
            continue
        if folder in place.parents:
            found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
    return found


def wait_until_empty(base: Path, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while list(base.iterdir()) or working_in(base):
        assert time.monotonic() < deadline, (list(base.iterdir()), working_in(base))
        time.sleep(0.1)


def test_a_program_gets_its_arguments_as_they_are(session: ShellSession) -> None:
    program = script(session, 'cat file; for word; do echo; printf "<%s>" "$word"; done; exit 7')

    ended = session.run("a", program, ("a b", "$HOME", "it's; rm -rf /", "[1,2]"), 30)

    assert (ended.code, ended.said) == (7, "content\n<a b>\n<$HOME>\n<it's; rm -rf />\n<[1,2]>")


def test_a_program_has_no_input(session: ShellSession) -> None:
    assert session.run("a", script(session, "cat; echo done"), (), 30).said == "done"


def test_a_signal_is_seen(session: ShellSession) -> None:
    assert session.run("a", script(session, "kill -SEGV $$"), (), 30).code == 128 + signal.SIGSEGV


def test_files_come_back_as_they_were_sent_and_are_private(session: ShellSession, base: Path) -> None:
    content = bytes(range(256)) * 1000
    session.push("artifacts/a/it's", content)

    assert session.fetch("artifacts/a/it's") == content
    (folder,) = base.iterdir()
    assert {path.stat().st_mode & 0o077 for path in (folder, *folder.rglob("*"))} == {0}


def test_a_file_that_is_not_there_is_told(session: ShellSession) -> None:
    with pytest.raises(DeviceError, match=r"local refused: cat: .*No such file"):
        session.fetch("artifacts/none")


def test_a_damaged_file_is_told(session: ShellSession, monkeypatch: pytest.MonkeyPatch) -> None:
    """The negative twin: the hash that is expected is another file's."""
    monkeypatch.setattr("edgekit.targets.shell_session.hashlib.sha256", hashlib.sha224)
    with pytest.raises(DeviceError, match="arrived damaged"):
        session.push("artifacts/a/x", b"content")


def test_a_program_that_hangs_is_ended_with_all_it_started(session: ShellSession, base: Path) -> None:
    program = script(session, "sleep 1000 & sleep 1000")

    with pytest.raises(DeviceError, match=r"pro gram on local did not end within 1 s, and was ended\."):
        session.run("a", program, (), 1)

    assert [line for line in working_in(base) if "1000" in line] == []
    assert session.run("a", script(session, "echo again", "programs/two/it"), (), 30).said == "again"


def test_a_program_that_prints_without_end_is_ended(session: ShellSession, base: Path) -> None:
    with pytest.raises(DeviceError, match="printed without end"):
        session.run("a", script(session, "while :; do echo yes yes yes yes yes; done"), (), 60)

    assert [line for line in working_in(base) if "pro gram" in line] == []


def test_closing_ends_what_runs(base: Path) -> None:
    with ShellSession(LocalShell(LOCAL)) as session:
        session._start(f"cd {shlex.quote(session.path('work'))} && sleep 1000", None)
        while not any("1000" in line for line in working_in(base)):
            time.sleep(0.05)

    wait_until_empty(base, 5)


def test_a_keeper_that_hears_nothing_clears_up(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when the link falls silent without being cut."""
    monkeypatch.setenv("EDGEKIT_SILENCE", "1")
    monkeypatch.setattr(ShellSession, "_beat", lambda self, seconds: None)
    with ShellSession(LocalShell(LOCAL)) as session:
        wait_until_empty(base)
        assert not session.alive
        with pytest.raises(DeviceError):
            session.fetch("artifacts/x")


def test_a_keeper_that_hears_beats_stays(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEKIT_SILENCE", "1")
    with ShellSession(LocalShell(LOCAL)) as session:
        time.sleep(2.5)
        assert session.alive
        session.push("artifacts/x", b"still here")


def kill_keeper(session: ShellSession, base: Path) -> None:
    """Takes a session its keeper, once that watches."""
    while not any("sleep" in line for line in working_in(base)):
        time.sleep(0.05)
    session._keeper.kill()
    session._keeper.wait()
    assert list(base.iterdir()) != []


def test_what_a_killed_keeper_left_is_cleared_up_by_itself(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEKIT_SILENCE", "1")
    with ShellSession(LocalShell(LOCAL)) as dead:
        kill_keeper(dead, base)
        wait_until_empty(base)


def test_what_a_killed_keeper_left_is_cleared_up_by_the_next(base: Path) -> None:
    with ShellSession(LocalShell(LOCAL)) as dead:
        kill_keeper(dead, base)
        with ShellSession(LocalShell(LOCAL)):
            assert len(list(base.iterdir())) == 1
    wait_until_empty(base)


KILLED = """
import sys
from edgekit.targets.address import parse_address
from edgekit.targets.shell_device import open_shell
session = open_shell(parse_address("local"), print)
session.push("artifacts/a/x", b"#!/bin/sh\\necho begins >&3\\nsleep 1000\\n")
print("begins", flush=True)
session.run("a", "artifacts/a/x", (), 1000)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_when_this_side_dies_nothing_is_left(base: Path, number: signal.Signals) -> None:
    process = subprocess.Popen([sys.executable, "-c", KILLED], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout is not None
    assert process.stdout.readline() == b"begins\n"
    while not any("1000" in line for line in working_in(base)):
        time.sleep(0.05)

    process.send_signal(number)
    process.wait()
    process.stdout.close()

    wait_until_empty(base)


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    shell = LocalShell(LOCAL)
    shell.bases = (str(tmp_path / "nowhere"), "/proc")

    with pytest.raises(DeviceError, match="edgekit: no folder can be written: mkdir"):
        ShellSession(shell)


def test_sessions_have_a_device_to_themselves_one_after_the_other(base: Path) -> None:
    said: list[str] = []
    first, second = ShellSession(LocalShell(LOCAL)), ShellSession(LocalShell(LOCAL))
    with second:
        with first:
            first.take(said.append)
            first.take(said.append)  # which it has already
            waiting = threading.Thread(target=second.take, args=(said.append,))
            waiting.start()
            waiting.join(2.5)
            assert waiting.is_alive()
            assert said == ["local: waiting, somebody else is measuring there"]
        waiting.join(30)
        assert not waiting.is_alive()
        assert (base / LOCK).is_symlink()
    assert list(base.iterdir()) == []


def test_who_is_gone_has_a_device_no_longer(base: Path) -> None:
    with ShellSession(LocalShell(LOCAL)) as dead:
        dead.take(print)
        kill_keeper(dead, base)
        with ShellSession(LocalShell(LOCAL)) as session:
            session.take(pytest.fail)
    wait_until_empty(base)


def test_a_session_that_waits_ends_with_its_device(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEKIT_SILENCE", "1")
    with ShellSession(LocalShell(LOCAL)) as first, ShellSession(LocalShell(LOCAL)) as second:
        first.take(print)
        second._keeper.kill()
        with pytest.raises(DeviceError):
            second.take(print)
    wait_until_empty(base)
