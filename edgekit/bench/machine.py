"""What the machine does while something is measured, read from `/proc` and `/sys`.

    processor time, steal   /proc/stat
    own processor time      /proc/<pid>/stat of the measuring processes
    load, swap              /proc/loadavg, /proc/vmstat
    quota of a container    /sys/fs/cgroup/cpu.stat
    clock, governor         /sys/devices/system/cpu/cpu*/cpufreq
    temperature             /sys/class/thermal/thermal_zone*

Whatever a system does not tell is None. The root of both trees is an argument, so that any machine can be played.
"""

import os
import re
import statistics
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgekit.bench.record import Evidence
from edgekit.bench.statistics import trend

ROOT = Path("/")

DEFAULT_TRIP_C = 80.0
"""Where a zone that names no trip point counts as hot: Rockchip and Raspberry Pi kernels slow down from 80 to 85."""

CPU_ZONES = re.compile(r"cpu|soc|pkg|core|big|little|cluster|package", re.IGNORECASE)
"""Names of zones the default holds for; of a battery or a radio it would mean nothing."""

FULL_CLOCK = 0.95
"""From this share of its highest clock on a processor runs at full clock; governors step by more than 5 %."""

_KILO = 1000
"""cpufreq counts in kHz."""


@dataclass(frozen=True, slots=True)
class Clock:
    """A processor's momentary clock and the highest it is made for, in MHz."""

    now_mhz: float
    highest_mhz: float


@dataclass(frozen=True, slots=True)
class Zone:
    """A thermal zone's momentary temperature, and where it starts to throttle, in degrees Celsius."""

    now_c: float
    trip_c: float | None


@dataclass(frozen=True, slots=True)
class Moment:
    """The machine's counters at one moment; times in seconds since they began."""

    at: float
    busy: float | None
    total: float | None
    stolen: float | None
    own: float | None
    swapped: int | None
    throttled: float | None


@dataclass(frozen=True, slots=True)
class Glance:
    """What is read in the middle of a turn: clocks of the processors in use, and temperatures."""

    clocks: tuple[Clock, ...]
    zones: tuple[Zone, ...]

    @property
    def clock_mhz(self) -> float | None:
        """The clock of the slowest processor in use."""
        return min((clock.now_mhz for clock in self.clocks), default=None)

    @property
    def temperature_c(self) -> float | None:
        """The highest temperature."""
        return max((zone.now_c for zone in self.zones), default=None)


class Probe:
    """Reads a machine.

    Args:
        root: Folder that holds `proc` and `sys`.
    """

    def __init__(self, root: Path = ROOT) -> None:
        self._proc = root / "proc"
        self._cpus = root / "sys/devices/system/cpu"
        self._thermal = root / "sys/class/thermal"
        self._group = root / "sys/fs/cgroup"
        self._trips: dict[Path, float | None] = {}

    def moment(self, pids: Collection[int]) -> Moment:
        """The counters now; `pids` are the processes that measure."""
        busy, total, stolen = self._cpu_times()
        return Moment(time.monotonic(), busy, total, stolen, self._own(pids), self._swapped(), self._throttled())

    def glance(self, affinity: Sequence[int] | None, threads: int) -> Glance:
        """Clocks and temperatures now, of the processors that so many threads use.

        Where the threads may run anywhere, the processors with the highest share of their clock count as theirs.
        """
        clocks = sorted(self._clocks(affinity), key=lambda clock: clock.now_mhz / clock.highest_mhz, reverse=True)
        return Glance(tuple(clocks[:threads]), self._zones())

    def load(self) -> float | None:
        """Load average of the last minute."""
        words = _read(self._proc / "loadavg").split()
        return float(words[0]) if words else None

    def cores(self) -> int:
        """Processors the system schedules on."""
        return len(re.findall(r"^cpu\d", _read(self._proc / "stat"), re.MULTILINE)) or os.cpu_count() or 1

    def governors(self) -> tuple[str, ...]:
        """Every governor in use."""
        found = (_read(folder / "cpufreq/scaling_governor").strip() for folder in self._folders())
        return tuple(sorted({governor for governor in found if governor}))

    def available_bytes(self) -> int | None:
        """Memory that can be had without swapping."""
        found = re.search(r"^MemAvailable:\s*(\d+) kB", _read(self._proc / "meminfo"), re.MULTILINE)
        return int(found[1]) * 1024 if found else None

    def _cpu_times(self) -> tuple[float | None, float | None, float | None]:
        """Seconds all processors together were busy, existed, and were taken away by the hypervisor."""
        found = re.search(r"^cpu +([\d ]+)$", _read(self._proc / "stat"), re.MULTILINE)
        ticks = [int(word) for word in found[1].split()] if found else []
        if len(ticks) < 8:
            return None, None, None
        user, nice, system, idle, waiting, irq, softirq, steal = (tick / _ticks() for tick in ticks[:8])
        busy = user + nice + system + irq + softirq
        return busy, busy + idle + waiting + steal, steal

    def _own(self, pids: Collection[int]) -> float | None:
        """Processor seconds of these processes, their threads included; None where one cannot be read."""
        total = 0.0
        for pid in pids:
            # The name in brackets may hold spaces and brackets itself.
            words = _read(self._proc / str(pid) / "stat").rpartition(")")[2].split()
            if len(words) < 13:
                return None
            total += (int(words[11]) + int(words[12])) / _ticks()
        return total

    def _swapped(self) -> int | None:
        counts = re.findall(r"^pswp(?:in|out) (\d+)$", _read(self._proc / "vmstat"), re.MULTILINE)
        return sum(map(int, counts)) if counts else None

    def _throttled(self) -> float | None:
        """Seconds the control group was kept waiting; the outermost one of a system has no quota and does not say."""
        found = re.search(r"^throttled_usec (\d+)$", _read(self._group / "cpu.stat"), re.MULTILINE)
        return 1e-6 * int(found[1]) if found else None

    def _folders(self) -> list[Path]:
        return sorted(self._cpus.glob("cpu[0-9]*"))

    def _clocks(self, affinity: Sequence[int] | None) -> list[Clock]:
        found = []
        for folder in self._folders():
            if affinity is not None and int(folder.name.removeprefix("cpu")) not in affinity:
                continue
            # A turbo's highest clock holds for one core and a moment; the base clock, where there is one, for all.
            highest = _number(folder / "cpufreq/base_frequency") or _number(folder / "cpufreq/cpuinfo_max_freq")
            now = _number(folder / "cpufreq/scaling_cur_freq")
            if now and highest:
                found.append(Clock(now / _KILO, highest / _KILO))
        return found

    def _zones(self) -> tuple[Zone, ...]:
        found = []
        for folder in sorted(self._thermal.glob("thermal_zone[0-9]*")):
            now = _number(folder / "temp")
            if now is not None and now > 0:
                found.append(Zone(now / 1000, self._trip(folder)))
        return tuple(found)

    def _trip(self, zone: Path) -> float | None:
        """Where a zone starts to slow the processor down; trip points do not move, so they are read once."""
        if zone not in self._trips:
            kinds = {path: _read(path).strip() for path in zone.glob("trip_point_*_type")}
            passive = [path for path, kind in kinds.items() if kind in ("passive", "hot")]
            read = (_number(path.with_name(path.name.replace("_type", "_temp"))) for path in passive)
            known = [trip / 1000 for trip in read if trip and trip > 0]
            default = DEFAULT_TRIP_C if CPU_ZONES.search(_read(zone / "type")) else None
            self._trips[zone] = min(known, default=default)
        return self._trips[zone]


def evidence(probe: Probe, load: float | None, before: Moment, after: Moment, glances: Sequence[Glance]) -> Evidence:
    """What happened between two moments.

    Args:
        probe: The machine.
        load: Its load average before anything was measured.
        before: Its counters before the first round.
        after: Its counters after the last.
        glances: What was read in each round.
    """
    seconds = after.at - before.at
    clocks = [glance.clock_mhz for glance in glances if glance.clock_mhz is not None]
    full = [
        all(clock.now_mhz >= FULL_CLOCK * clock.highest_mhz for clock in each.clocks) for each in glances if each.clocks
    ]
    tripping = [zone for glance in glances for zone in glance.zones if zone.trip_c is not None]
    hottest = max(tripping, key=lambda zone: zone.now_c - (zone.trip_c or 0), default=None)
    busy, own = _difference(before.busy, after.busy), _difference(before.own, after.own)
    stolen, total = _difference(before.stolen, after.stolen), _difference(before.total, after.total)
    swapped, throttled = _difference(before.swapped, after.swapped), _difference(before.throttled, after.throttled)
    return Evidence(
        seconds=seconds,
        cores=probe.cores(),
        background_cores=None if busy is None or own is None or not seconds else max(busy - own, 0.0) / seconds,
        steal=None if stolen is None or not total else stolen / total,
        quota=None if throttled is None or not seconds else throttled / seconds,
        load=load,
        swapped_pages=None if swapped is None else int(swapped),
        governors=probe.governors(),
        clock_mhz=statistics.median(clocks) if clocks else None,
        clock_residency=sum(full) / len(full) if full else None,
        clock_trend=trend(clocks) if clocks else None,
        temperature_c=max(
            (glance.temperature_c for glance in glances if glance.temperature_c is not None), default=None
        ),
        trip_c=hottest.trip_c if hottest else None,
        trip_margin_c=(hottest.trip_c or 0) - hottest.now_c if hottest else None,
    )


def _difference(before: float | None, after: float | None) -> float | None:
    return None if before is None or after is None else after - before


def _ticks() -> int:
    """Clock ticks a second in which the kernel counts processor time."""
    return os.sysconf("SC_CLK_TCK")


def _number(path: Path) -> float | None:
    text = _read(path).strip()
    return float(text) if re.fullmatch(r"-?\d+", text) else None


def _read(path: Path) -> str:
    """The text of a system file; empty where there is none, or one that may not be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
