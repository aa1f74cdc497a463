"""Devices on which nothing but a shell is needed, opened by their addresses."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from edgekit.targets.adb import AdbShell
from edgekit.targets.address import Address
from edgekit.targets.link import Progress
from edgekit.targets.local import LocalShell
from edgekit.targets.shell_session import Guest, Shell, ShellSession
from edgekit.targets.ssh import SshShell
from edgekit.targets.userland import USERLANDS, guest_emulator
from edgekit.targets.userland_build import build_userland

SHELLS: Mapping[str, Callable[[Address], Shell]] = MappingProxyType(
    {"adb": AdbShell, "local": LocalShell, "qemu": LocalShell, "ssh": SshShell}
)
"""Kind of address to what reaches a shell there; an emulated board's is this machine's."""


def open_shell(address: Address, progress: Progress) -> ShellSession:
    """Starts a session; a context manager that leaves nothing behind on the device.

    Raises:
        EnvironmentProblemError: This machine lacks what it takes to reach the device.
        DeviceError: The device cannot be reached, or has no folder that can be written.
    """
    guest = None
    if address.kind == "qemu":
        board = USERLANDS[address.name]
        emulator = guest_emulator(board, build_userland(address.name, progress))
        guest = Guest(tuple(emulator), board.machine, f"processor\t: 0\n{board.cpuinfo}")
    return ShellSession(SHELLS[address.kind](address), guest)
