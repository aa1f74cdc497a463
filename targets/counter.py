"""The plugin that lets qemu count instructions: compiled when it is first needed, and read out here."""

import hashlib
import shutil
import subprocess
from collections.abc import Iterable
from importlib import resources
from pathlib import Path

from edgekit.errors import DeviceError, EnvironmentProblemError
from edgekit.files import whole_file
from edgekit.targets.job import Count
from edgekit.targets.place import cache_folder

COMPILERS = ("cc", "gcc", "clang")


def build_counter() -> Path:
    """The compiled plugin.

    Raises:
        EnvironmentProblemError: There is no C compiler, or it does not take the source.
    """
    source = resources.files("edgekit.targets") / "counter.c"
    key = hashlib.sha256(source.read_bytes()).hexdigest()[:12]
    path = cache_folder("counters") / f"counter-{key}.so"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path, "set $EDGEKIT_CACHE to another folder") as partial, resources.as_file(source) as file:
            _compile(file, partial)
    return path


def _compile(source: Path, target: Path) -> None:
    compiler = next((found for name in COMPILERS if (found := shutil.which(name))), None)
    if compiler is None:
        raise EnvironmentProblemError(
            "Counting instructions needs a C compiler. On Debian, as root: apt-get install gcc libc6-dev."
        )
    command = [compiler, "-O2", "-shared", "-fPIC", "-w", str(source), "-o", str(target)]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    if process.returncode:
        raise EnvironmentProblemError(f"{compiler} does not compile {source.name}: {process.stderr.strip()}")


END = 1 << 24
"""Label of the totals at a program's end, which no mark has."""


def read_total(text: str) -> Count:
    """What a program executed from its start to its end.

    Raises:
        DeviceError: The plugin did not see its end.
    """
    *_, last = [tuple(map(int, line.split())) for line in text.splitlines()] or [()]
    if len(last) != 3 or last[0] != END:
        raise DeviceError("The instruction counter did not see the program's end.")
    return Count(instructions=last[1], simd=last[2])


def read_counts(text: str, empty: int) -> dict[int, tuple[Count, ...]]:
    """Instructions of each measured region, by task.

    Args:
        text: What the plugin wrote: a line for each mark, which is twice the task, plus one at the end of a region; the
            line of the program's end is none.
        empty: The task whose regions are empty; what the last of them took is taken off all others.

    Raises:
        DeviceError: The marks are not pairs, so the runner broke off.
    """
    lines = [tuple(map(int, line.split())) for line in text.splitlines()]
    totals = [line for line in lines if line[0] != END]
    regions: dict[int, list[Count]] = {}
    for (begin, first, first_simd), (end, last, last_simd) in zip(totals[::2], totals[1::2], strict=False):
        if begin % 2 or end != begin + 1:
            raise DeviceError("The instruction counter's marks do not come in pairs.")
        regions.setdefault(begin // 2, []).append(Count(instructions=last - first, simd=last_simd - first_simd))
    if empty not in regions:
        raise DeviceError(
            "The instruction counter saw no marks; is this qemu's plugin interface of version 1 (to 8.1)?"
        )
    nothing = regions.pop(empty)[-1]
    return {task: tuple(_less(counts, nothing)) for task, counts in regions.items()}


def _less(counts: Iterable[Count], nothing: Count) -> Iterable[Count]:
    for one in counts:
        yield Count(instructions=one.instructions - nothing.instructions, simd=one.simd - nothing.simd)
