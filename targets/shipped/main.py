"""The runner's command line: `probe`, or `run FOLDER BLOBS` for the job described in a folder."""

from __future__ import annotations

import sys

from edgekit.targets.shipped.events import first_line, open_events
from edgekit.targets.shipped.machine import facts, state
from edgekit.targets.shipped.measure import Session, carry_out


def main() -> None:
    """Does what the arguments say; everything is told in events, and a failure is an event too."""
    emit = open_events()
    try:
        if sys.argv[1] == "probe":
            emit("probed", facts=facts(), state=state())
        else:
            carry_out(Session(sys.argv[2], sys.argv[3], emit))
    except Exception as error:
        emit("broken", kind=type(error).__name__, message=first_line(error))
        raise
