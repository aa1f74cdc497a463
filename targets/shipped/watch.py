"""The memory of a process, as Linux tells it, step by step while it loads and runs one artifact.

    the interpreter, numpy, the inputs, the runtime's package        runtime
    + loading the artifact                                           load
    + running it, at the peak                                        run

The kernel keeps the highest resident set size of a process (VmHWM); it is set back before the artifact is loaded and
before it runs, so that what loading takes for a moment is told apart. Of PSS it keeps no peak, so that is read again
and again meanwhile. This is the same here and on boards, of which some have kernels that tell less.
"""

from __future__ import annotations

import os
import re
from typing import Callable, NamedTuple

RUNS = 3
"""Inferences in which activations reach their peak; arenas are settled after the first."""

LOOK_SECONDS = 0.01
"""How often PSS is read."""

PROC = "/proc"

_FORGET_PEAK = "5"
"""What `/proc/<pid>/clear_refs` takes for setting VmHWM back to VmRSS; since Linux 4.0, and where it is built in."""


class UntoldError(Exception):
    """The system does not tell how much memory a process takes."""


class Footprint(NamedTuple):
    """Bytes of a process that does nothing but load and run one artifact, as `edgekit.bench.record.Memory` has them."""

    runtime_bytes: int
    load_bytes: int
    run_bytes: int
    load_peak_bytes: int
    peak_rss_bytes: int
    peak_pss_bytes: int | None


class Watch:
    """The memory of a process, in bytes; `peak_pss` is None where the kernel tells none.

    Raises:
        UntoldError: By `resident` and `peak`, where the system does not tell.
    """

    def __init__(self, pid: int, proc: str = PROC) -> None:
        self._folder = os.path.join(proc, str(pid))
        self._stuck_at = 0
        self.peak_pss: int | None = None

    def resident(self) -> int:
        """Resident set size."""
        return self._status("VmRSS")

    def peak(self) -> int:
        """The highest resident set size since `forget`.

        Where the kernel cannot forget, it is known only if it is higher than all before; else the present one counts.
        """
        highest = self._status("VmHWM")
        return highest if highest > self._stuck_at else self.resident()

    def forget(self) -> None:
        """Sets the highest resident set size back to the present one, as far as the kernel does that."""
        try:
            with open(os.path.join(self._folder, "clear_refs"), "w", encoding="ascii") as file:
                file.write(_FORGET_PEAK)
        except OSError:
            self._stuck_at = self._status("VmHWM")

    def look(self) -> None:
        """Reads PSS and keeps the highest."""
        for file in ("smaps_rollup", "smaps"):  # before Linux 4.14, each mapping on its own
            found = re.findall(r"^Pss:\s+(\d+) kB", self._read(file), re.MULTILINE)
            if found:
                self.peak_pss = max(self.peak_pss or 0, 1024 * sum(map(int, found)))
                return

    def _status(self, field: str) -> int:
        found = re.search(rf"^{field}:\s+(\d+) kB", self._read("status"), re.MULTILINE)
        if found is None:
            raise UntoldError(f"{os.path.join(self._folder, 'status')} has no {field}")
        return 1024 * int(found.group(1))

    def _read(self, file: str) -> str:
        """The text of a file; empty where there is none, or none for this user."""
        try:
            with open(os.path.join(self._folder, file), encoding="ascii", errors="replace") as opened:
                return opened.read()
        except OSError:
            return ""


def weigh(watch: Watch, load: Callable[[], object], run: Callable[[], object]) -> Footprint:
    """What a process takes that has imported its runtime, and now loads and runs; both should `look` meanwhile.

    Raises:
        UntoldError: The system does not tell.
    """
    watch.forget()
    runtime = watch.resident()
    load()
    loaded, load_peak = watch.resident(), watch.peak()
    watch.forget()
    run()
    watch.look()
    peak = max(watch.peak(), loaded)
    return Footprint(
        runtime_bytes=runtime,
        load_bytes=loaded - runtime,
        run_bytes=peak - loaded,
        load_peak_bytes=load_peak,
        peak_rss_bytes=max(peak, load_peak),
        peak_pss_bytes=watch.peak_pss,
    )
