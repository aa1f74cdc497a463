"""Memory of one artifact on this machine, in a process that does nothing else and is not timed.

How is in `edgekit.targets.shipped.watch`, by which the runner on a board goes too.
"""

from collections.abc import Callable

from edgekit.bench.child import Child, Place
from edgekit.bench.protocol import Infer, Load, Prepared, Timed
from edgekit.bench.record import Memory
from edgekit.errors import EnvironmentProblemError
from edgekit.targets.shipped.watch import LOOK_SECONDS, RUNS, UntoldError, Watch, weigh

Watching = Callable[[int], Watch]
"""A process's number to its watch."""


def measure_memory(place: Place, watching: Watching = Watch) -> Memory:
    """Loads and runs an artifact in a fresh process and watches its memory.

    Raises:
        EnvironmentProblemError: The system does not tell.
        EdgekitError: The artifact does not load or run.
    """
    with Child(place.path.name) as child:
        child.ask(place.prepare, Prepared)
        watch = watching(child.pid)

        def ask(request: Load | Infer) -> None:
            child.ask(request, Timed, meanwhile=watch.look, every=LOOK_SECONDS)

        try:
            taken = weigh(watch, lambda: ask(Load(threads=place.setting.threads)), lambda: ask(Infer(runs=RUNS)))
        except UntoldError as error:
            raise EnvironmentProblemError(untold("The system", error)) from error
    return Memory(**taken._asdict())


def untold(who: str, reason: object) -> str:
    """What is said where a system keeps the memory of processes to itself."""
    return f"{who} does not tell how much memory a process takes ({reason}). Measure with --no-memory."
