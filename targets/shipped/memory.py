"""Carries out a job whose measure is memory: every artifact in a process of its own, one after the other, untimed."""

from __future__ import annotations

from typing import Any

from edgekit.targets.shipped.events import first_line
from edgekit.targets.shipped.holder import Holder, HolderError
from edgekit.targets.shipped.machine import facts, resident_kib, state
from edgekit.targets.shipped.measure import Session, check_blobs
from edgekit.targets.shipped.watch import Footprint, Watch, weigh


def weigh_all(session: Session) -> None:
    """Says for each artifact what it takes, or why that is not known."""
    check_blobs(session)
    session.emit("begun", facts=facts(), state=state())
    for task in session.job["tasks"]:
        session.emit("loading", task=task["number"])
        session.emit(**_weighed(session, task["number"]))
    session.emit("done", state=state(), memory_kib=resident_kib())


def _weighed(session: Session, number: int) -> dict[str, Any]:
    """The event of one artifact; where the system ended its process, this one is still there to tell."""
    try:
        return {"event": "weighed", "task": number, "memory": weigh_one(session, number)._asdict()}
    except Exception as error:  # noqa: BLE001 - whatever it is, it is this artifact's alone
        kind = error.kind if isinstance(error, HolderError) else type(error).__name__
        return {"event": "failed", "task": number, "kind": kind, "message": first_line(error)}


def weigh_one(session: Session, number: int) -> Footprint:
    """What one artifact takes.

    Raises:
        UntoldError: The system does not tell.
        HolderError: The artifact does not load or run, or its process was ended.
    """
    with Holder(session, number) as holder:
        holder.wait()
        watch = Watch(holder.pid)
        return weigh(watch, lambda: holder.go_on(watch.look), lambda: holder.go_on(watch.look))
