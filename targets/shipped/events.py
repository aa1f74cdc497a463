"""What the runner says to the machine that started it: JSON, one object in a line."""

from __future__ import annotations

import json
import os
import sys
from typing import Any, Callable

Emit = Callable[..., None]


def open_events() -> Emit:
    """A function that writes an event to standard output, which from here on leads to standard error.

    Runtimes and their libraries print what they like; none of it may get between the events.
    """
    sys.stdout.flush()
    stream = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def emit(event: str, **content: Any) -> None:
        stream.write(json.dumps({"event": event, **content}) + "\n")
        stream.flush()

    return emit


def first_line(error: BaseException) -> str:
    """The first line of an error that says anything."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
