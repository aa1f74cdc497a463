"""Memory of one artifact, in a process that does nothing else and is not timed.

    the interpreter, numpy, the reference, the runtime's package     runtime
    + loading the artifact                                           load
    + running it, at the peak                                        run

The kernel keeps the highest resident set size of a process (VmHWM); it is set back before the artifact is loaded and
before it runs, so that what loading takes for a moment is told apart. Of PSS it keeps no peak, so that is read again
and again meanwhile.
"""

import re
from pathlib import Path

from edgekit.bench.child import Child, Place
from edgekit.bench.protocol import Infer, Load, Prepared, Timed
from edgekit.bench.record import Memory
from edgekit.errors import EnvironmentProblemError

RUNS = 3
"""Inferences in which activations reach their peak; arenas are settled after the first."""

LOOK_SECONDS = 0.01
"""How often PSS is read."""

PROC = Path("/proc")

_FORGET_PEAK = "5"
"""What `/proc/<pid>/clear_refs` takes for setting VmHWM back to VmRSS."""


class Watch:
    """The memory of a process, in bytes.

    Raises:
        EnvironmentProblemError: By every method, where the system does not tell.
    """

    def __init__(self, pid: int, proc: Path = PROC) -> None:
        self._folder = proc / str(pid)
        self.peak_pss = 0

    def resident(self) -> int:
        """Resident set size."""
        return self._sum("status", "VmRSS")

    def peak(self) -> int:
        """The highest resident set size since the process began or `forget`."""
        return self._sum("status", "VmHWM")

    def forget(self) -> None:
        """Sets the highest resident set size back to the present one."""
        try:
            (self._folder / "clear_refs").write_text(_FORGET_PEAK)
        except OSError as error:
            raise _untold(error) from error

    def look(self) -> None:
        """Reads PSS and keeps the highest."""
        rollup = (self._folder / "smaps_rollup").exists()  # Linux 4.14; before, each mapping on its own
        self.peak_pss = max(self.peak_pss, self._sum("smaps_rollup" if rollup else "smaps", "Pss"))

    def _sum(self, file: str, field: str) -> int:
        try:
            text = (self._folder / file).read_text()
        except OSError as error:
            raise _untold(error) from error
        found = re.findall(rf"^{field}:\s+(\d+) kB", text, re.MULTILINE)
        if not found:
            raise _untold(f"{file} has no {field}")
        return sum(map(int, found)) * 1024


def _untold(reason: object) -> EnvironmentProblemError:
    return EnvironmentProblemError(
        f"The system does not tell how much memory a process takes ({reason}). Measure with --no-memory."
    )


def measure_memory(place: Place) -> Memory:
    """Loads and runs an artifact in a fresh process and watches its memory.

    Raises:
        EnvironmentProblemError: The system does not tell.
        EdgekitError: The artifact does not load or run.
    """
    with Child(place.path.name) as child:
        child.ask(place.prepare, Prepared)
        watch = Watch(child.pid)
        watch.forget()
        runtime = watch.resident()
        child.ask(Load(threads=place.setting.threads), Timed, meanwhile=watch.look, every=LOOK_SECONDS)
        loaded, load_peak = watch.resident(), watch.peak()
        watch.forget()
        child.ask(Infer(runs=RUNS), Timed, meanwhile=watch.look, every=LOOK_SECONDS)
        watch.look()
        peak = max(watch.peak(), loaded)
    return Memory(
        runtime_bytes=runtime,
        load_bytes=loaded - runtime,
        run_bytes=peak - loaded,
        load_peak_bytes=load_peak,
        peak_rss_bytes=max(peak, load_peak),
        peak_pss_bytes=watch.peak_pss,
    )
