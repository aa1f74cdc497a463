"""What runs on this machine for the device `local`, found by its command line."""

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from edgekit.targets.place import cache_folder


def wait_until(condition: Callable[[], object], seconds: float = 120.0) -> None:
    """Waits for something to come true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.02)


def processes(words: str) -> list[int]:
    """Processes whose command line holds these words, and the folder of this test's sessions."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # processes come and go
            command = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if words in command and str(cache_folder("local")) in command:
                found.append(int(path.parent.name))
    return found
