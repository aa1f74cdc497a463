"""Emulated ARM boards, made from packages when they are first needed.

Their outputs are those of a board's own programs, and their instructions can be counted; their time and memory are not
a board's. There is no guard here: the emulator is a child of this process, and its folder a temporary one.
"""

import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from edgekit.errors import DeviceError
from edgekit.targets.address import Address
from edgekit.targets.archive import runner_archive
from edgekit.targets.counter import build_counter
from edgekit.targets.link import Content, Events, Order, Progress, end_process, stream_events
from edgekit.targets.userland import USERLANDS, guest_command, guest_environment
from edgekit.targets.userland_build import build_userland


class QemuLink:
    """A board under user-mode emulation."""

    emulated = True
    counts = True
    no_memory = "memory is not measured under user-mode emulation, where the emulator's own is part of every process"

    def __init__(self, address: Address, progress: Progress) -> None:
        self.address = address
        self._board = USERLANDS[address.name]
        self._userland = build_userland(address.name, progress)
        self._folder = Path(tempfile.mkdtemp(prefix="edgekit-"))
        self._guest: subprocess.Popen[bytes] | None = None
        self.push({"runner.zip": runner_archive()})

    def push(self, files: Mapping[str, Content]) -> None:
        for name, content in files.items():
            path = self._folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, Path):
                shutil.copyfile(content, path)  # it is sent once, and may be gone when the next job needs it again
            else:
                path.write_bytes(content)

    def fetch(self, name: str) -> bytes:
        try:
            return (self._folder / name).read_bytes()
        except FileNotFoundError as error:
            raise DeviceError(f"{self.address.text} left no {name} behind.") from error

    def run(self, *arguments: str, order: Order) -> Events:
        options = ["-plugin", f"{build_counter()},out={self._folder / order.marks}"] if order.marks else []
        command, *names = arguments
        guest = guest_command(self._board, self._userland, options)
        program = [str(self._folder / "runner.zip"), command, *(str(self._folder / name) for name in names)]
        environment = guest_environment(self._userland)
        return stream_events(self.address, [*guest, *program], environment, order.timeout_s, self._note)

    def _note(self, guest: "subprocess.Popen[bytes]") -> None:
        self._guest = guest

    def close(self) -> None:
        if self._guest is not None:  # it still runs where another thread waits for it
            end_process(self._guest)
        shutil.rmtree(self._folder, ignore_errors=True)
