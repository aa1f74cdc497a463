"""Clock governors: set for the time of a job, and put back whatever happens."""

from __future__ import annotations

import glob
import json
import os

PATTERN = "/sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_governor"
MEMORY = "governors.json"
"""File in a session's folder with what has to be put back; another session does it where this one was killed."""


def set_governor(wanted: str, session: str) -> str:
    """Sets the governor of every core; says why not where the system does not let it, else nothing."""
    paths = sorted(glob.glob(PATTERN))
    if not paths:
        return "the system has no governors"
    before = {path: _read(path) for path in paths}
    with open(os.path.join(session, MEMORY), "w", encoding="utf-8") as file:
        json.dump(before, file)
    try:
        for path in paths:
            _write(path, wanted)
    except OSError as error:
        restore_governors(session)
        return f"{error.filename or 'the kernel'}: {error.strerror}"
    return ""


def restore_governors(session: str) -> None:
    """Puts back what `set_governor` changed, if it did."""
    memory = os.path.join(session, MEMORY)
    try:
        with open(memory, encoding="utf-8") as file:
            before = json.load(file)
    except (FileNotFoundError, ValueError):  # nothing was set, or the board lost power while it was written
        return
    for path, governor in before.items():
        if _read(path) != governor:
            _write(path, governor)
    os.unlink(memory)


def _read(path: str) -> str:
    with open(path, encoding="utf-8") as file:
        return file.read().strip()


def _write(path: str, governor: str) -> None:
    with open(path, "w", encoding="utf-8") as file:
        file.write(governor)
