"""The ways to a board: what is started for them, and what their complaints mean."""

import shlex
import subprocess
from pathlib import Path

import pytest

from edgekit.errors import EnvironmentProblemError
from edgekit.targets.adb import AdbShell
from edgekit.targets.address import Address, parse_address
from edgekit.targets.posix import python_script
from edgekit.targets.ssh import SshShell

BOARD = parse_address("ssh://pi@board:2222")
PHONE = parse_address("adb://ABC123")


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH with an ssh and an adb on it."""
    for name in ("ssh", "adb"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("EDGEKIT_SSH", raising=False)
    return tmp_path


def test_ssh_is_the_users_own(programs: Path) -> None:
    command = SshShell(BOARD).command(("-c", "pass"))

    assert command[0] == "ssh"
    assert "BatchMode=yes" in command
    assert not any("StrictHostKeyChecking" in word or "UserKnownHostsFile" in word for word in command)
    assert command[-5:-1] == ["-p", "2222", "--", "pi@board"]
    assert "-c pass" in command[-1]


@pytest.mark.parametrize(("kind", "address", "start"), [(SshShell, BOARD, "/bin/sh -c "), (AdbShell, PHONE, "sh -c ")])
def test_a_script_is_one_word_of_the_remote_shell(
    programs: Path, kind: type[SshShell] | type[AdbShell], address: Address, start: str
) -> None:
    script = 'cd "it\'s"; echo $HOME\nrm x'

    line = kind(address).script(script)[-1]

    assert line.startswith(start)
    assert shlex.split(line)[-1] == script


def test_ssh_without_user_and_port_leaves_both_to_its_configuration(programs: Path) -> None:
    command = SshShell(parse_address("ssh://board")).command(("-c", "pass"))

    assert "-p" not in command
    assert command[-3:-1] == ["--", "board"]


def test_another_ssh_can_be_named(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEKIT_SSH", "ssh -F 'my config'")

    assert SshShell(BOARD).command(("-c", "pass"))[:3] == ["ssh", "-F", "my config"]


@pytest.mark.parametrize(
    ("complaint", "meaning"),
    [
        (
            "Host key for [board]:2222 has changed and you have requested strict checking.\n"
            "Host key verification failed.",
            "`ssh-keygen -R '[board]:2222'`",
        ),
        ("Host key verification failed.", "Connect once with `ssh -p 2222 pi@board`"),
        ("pi@board: Permission denied (publickey).", "`ssh-copy-id -p 2222 pi@board`"),
        (
            "ssh: Could not resolve hostname board: Name or service not known",
            "is no name that this machine can resolve",
        ),
        ("ssh: connect to host board port 2222: Connection refused", "nothing listens on that port"),
        ("ssh: connect to host board port 2222: Connection timed out", "Is it switched on"),
        ("ssh: connect to host board port 2222: No route to host", "Is it switched on"),
        ("Timeout, server board not responding.", "fell silent"),
        ("edgekit: there is no python3 on its PATH", "ssh://pi@board:2222: there is no python3 on its PATH."),
        ("edgekit: there is no python3 on its PATH", "--device ssh://pi@board:2222 --native ncnn=./benchncnn"),
        ("Killed", "ended before the job did. The last that was said:\nKilled"),
        ("", "ended before the job did. Nothing was said about why."),
    ],
)
def test_what_ssh_says_is_explained(programs: Path, complaint: str, meaning: str) -> None:
    assert meaning in SshShell(BOARD).explain(complaint)


@pytest.mark.parametrize(
    ("complaint", "meaning"),
    [
        ("* daemon started successfully\nerror: device 'ABC123' not found", "`adb devices` lists what is"),
        ("error: device unauthorized.", "Accept the question on its screen"),
        ("error: device offline", "Plug it in again"),
        ("edgekit: there is no python3 on its PATH", "adb://ABC123: there is no python3 on its PATH."),
        ("a program's own words: not found", "ended before the job did"),
    ],
)
def test_what_adb_says_is_explained(programs: Path, complaint: str, meaning: str) -> None:
    assert meaning in AdbShell(PHONE).explain(complaint)


@pytest.mark.parametrize(("shell", "address"), [(SshShell, BOARD), (AdbShell, PHONE)])
def test_a_missing_client_is_named(
    shell: type[SshShell] | type[AdbShell], address: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("EDGEKIT_SSH", raising=False)

    with pytest.raises(EnvironmentProblemError, match="as root: apt-get install"):
        shell(address)  # type: ignore[arg-type]


def on_path(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).write_text(f'#!/bin/sh\necho {name} "$@"\n')
        (folder / name).chmod(0o755)


def run_script(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    script = python_script(arguments)
    return subprocess.run(
        ["/bin/sh", "-c", script], env={"PATH": str(folder)}, capture_output=True, text=True, check=False
    )


def test_the_script_runs_the_boards_python(tmp_path: Path) -> None:
    on_path(tmp_path, "python3", "python3.11")

    assert run_script(tmp_path, "-c", "it's; $HOME", "~").stdout == "python3 -c it's; $HOME ~\n"


def test_the_script_takes_the_newest_python_where_none_is_the_usual_one(tmp_path: Path) -> None:
    on_path(tmp_path, "python3.9", "python3.11")

    assert run_script(tmp_path, "x").stdout == "python3.11 x\n"


def test_the_script_says_that_there_is_none(tmp_path: Path) -> None:
    process = run_script(tmp_path, "x")

    assert (process.returncode, process.stderr) == (127, "edgekit: there is no python3 on its PATH\n")
