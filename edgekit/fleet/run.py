"""Measuring bundles on several devices: this machine first and alone, then all others at once.

Emulated boards take this machine's processors, so nothing else is timed on it meanwhile. A device that fails is told as
a problem, and the others go on.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Protocol, Self

from edgekit.bench.record import Profile
from edgekit.bundle import Progress
from edgekit.errors import EdgekitError, MisuseError
from edgekit.fleet.board import measure_on
from edgekit.measure import LOCAL, Bundle, Choice, Outcome, Problem, measure_bundles
from edgekit.targets.address import parse_address
from edgekit.targets.device import open_device

LOOK_SECONDS = 0.2

Work = Callable[[Any], Outcome]
"""Gets what was opened."""

FAREWELL_SECONDS = 30.0
"""How long devices that were given up may take to clear up."""


def measure_fleet(
    addresses: Sequence[str],
    bundles: Sequence[Bundle],
    choice: Choice,
    profile: Profile,
    command: Sequence[str],
    progress: Progress,
    governor: str = "",
) -> Outcome:
    """Measures bundles on every device.

    Raises:
        MisuseError: An address is none, or named twice, or there is nothing to measure on this machine.
    """
    texts = [parse_address(address).text for address in addresses]
    if twice := [text for text in texts if texts.count(text) > 1]:
        raise MisuseError(f"{twice[0]} is named twice.")
    outcomes: dict[str, Outcome] = {}
    if LOCAL in texts:
        outcomes[LOCAL] = measure_bundles(bundles, choice, profile, command, progress)
    others = [text for text in texts if text != LOCAL]
    fleet = Fleet(lambda device: measure_on(device, bundles, choice, profile, command, governor), progress.note)
    outcomes |= fleet.visit(others)
    return joined([outcomes[text] for text in texts])


def joined(outcomes: Sequence[Outcome]) -> Outcome:
    """All of them as one."""
    return Outcome(
        runs=tuple(run for each in outcomes for run in each.runs),
        problems=tuple(problem for each in outcomes for problem in each.problems),
        skipped=tuple(skipped for each in outcomes for skipped in each.skipped),
    )


class Session(Protocol):
    """Whatever is open on a device, and leaves nothing behind when it is closed."""

    def close(self) -> None:
        """Ends it."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None, /
    ) -> None: ...


@dataclass(slots=True)
class Fleet:
    """Devices that do the same work at the same time, each with a thread here that waits for it.

    Attributes:
        work: What is done on each.
        note: Gets a line for each thing that takes its time.
        connect: Opens a device by its address.
    """

    work: Work
    note: Callable[[str], None]
    connect: Callable[[str, Callable[[str], None]], Session] = open_device
    _open: dict[str, Session] = field(default_factory=dict)
    _outcomes: dict[str, Outcome | BaseException] = field(default_factory=dict)

    def visit(self, addresses: Sequence[str]) -> dict[str, Outcome]:
        """What the work on each device came to.

        An error of edgekit's own becomes a problem of that device. Any other ends all of them, and so does Ctrl-C.
        """
        threads = [threading.Thread(target=self._go, args=(address,), daemon=True) for address in addresses]
        try:
            for thread in threads:
                thread.start()
            while running := [thread for thread in threads if thread.is_alive()]:
                running[0].join(LOOK_SECONDS)  # a signal that another thread took would wake nobody here
        except BaseException:
            self._give_up(threads)
            raise
        return {address: settled(address, self._outcomes[address]) for address in addresses}

    def _go(self, address: str) -> None:
        """One device's thread; whatever happens in it is told to the one that waits."""
        try:
            self.note(f"{address}: connecting")
            with self.connect(address, self.note) as device:
                self._open[address] = device
                self._outcomes[address] = self.work(device)
            self.note(f"{address}: done")
        except BaseException as error:  # noqa: BLE001 - it is raised again by `settled`
            self._outcomes[address] = error

    def _give_up(self, threads: Sequence[threading.Thread]) -> None:
        """Ends all sessions, so that every device clears up, and waits until that is done."""
        for device in list(self._open.values()):
            device.close()
        for thread in threads:
            if thread.ident is not None:
                thread.join(FAREWELL_SECONDS)


def settled(address: str, outcome: Outcome | BaseException) -> Outcome:
    """What a device came to, an error of edgekit's own as its problem."""
    if isinstance(outcome, Outcome):
        return outcome
    if isinstance(outcome, EdgekitError):
        return Outcome(runs=(), problems=(Problem(None, "", None, outcome, address),))
    raise outcome
