"""Keeping converters quiet: what they print goes to a file and is shown only when they fail."""

import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TextIO

TAIL_LINES = 12
"""How much of a converter's chatter is shown when it fails."""


def own_stderr() -> TextIO:
    """A stream to the real standard error that stays open while converters are silenced; the caller closes it."""
    encoding = getattr(sys.stderr, "encoding", None) or "utf-8"
    return open(os.dup(2), "w", buffering=1, encoding=encoding, errors="replace")  # noqa: PTH123 - a descriptor


@contextmanager
def silenced() -> Iterator[None]:
    """Sends this process's standard output and error, native code's included, to a file.

    An exception that leaves the block gets the last lines as a note.
    """
    _flush()
    with tempfile.TemporaryFile() as log:
        saved = os.dup(1), os.dup(2)
        previous = logging.root.manager.disable
        try:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
            logging.disable(logging.WARNING)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                yield
        except Exception as error:
            _flush()
            log.seek(0)
            lines = log.read().decode(errors="replace").splitlines()[-TAIL_LINES:]
            if lines:
                error.add_note("Last output before the failure:\n" + "\n".join(lines))
            raise
        finally:
            _flush()
            logging.disable(previous)
            os.dup2(saved[0], 1)
            os.dup2(saved[1], 2)
            os.close(saved[0])
            os.close(saved[1])


def _flush() -> None:
    """Empties Python's buffers into whatever the descriptors lead to now."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:  # None in a process that was started with the descriptor closed
            with suppress(OSError):  # a full disk must not keep the descriptors from being put back
                stream.flush()
