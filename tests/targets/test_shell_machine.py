"""What a shell tells of a machine, against what Python tells of the same one."""

import platform
from pathlib import Path

import pytest

from edgekit.errors import DeviceError
from edgekit.targets.address import parse_address
from edgekit.targets.device import open_device
from edgekit.targets.local import LocalShell
from edgekit.targets.shell_machine import look
from edgekit.targets.shell_session import Guest, ShellSession
from edgekit.targets.userland import USERLANDS

LOCAL = parse_address("local")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path / "cache"))


def test_a_shell_sees_what_python_sees() -> None:
    with open_device("local") as device:
        expected = device.probe()
    with ShellSession(LocalShell(LOCAL)) as session:
        facts, state = look(session)

    for name in ("address", "machine", "kernel", "processor", "features", "cores", "memory_kib", "emulated", "bits"):
        assert getattr(facts, name) == getattr(expected, name), name
    assert (facts.python, facts.numpy, facts.libc, facts.runtimes) == ("none", "", "", {})
    assert 0 < state.available_kib < facts.memory_kib
    assert state.load is not None


def test_clocks_of_two_looks_agree() -> None:
    with ShellSession(LocalShell(LOCAL)) as session:
        (_, before), (_, after) = look(session), look(session)

    assert 0 <= after.monotonic_s - before.monotonic_s < 60
    assert abs((after.wall_s - before.wall_s) - (after.monotonic_s - before.monotonic_s)) <= 1.0


def test_a_guest_is_what_is_described() -> None:
    board = USERLANDS["armv7"]
    guest = Guest(("qemu-arm",), board.machine, f"processor\t: 0\n{board.cpuinfo}")
    with ShellSession(LocalShell(LOCAL), guest) as session:
        facts, _ = look(session)

    assert (facts.machine, facts.bits, facts.processor, facts.emulated) == ("armv7l", 32, "0x41:0xc0f", True)
    assert platform.machine() != "armv7l"


def test_a_device_that_tells_nothing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgekit.targets.shell_machine.SCRIPT", "echo")
    with ShellSession(LocalShell(LOCAL)) as session, pytest.raises(DeviceError, match="does not tell what it is"):
        look(session)
