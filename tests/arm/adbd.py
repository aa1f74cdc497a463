"""The side of adb that is on a device, as far as `adb shell` needs it: on TCP, without authentication.

No distribution packages a daemon for adb, so this stands in for one; the client and its server are the real ones. Of
the protocol it has connections, streams with flow control, and version 2 of the shell service, which keeps input,
output, errors and the exit code apart.
"""

import socket
import struct
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import IO

HEADER = struct.Struct("<4s5I")
VERSION, LARGEST = 0x01000000, 1 << 16
BANNER = b"device::ro.product.name=edgekit;ro.product.model=double;ro.product.device=double;features=shell_v2,cmd"

PACKET = struct.Struct("<BI")
STDIN, STDOUT, STDERR, EXIT, CLOSE_STDIN = range(5)


class Connection:
    """One adb server that is connected, with its streams."""

    def __init__(self, link: socket.socket, environment: Mapping[str, str]) -> None:
        self._link = link
        self._environment = environment
        self._sending = threading.Lock()
        self._streams: dict[int, Stream] = {}

    def serve(self) -> None:
        """Answers messages until the link is closed."""
        with suppress(OSError):
            while header := self._receive(HEADER.size):
                kind, first, second, size, _, _ = HEADER.unpack(header)
                self._answer(kind, first, second, self._receive(size))
        for stream in self._streams.values():
            stream.end()

    def _answer(self, kind: bytes, first: int, second: int, content: bytes) -> None:
        if kind == b"CNXN":
            self.send(b"CNXN", VERSION, LARGEST, BANNER)
        elif kind == b"OPEN":
            self._open(first, content.rstrip(b"\0").decode())
        elif second in self._streams and kind == b"WRTE":
            self._streams[second].take(content)
            self.send(b"OKAY", second, first)
        elif second in self._streams and kind == b"OKAY":
            self._streams[second].ready.set()
        elif second in self._streams and kind == b"CLSE":
            self._streams.pop(second).end()

    def _open(self, peer: int, service: str) -> None:
        name, _, command = service.partition(":")
        if not name.startswith("shell,v2"):
            self.send(b"CLSE", 0, peer)
            return
        number = len(self._streams) + 1
        self._streams[number] = Stream(self, number, peer, command, self._environment)

    def send(self, kind: bytes, first: int, second: int, content: bytes = b"") -> None:
        """Sends one message."""
        (magic,) = struct.unpack("<I", kind)
        header = HEADER.pack(kind, first, second, len(content), sum(content) & 0xFFFFFFFF, magic ^ 0xFFFFFFFF)
        with self._sending:
            self._link.sendall(header + content)

    def _receive(self, size: int) -> bytes:
        content = b""
        while len(content) < size:
            part = self._link.recv(size - len(content))
            if not part:
                raise OSError("closed")
            content += part
        return content


class Stream:
    """One shell command."""

    def __init__(
        self, connection: Connection, number: int, peer: int, command: str, environment: Mapping[str, str]
    ) -> None:
        self._connection, self._number, self._peer = connection, number, peer
        self._pending = b""
        self.ready = threading.Event()
        self._writing = threading.Lock()
        self._process = subprocess.Popen(
            ["/bin/sh", "-c", command],
            env=dict(environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        connection.send(b"OKAY", number, peer)
        threading.Thread(target=self._pump_all, daemon=True).start()

    def take(self, content: bytes) -> None:
        """Takes what comes from the client: packets for standard input."""
        self._pending += content
        stdin = self._process.stdin
        assert stdin is not None
        while len(self._pending) >= PACKET.size:
            kind, size = PACKET.unpack_from(self._pending)
            if len(self._pending) < PACKET.size + size:
                return
            text, self._pending = self._pending[PACKET.size : PACKET.size + size], self._pending[PACKET.size + size :]
            with suppress(OSError):  # the command may have ended
                if kind == STDIN:
                    stdin.write(text)
                    stdin.flush()
                elif kind == CLOSE_STDIN:
                    stdin.close()

    def _pump_all(self) -> None:
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        errors = threading.Thread(target=self._pump, args=(self._process.stderr, STDERR), daemon=True)
        errors.start()
        with suppress(OSError):
            self._pump(self._process.stdout, STDOUT)
            errors.join()
            self._write(EXIT, bytes([self._process.wait() & 0xFF]))
            self._connection.send(b"CLSE", self._number, self._peer)

    def _pump(self, source: IO[bytes], kind: int) -> None:
        while part := source.read1(LARGEST // 2):  # type: ignore[attr-defined]
            self._write(kind, part)

    def _write(self, kind: int, content: bytes) -> None:
        """Sends a packet, and waits until the client has taken it."""
        with self._writing:
            self.ready.clear()
            self._connection.send(b"WRTE", self._number, self._peer, PACKET.pack(kind, len(content)) + content)
            self.ready.wait(60)

    def end(self) -> None:
        """Closes the command's input, as the death of a link does."""
        self.ready.set()
        if self._process.stdin is not None:
            with suppress(OSError):
                self._process.stdin.close()


@contextmanager
def running_daemon(environment: Mapping[str, str]) -> Iterator[int]:
    """Runs a daemon whose commands have that environment, and gives its port."""
    listener = socket.create_server(("127.0.0.1", 0))

    def accept() -> None:
        with suppress(OSError):  # closed at the end
            while True:
                link, _ = listener.accept()
                threading.Thread(target=Connection(link, environment).serve, daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield int(listener.getsockname()[1])
    finally:
        listener.close()
