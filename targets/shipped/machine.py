"""What a machine is, and the state it is in: read from `/proc` and `/sys`, absent where the system does not tell."""

from __future__ import annotations

import glob
import os
import platform
import re
import sys
import time
from typing import Any

from edgekit.targets.shipped.runtimes import DISTRIBUTIONS

QEMU_MACHINE = "linux,dummy-virt"
"""The model of qemu's `virt` machine. What runs in one is timed by what emulates it, or at best shares a processor."""


def facts(root: str = "/") -> dict[str, Any]:
    """What does not change while a job runs: processor, memory, system, runtimes with their versions."""
    cpuinfo = _read(os.path.join(root, "proc/cpuinfo"))
    model = _read(os.path.join(root, "proc/device-tree/model")).strip("\0\n")
    return {
        "emulated": model == QEMU_MACHINE,
        "machine": platform.machine(),
        "bits": 64 if sys.maxsize > 2**32 else 32,
        "model": model or _field(cpuinfo, "Hardware"),
        "processor": _processor(cpuinfo),
        "features": (_field(cpuinfo, "Features") or _field(cpuinfo, "flags")).split(),
        "cores": len(re.findall(r"^processor\s*:", cpuinfo, re.MULTILINE)) or os.cpu_count() or 1,
        "memory_kib": _memory(root, "MemTotal"),
        "kernel": platform.release(),
        "libc": _libc(),
        "python": platform.python_version(),
        "numpy": installed(("numpy",)).get("numpy", ""),
        "runtimes": installed(tuple(DISTRIBUTIONS)),
    }


def _processor(cpuinfo: str) -> str:
    part = _field(cpuinfo, "CPU part")
    return "{}:{}".format(_field(cpuinfo, "CPU implementer"), part) if part else _field(cpuinfo, "model name")


def _field(cpuinfo: str, name: str) -> str:
    found = re.search(rf"^{re.escape(name)}[ \t]*:[ \t]*(.*)$", cpuinfo, re.MULTILINE)
    return found.group(1) if found else ""


def _memory(root: str, name: str) -> int:
    found = re.search(rf"^{name}:\s*(\d+) kB", _read(os.path.join(root, "proc/meminfo")), re.MULTILINE)
    return int(found.group(1)) if found else 0


def _libc() -> str:
    try:
        return os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (ValueError, OSError):  # another C library than glibc
        return ""


def installed(wanted: tuple[str, ...]) -> dict[str, str]:
    """Version of every wanted distribution that Python would find; nothing is imported."""
    versions: dict[str, str] = {}
    for folder in sys.path:
        for name, version in _distributions(folder):
            if name in wanted:
                versions.setdefault(name, version)
    return versions


def _distributions(folder: str) -> list[list[str]]:
    """Name and version of the distributions in a folder, from the names of their metadata."""
    try:
        entries = os.listdir(folder or ".")
    except OSError:  # sys.path names zip files, and folders that are not there
        return []
    found = (re.match(r"([^-]+)-([^-]+)(-py[\d.]+)?\.(dist|egg)-info$", entry) for entry in sorted(entries))
    return [[match.group(1).lower().replace("_", "-"), match.group(2)] for match in found if match]


def state(root: str = "/") -> dict[str, Any]:
    """What may change while a job runs: clocks in kHz, governors, temperatures in degrees, free memory, load."""
    cpus = os.path.join(root, "sys/devices/system/cpu")
    return {
        "wall_s": time.time(),
        "monotonic_s": time.monotonic(),
        "clocks_khz": _each(os.path.join(cpus, "cpu[0-9]*/cpufreq/scaling_cur_freq"), 3),
        "highest_khz": _each(os.path.join(cpus, "cpu[0-9]*/cpufreq/cpuinfo_max_freq"), 3),
        "allowed_khz": _each(os.path.join(cpus, "cpu[0-9]*/cpufreq/scaling_max_freq"), 3),
        "governors": _each(os.path.join(cpus, "cpu[0-9]*/cpufreq/scaling_governor"), 3),
        "residency": _residency(os.path.join(cpus, "cpu[0-9]*/cpufreq/stats/time_in_state")),
        "temperatures_c": _temperatures(root),
        "available_kib": _memory(root, "MemAvailable"),
        "load": _load(root),
    }


def _each(pattern: str, levels: int) -> dict[str, Any]:
    """What the files of a pattern hold, by the name of the folder that many levels above the content."""
    values: dict[str, Any] = {}
    for path in sorted(glob.glob(pattern)):
        text = _read(path).strip()
        if text:
            values[path.split("/")[-levels]] = int(text) if text.isdigit() else text
    return values


def _residency(pattern: str) -> dict[str, dict[str, int]]:
    """Per core, clock in kHz to the time spent in it, in hundredths of a second since the machine started."""
    return {
        path.split("/")[-4]: {clock: int(spent) for clock, spent in map(str.split, _read(path).splitlines())}
        for path in sorted(glob.glob(pattern))
    }


def _temperatures(root: str) -> dict[str, float]:
    found = {}
    for zone in sorted(glob.glob(os.path.join(root, "sys/class/thermal/thermal_zone*"))):
        text = _read(os.path.join(zone, "temp")).strip()
        name = _read(os.path.join(zone, "type")).strip() or os.path.basename(zone)
        if re.match(r"-?\d+$", text):
            found[f"{os.path.basename(zone)} {name}"] = int(text) / 1000
    return found


def _load(root: str) -> float | None:
    words = _read(os.path.join(root, "proc/loadavg")).split()
    return float(words[0]) if words else None


def resident_kib() -> dict[str, int]:
    """Memory of this process, now and at its highest, in KiB."""
    status = _read("/proc/self/status")
    found = {name: re.search(rf"^{name}:\s*(\d+) kB", status, re.MULTILINE) for name in ("VmRSS", "VmHWM")}
    return {name: int(match.group(1)) for name, match in found.items() if match}


def _read(path: str) -> str:
    """The text of a system file; empty where the system has none, or keeps it to itself."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""
