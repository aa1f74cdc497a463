"""What is done to a device besides measuring on it: set it up, examine it, clear it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec

from edgekit.errors import MisuseError, NoPythonError
from edgekit.targets.address import Address
from edgekit.targets.device import Device, connect
from edgekit.targets.doctor import Diagnosis, diagnose, diagnose_without_python
from edgekit.targets.job import State
from edgekit.targets.known import forget, remember, remove_userland
from edgekit.targets.link import Link, Order, Progress
from edgekit.targets.served import ServedLink
from edgekit.targets.setup import CHECK_SECONDS, install_runtimes
from edgekit.targets.shell_device import open_shell
from edgekit.targets.shell_machine import look
from edgekit.targets.wheels import choose_wheel

ADVICE = {
    "local": "It runs what is installed beside edgekit: pip install 'edgekit[all]'",
    "qemu": "An emulated board has every runtime that installs there, and is made when it is first used",
}


@contextmanager
def _connected(address: Address, progress: Progress) -> Iterator[Link]:
    link = connect(address, progress)
    try:
        yield link
    finally:
        link.close()


def set_up_device(address: Address, runtimes: Sequence[str], progress: Progress) -> Diagnosis:
    """Brings runtimes to a board.

    Raises:
        MisuseError: It is no board, or a runtime does not install there.
        EnvironmentProblemError: A wheel cannot be fetched.
        DeviceError: The board cannot be reached, has no space, or was lost.
    """
    if address.kind in ADVICE:
        raise MisuseError(f"{address.text} cannot be set up. {ADVICE[address.kind]}.")
    with _connected(address, progress) as link:
        board = Device(link).probe()
        wheels = [choose_wheel(runtime, board) for runtime in runtimes]
        if isinstance(link, ServedLink):
            install_runtimes(link, board, wheels, progress)
        remember(address, [wheel.distribution for wheel in wheels])
        return _diagnose(link)


def examine_device(address: Address, progress: Progress) -> Diagnosis:
    """Asks a device what it is and has, and imports every runtime there; one without Python is looked at by a shell.

    Raises:
        EnvironmentProblemError: This machine lacks what it takes to reach it.
        DeviceError: It cannot be reached, or was lost.
    """
    try:
        with _connected(address, progress) as link:
            return _diagnose(link)
    except NoPythonError:
        with open_shell(address, progress) as session:
            return diagnose_without_python(*look(session))


def clear_device(address: Address, progress: Progress) -> str:
    """Takes off a device whatever edgekit brought there, and tells what that was.

    Raises:
        DeviceError: It cannot be reached, or was lost.
    """
    if address.kind == "local":
        return "Nothing was ever left on this machine besides edgekit's cache."
    if address.kind == "qemu":
        there = remove_userland(address.name)
        return f"{address.text} was removed from the cache." if there else f"{address.text} was not there."
    with _connected(address, progress) as link:
        if isinstance(link, ServedLink):
            link.uninstall()
    forget(address)
    return f"{address.text} is as it was before edgekit."


def _diagnose(link: Link) -> Diagnosis:
    (probed,) = link.run("probe", order=Order(timeout_s=CHECK_SECONDS))
    checked = {
        str(event["distribution"]): str(event["failure"])
        for event in link.run("check", order=Order(timeout_s=CHECK_SECONDS))
    }
    state = msgspec.convert(msgspec.convert(probed["state"], dict[str, Any]), State)
    return diagnose(Device(link).describe(probed["facts"]), state, checked)
