"""What a device is and how it is, read by a shell alone: its system files are copied here and read as a board's are."""

import re
import tempfile
from pathlib import Path
from typing import Any

import msgspec

from edgekit.errors import DeviceError
from edgekit.targets.job import NO_PYTHON, Facts, State
from edgekit.targets.shell_session import ShellSession
from edgekit.targets.shipped.machine import facts as facts_in
from edgekit.targets.shipped.machine import state as state_in

FILES = (
    *("/proc/cpuinfo", "/proc/meminfo", "/proc/loadavg", "/proc/device-tree/model"),
    *("/sys/devices/system/cpu/cpu[0-9]*/cpufreq/" + name for name in ("scaling_cur_freq", "cpuinfo_max_freq")),
    *("/sys/devices/system/cpu/cpu[0-9]*/cpufreq/" + name for name in ("scaling_max_freq", "scaling_governor")),
    "/sys/devices/system/cpu/cpu[0-9]*/cpufreq/stats/time_in_state",
    *("/sys/class/thermal/thermal_zone*/" + name for name in ("temp", "type")),
)
"""What is read of a device; those it does not have are left out."""

SCRIPT = (
    'echo "$(uname -m) $(uname -r)"; date +%s; cat /proc/uptime; '
    f"for file in {' '.join(FILES)}; do "
    '[ -r "$file" ] || continue; echo "== $file"; cat "$file" 2>/dev/null; echo; done; true'
)

_PART = re.compile(r"^== (/(?:proc|sys)/[\w/.+-]+)\n", re.MULTILINE)


def look(session: ShellSession) -> tuple[Facts, State]:
    """What a device is, and its state now.

    Raises:
        DeviceError: It does not tell, or was lost.
    """
    head, *parts = _PART.split(session.ask(SCRIPT).decode(errors="replace"))
    words = head.split()
    if len(words) < 4:
        raise DeviceError(f"{session.address.text} does not tell what it is: {head.strip()[:200]!r}.")
    machine, kernel, wall, uptime = words[:4]
    with tempfile.TemporaryDirectory() as folder:
        for name, content in zip(parts[::2], parts[1::2], strict=True):
            path = Path(folder, name.lstrip("/"))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content, encoding="utf-8")
        if session.guest is not None:
            Path(folder, "proc/cpuinfo").write_text(session.guest.cpuinfo, encoding="utf-8")
            machine = session.guest.machine
        found, now = facts_in(folder), state_in(folder)
    own: dict[str, Any] = {
        "emulated": found["emulated"] or session.guest is not None,
        "address": session.address.text,
        "machine": machine,
        "kernel": kernel,
        "bits": _bits(machine),
        "libc": "",
        "python": NO_PYTHON,
        "numpy": "",
        "runtimes": {},
    }
    clock = {"wall_s": _number(wall), "monotonic_s": _number(uptime)}
    return msgspec.convert({**found, **own}, Facts), msgspec.convert({**now, **clock}, State)


def _bits(machine: str) -> int:
    """Of the kernel, for nothing else tells."""
    return 64 if "64" in machine else 32


def _number(text: str) -> float:
    return float(text) if re.fullmatch(r"[0-9]+(\.[0-9]+)?", text) else 0.0
