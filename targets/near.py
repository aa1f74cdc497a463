"""Devices on this very machine: the machine itself, and boards that it emulates. Their folder is a temporary one."""

import os
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from edgekit.errors import DeviceError
from edgekit.targets.address import Address
from edgekit.targets.archive import runner_archive
from edgekit.targets.counter import build_counter
from edgekit.targets.link import Content, Events, stream_events
from edgekit.targets.userland import USERLANDS, guest_command, guest_environment
from edgekit.targets.userland_build import Progress, build_userland


class NearLink:
    """A session in a temporary folder."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self.folder = Path(tempfile.mkdtemp(prefix="edgekit-"))
        self.push({"runner.zip": runner_archive()})

    def push(self, files: Mapping[str, Content]) -> None:
        for name, content in files.items():
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, Path):
                path.symlink_to(content.absolute())
            else:
                path.write_bytes(content)

    def fetch(self, name: str) -> bytes:
        try:
            return (self.folder / name).read_bytes()
        except FileNotFoundError as error:
            raise DeviceError(f"{self.address.text} left no {name} behind.") from error

    def close(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def arguments(self, given: tuple[str, ...]) -> list[str]:
        """What the runner is started with: itself, a command, and the paths of files."""
        command, *names = given
        return [str(self.folder / "runner.zip"), command, *(str(self.folder / name) for name in names)]


class LocalLink(NearLink):
    """The machine edgekit runs on, in a process of its own."""

    emulated = False
    counts = False

    def run(self, *arguments: str, marks: str, timeout_s: float) -> Events:
        if marks:
            raise DeviceError("local cannot count instructions; an emulated board can, such as qemu://aarch64.")
        return stream_events(self.address, [sys.executable, *self.arguments(arguments)], os.environ, timeout_s)


class QemuLink(NearLink):
    """An ARM board under user-mode emulation, made from packages when it is first needed.

    Its outputs are those of the board's own programs, and its instructions can be counted; its time and memory are not
    a board's.
    """

    emulated = True
    counts = True

    def __init__(self, address: Address, progress: Progress) -> None:
        self._board = USERLANDS[address.name]
        self._userland = build_userland(address.name, progress)
        super().__init__(address)

    def run(self, *arguments: str, marks: str, timeout_s: float) -> Events:
        options = ["-plugin", f"{build_counter()},out={self.folder / marks}"] if marks else []
        command = [*guest_command(self._board, self._userland, options), *self.arguments(arguments)]
        return stream_events(self.address, command, guest_environment(self._userland), timeout_s)
