"""Sessions' folders on a board: which are in use, and what the dead ones left."""

from __future__ import annotations

import fcntl
import glob
import os
import shutil
import signal
from contextlib import suppress

from edgekit.targets.shipped.governors import restore_governors

LOCK_FOLDERS = ("/tmp", "/data/local/tmp")  # noqa: S108 - one place for all users of a board, opened without links
LOCK = "edgekit-board.lock"


def sweep(session: str) -> list[str]:
    """Removes the folders of sessions whose guard was killed or went down with the board, and tells which.

    What such a guard could not do is done for it: its worker is ended, and the governors are put back.
    """
    removed = []
    for alive in glob.glob(os.path.join(os.path.dirname(session), "*", "alive")):
        folder = os.path.dirname(alive)
        if folder != session and not _locked(alive):
            _end_processes(folder)
            with suppress(OSError):  # another user's governors
                restore_governors(folder)
            shutil.rmtree(folder, ignore_errors=True)
            removed.append(os.path.basename(folder))
    return removed


def _locked(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:  # another guard has just swept it
        return True
    except OSError:
        return True
    return False


def _end_processes(folder: str) -> None:
    """Kills programs that were started with a file in the folder."""
    for path in glob.glob("/proc/[0-9]*/cmdline"):
        with suppress(OSError):  # processes come and go
            with open(path, "rb") as file:
                command = file.read()
            if os.fsencode(folder + "/") in command:
                os.kill(int(path.split("/")[2]), signal.SIGKILL)


def remove(session: str) -> None:
    """Removes a session's folder, and those above it that edgekit made, as far as nothing else is in them."""
    shutil.rmtree(session, ignore_errors=True)
    sessions = os.path.dirname(session)
    with suppress(OSError):  # other sessions, or wheels
        os.rmdir(sessions)
        os.rmdir(os.path.dirname(sessions))


class BoardLock:
    """The right to measure on this board, which one session has at a time; a context manager that gives it back.

    It is a lock on a file, which the system releases when its holder dies. Whoever has it removes the file at the end,
    so a lock counts only on a file that is still under its name.
    """

    def __init__(self) -> None:
        folder = next(folder for folder in (*LOCK_FOLDERS, ".") if os.path.isdir(folder))
        self._path = os.path.join(folder, LOCK)
        self._descriptor = -1

    def try_it(self) -> bool:
        """Takes the lock, unless another session has it."""
        try:
            descriptor = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW)
        except FileNotFoundError:
            descriptor = os.open(self._path, os.O_RDONLY | os.O_CREAT | os.O_NOFOLLOW, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            ours = os.path.samestat(os.fstat(descriptor), os.stat(self._path))
        except OSError:
            ours = False
        if ours:
            self._descriptor = descriptor
        else:
            os.close(descriptor)
        return ours

    def __enter__(self) -> BoardLock:
        return self

    def __exit__(self, *_: object) -> None:
        if self._descriptor >= 0:
            with suppress(OSError):  # another user made the file
                os.unlink(self._path)
            os.close(self._descriptor)
            self._descriptor = -1
