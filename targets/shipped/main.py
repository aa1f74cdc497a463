"""The runner's command line: `guard SESSION`, `probe`, `check`, or `run FOLDER BLOBS` for the job in a folder.

`hold FOLDER BLOBS NUMBER` is what a job that measures memory starts for each of its tasks.
"""

from __future__ import annotations

import sys
from contextlib import suppress

from edgekit.targets.shipped.events import first_line, open_events
from edgekit.targets.shipped.guard import guard
from edgekit.targets.shipped.holder import hold
from edgekit.targets.shipped.machine import facts, state
from edgekit.targets.shipped.measure import Session, carry_out, check_runtimes
from edgekit.targets.shipped.memory import weigh_all

FIRST, SECOND = 1000, 500
"""Who is killed when memory runs out: the process that holds an artifact, before the one that tells what became of it.

It is what `/proc/<pid>/oom_score_adj` takes.
"""


def main() -> None:
    """Does what the arguments say."""
    if sys.argv[1] == "guard":
        guard(sys.argv[2])
    else:
        work(sys.argv[1:])


def work(arguments: list[str]) -> None:
    """Tells everything in events; a failure is an event too."""
    _volunteer()
    emit = open_events()
    try:
        if arguments[0] == "probe":
            emit("probed", facts=facts(), state=state())
        elif arguments[0] == "check":
            check_runtimes(emit)
        else:
            _take_up(Session(arguments[1], arguments[2], emit), arguments)
    except Exception as error:
        emit("broken", kind=type(error).__name__, message=first_line(error))
        raise


def _take_up(session: Session, arguments: list[str]) -> None:
    """A job, or one task of it to be held."""
    if arguments[0] == "hold":
        hold(session, int(arguments[3]))
    elif session.job["measure"] == "memory":
        _volunteer(SECOND)
        weigh_all(session)
    else:
        carry_out(session)


def _volunteer(score: int = FIRST) -> None:
    """Makes this process the first one that the system kills when memory runs out, or one of the first."""
    with suppress(OSError), open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
        file.write(str(score))
