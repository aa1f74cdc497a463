"""Boards behind adb, the debug bridge that Android devices and many boards with vendors' systems have."""

import shutil

from edgekit.errors import EnvironmentProblemError
from edgekit.targets.address import Address
from edgekit.targets.posix import python_script, shell_command, told

EXPLANATIONS = (
    ("unauthorized", "has not allowed this machine to debug it. Accept the question on its screen"),
    ("not found", "is not connected. `adb devices` lists what is"),
    ("offline", "is connected, but does not answer. Plug it in again, or restart it"),
    ("closed", "closed the connection: the link was cut, or the device reboots"),
)
"""What adb says to what that means."""


class AdbShell:
    """One connection through adb; without a terminal, which would change the bytes that go over it."""

    bases: tuple[str, ...] = ("/data/local/tmp", "~", "/tmp")  # noqa: S108 - the folder in it is private

    def __init__(self, address: Address) -> None:
        self.address = address
        if shutil.which("adb") is None:
            raise EnvironmentProblemError(
                f"Reaching {address.text} needs adb. On Debian, as root: apt-get install adb."
            )

    def command(self, arguments: tuple[str, ...]) -> list[str]:
        return self._remote(python_script(arguments))

    def script(self, text: str) -> list[str]:
        return self._remote(shell_command(text, "sh"))  # not every Android has a /bin

    def _remote(self, line: str) -> list[str]:
        return ["adb", "-s", self.address.name, "shell", "-T", line]

    def explain(self, complaints: str) -> str:
        own = [line for line in complaints.splitlines() if line.startswith(("error:", "adb:"))]
        for sign, meaning in EXPLANATIONS:
            if own and sign in own[-1]:
                return f"{self.address.text} {meaning}."
        return told(self.address, complaints)
