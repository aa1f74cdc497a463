"""Addresses of devices: `local`, `qemu://armv7`, `ssh://user@host:port`, `adb://serial`."""

import re
from dataclasses import dataclass
from typing import Literal

from edgekit.errors import MisuseError

Kind = Literal["local", "qemu", "ssh", "adb"]

EXAMPLES = "local, qemu://armv7, qemu://aarch64, ssh://user@board, ssh://user@board:2222 or adb://SERIAL"

# A name that begins with a dash would be an option of ssh or adb.
_HOST = r"[A-Za-z0-9_][A-Za-z0-9_.-]*|\[[0-9A-Fa-f:.]+(?:%[A-Za-z0-9_.-]+)?\]"
_SSH = re.compile(rf"(?:(?P<user>[A-Za-z0-9_][A-Za-z0-9_.-]*)@)?(?P<host>{_HOST})(?::(?P<port>[0-9]{{1,5}}))?/?")
_SERIAL = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]*")


@dataclass(frozen=True, kw_only=True)
class Address:
    """Where a device is; `text` is the address in its shortest form, by which it is known.

    `name` is the userland, host or serial number; `user` and `port` are for ssh only, and empty or 0 leave the choice
    to ssh's own configuration.
    """

    kind: Kind
    name: str = ""
    user: str = ""
    port: int = 0

    @property
    def text(self) -> str:
        if self.kind == "local":
            return "local"
        user = f"{self.user}@" if self.user else ""
        port = f":{self.port}" if self.port else ""
        return f"{self.kind}://{user}{self.name}{port}"


def parse_address(text: str) -> Address:
    """The address that a text means.

    Raises:
        MisuseError: It means none.
    """
    if text == "local":
        return Address(kind="local")
    kind, separator, rest = text.partition("://")
    if separator and kind == "qemu" and rest in ("armv7", "aarch64"):
        return Address(kind="qemu", name=rest)
    if separator and kind == "ssh" and (found := _SSH.fullmatch(rest)):
        port = int(found["port"] or 0)
        if port < 1 << 16:
            return Address(kind="ssh", name=found["host"], user=found["user"] or "", port=port)
    if separator and kind == "adb" and _SERIAL.fullmatch(rest):
        return Address(kind="adb", name=rest)
    raise MisuseError(f"{text!r} is no address of a device. Write {EXAMPLES}.")
