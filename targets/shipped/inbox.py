"""What comes in from the machine that started the guard: lines, and files of a size that was announced."""

from __future__ import annotations

import os
import select
import time
from typing import Any

SILENCE_SECONDS = 60.0
"""The other side says something every few seconds, if only that it lives; after this long it is taken for dead.

That side may set another time, of which it then takes a sixth to speak in.
"""

ROOM_SECONDS = 0.05
CHUNK = 1 << 20


class HostGoneError(Exception):
    """The link was cut, or nothing has come over it for too long."""


class Inbox:
    """Reads a descriptor without ever waiting for longer than the other side may be silent."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.patience_s = SILENCE_SECONDS
        self._pending = b""
        self._silence = 0.0

    def line(self, wait_s: float, also: tuple[int, ...] = ()) -> bytes | None:
        """The next line, or None when there is none yet.

        Args:
            wait_s: How long to wait for it.
            also: Descriptors that end the waiting too, as soon as they can be read.

        Raises:
            HostGoneError: No line will come any more.
        """
        if b"\n" not in self._pending:
            self._read(wait_s, also)
        text, newline, rest = self._pending.partition(b"\n")
        if not newline:
            return None
        self._pending = rest
        return text

    def copy(self, size: int, file: Any) -> None:
        """Writes the next bytes into a file.

        Raises:
            HostGoneError: They do not come.
        """
        while size:
            while not self._pending:
                self._read(self.patience_s, ())
            part, self._pending = self._pending[:size], self._pending[size:]
            size -= len(part)
            file.write(part)

    def wait_for_room(self, descriptor: int) -> None:
        """Waits until something can be written to a descriptor, and reads meanwhile.

        Raises:
            HostGoneError: The other side takes nothing and says nothing.
        """
        while not select.select([], [descriptor], [], 0)[1]:
            self._read(ROOM_SECONDS, ())

    def _read(self, wait_s: float, also: tuple[int, ...]) -> None:
        began = time.monotonic()
        ready, _, _ = select.select([self._descriptor, *also], [], [], wait_s)
        if self._descriptor in ready:
            content = os.read(self._descriptor, CHUNK)
            if not content:
                raise HostGoneError("the link was cut")
            self._silence = 0.0
            self._pending += content
            return
        self._silence += min(time.monotonic() - began, wait_s)  # a machine that sleeps meanwhile is not silent
        if self._silence > self.patience_s:
            raise HostGoneError(f"nothing was heard for {self.patience_s:g} s")
