"""The machine that edgekit runs on, as a device: jobs run in a process of their own, like on any board."""

import sys

from edgekit.targets.address import Address
from edgekit.targets.place import cache_folder


class LocalShell:
    """Starts this very Python."""

    def __init__(self, address: Address) -> None:
        self.address = address
        base = cache_folder("local")
        base.mkdir(parents=True, exist_ok=True)
        self.bases: tuple[str, ...] = (str(base),)

    def command(self, arguments: tuple[str, ...]) -> list[str]:
        return [sys.executable, *arguments]

    def script(self, text: str) -> list[str]:
        return ["/bin/sh", "-c", text]

    def explain(self, complaints: str) -> str:
        return f"The guard on this machine ended early. It said:\n{complaints}"
