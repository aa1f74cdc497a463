"""Boards as data: CPU, memory and the runtimes that install there, one TOML file per target in `boards/`.

A board file states what is typical and says in its notes what varies. The target `host` is the machine edgekit runs
on: its file names the runtimes only, and everything else is read from the running system.
"""

import os
import platform
import re
import sys
from collections import Counter
from importlib import resources
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct

from edgekit.errors import MisuseError, UnknownNameError

HOST = "host"
"""The target that stands for the machine edgekit runs on."""

DOT_PRODUCTS = frozenset({"asimddp", "avx_vnni", "avx512_vnni", "amx_int8"})
"""Features with which a CPU adds up products of 8-bit integers in one instruction: without one int8 gains little."""

_Positive = Annotated[int, Meta(ge=1)]
_NotNegative = Annotated[int, Meta(ge=0)]
_Described = TypeVar("_Described", bound=Struct)


class Cluster(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Equal CPU cores: their design, how many there are, and their highest clock in MHz (0: unknown)."""

    core: str
    count: _Positive
    clock_mhz: _NotNegative


class RuntimeSupport(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A runtime that installs on a board, from which package, and the format edgekit exports for it.

    `runtime` is the distribution's name; `architectures` are those this way of installing covers, as wheels name them;
    `install` is the command to type on the board; `version` is the one the note was checked with.
    """

    runtime: str
    format: Literal["onnx", "openvino", "tflite", "mnn", "ncnn"]
    architectures: tuple[Literal["armv7l", "aarch64", "x86_64"], ...]
    install: str
    version: str
    note: str


class Board(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A kind of board, or the host.

    `architectures` are those of its usual systems as wheels name them, the assumed one first; `clusters` has the
    fastest first; `memory_mb` is the typical total in MiB (0: unknown); `simd` holds the arithmetic features every core
    has, in the words of `/proc/cpuinfo` (32-bit words too, where `armv7l` is an architecture); `sources` says where
    the facts are from.
    """

    name: str
    summary: str
    architectures: tuple[str, ...]
    clusters: tuple[Cluster, ...]
    memory_mb: _NotNegative
    simd: tuple[str, ...]
    runtimes: tuple[RuntimeSupport, ...]
    notes: tuple[str, ...]
    sources: tuple[str, ...]

    @property
    def formats(self) -> tuple[str, ...]:
        """The export formats that some runtime of the board loads, without repetition, in the order of `runtimes`."""
        return tuple(dict.fromkeys(support.format for support in self.runtimes))

    @property
    def dot_products(self) -> bool:
        """Whether every core adds up products of 8-bit integers in one instruction."""
        return bool(DOT_PRODUCTS & {*self.simd})


class _HostFile(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `host.toml` can know beforehand."""

    name: str
    summary: str
    runtimes: tuple[RuntimeSupport, ...]
    notes: tuple[str, ...]


def board_names() -> tuple[str, ...]:
    """The names of all targets, sorted; no file is opened."""
    files = (resources.files("edgekit.targets") / "boards").iterdir()
    return tuple(sorted(file.name.removesuffix(".toml") for file in files if file.name.endswith(".toml")))


def load_board(name: str) -> Board:
    """The board of that name; `host` is probed.

    Raises:
        UnknownNameError: There is no such target.
        MisuseError: Its file is malformed.
    """
    known = board_names()
    if name not in known:
        raise UnknownNameError("target", name, known, see="edgekit targets")
    return probe_host() if name == HOST else parse_board(_board_text(name), f"{name}.toml")


def parse_board(text: str, file_name: str) -> Board:
    """A board from the TOML text of its file; the file name is for the message only.

    Raises:
        MisuseError: The text is not TOML, or a field is missing, unknown, or of the wrong type or range.
    """
    return _decode(text, file_name, Board)


def probe_host(root: Path = Path("/"), machine: str | None = None) -> Board:
    """The board this process runs on, from the system's own files.

    Runtimes are kept when they cover the architecture. What the system does not tell (macOS has no `/proc`) stays
    unknown: 0 MHz, 0 MiB, no vector features. Cores are those the system schedules on, hardware threads included.

    Args:
        root: Folder that holds `proc` and `sys`.
        machine: Architecture in the words of `uname -m`; the running one if None.

    Raises:
        MisuseError: `host.toml` is malformed.
    """
    described = _decode(_board_text(HOST), f"{HOST}.toml", _HostFile)
    architecture = _wheel_architecture(machine or platform.machine(), python_bits=64 if sys.maxsize > 2**32 else 32)
    cpus = _cpus(_read(root / "proc/cpuinfo"))
    return Board(
        name=described.name,
        summary=described.summary,
        architectures=(architecture,),
        clusters=_clusters(cpus, root / "sys/devices/system/cpu"),
        memory_mb=_memory_mb(_read(root / "proc/meminfo")),
        simd=_simd(cpus),
        runtimes=tuple(
            msgspec.structs.replace(support, architectures=tuple(a for a in support.architectures if a == architecture))
            for support in described.runtimes
            if architecture in support.architectures
        ),
        notes=described.notes,
        sources=("/proc/cpuinfo, /proc/meminfo and cpufreq of the running system",) if cpus else ("uname",),
    )


def _board_text(name: str) -> str:
    return (resources.files("edgekit.targets") / "boards" / f"{name}.toml").read_text(encoding="utf-8")


def _decode(text: str, file_name: str, kind: type[_Described]) -> _Described:
    try:
        return msgspec.toml.decode(text, type=kind)
    except msgspec.DecodeError as error:
        raise MisuseError(
            f"The board file {file_name} is malformed: {error}. Correct it there; rk3288.toml is a complete example."
        ) from error


_ARCHITECTURES = {"arm64": "aarch64", "amd64": "x86_64", "armv8l": "armv7l"}
"""Other systems' words for an architecture (macOS, Windows, a 32-bit process asking a 64-bit kernel)."""


def _wheel_architecture(machine: str, python_bits: int) -> str:
    architecture = _ARCHITECTURES.get(machine.lower(), machine.lower())
    # 32-bit Raspberry Pi OS boots a 64-bit kernel on newer boards: uname says aarch64, yet only armv7l wheels load.
    return "armv7l" if architecture == "aarch64" and python_bits == 32 else architecture


def _read(file: Path) -> str:
    """The text of a system file; empty where the system has none or keeps it to itself."""
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _cpus(cpuinfo: str) -> list[dict[str, str]]:
    """One dictionary per online CPU; a block without a CPU number (the board's name on ARM) is no CPU."""
    blocks = (re.findall(r"^([^:\n]*?)[ \t]*:[ \t]*(.*)$", block, re.MULTILINE) for block in cpuinfo.split("\n\n"))
    return [cpu for cpu in map(dict, blocks) if "processor" in cpu]


def _clusters(cpus: list[dict[str, str]], cpufreq: Path) -> tuple[Cluster, ...]:
    if not cpus:
        return (Cluster(core=platform.processor() or "unknown", count=os.cpu_count() or 1, clock_mhz=0),)
    # Without cpufreq (most virtual machines) the momentary clocks differ by a hair between equal cores: one for all.
    momentary = round(max(float(cpu.get("cpu MHz", 0)) for cpu in cpus))
    cores = Counter((_core(cpu), _highest_mhz(cpufreq, cpu["processor"]) or momentary) for cpu in cpus)
    fastest_first = sorted(cores.items(), key=lambda item: -item[0][1])
    return tuple(Cluster(core=core, count=count, clock_mhz=mhz) for (core, mhz), count in fastest_first)


_ARM_CORES = {
    "0xc07": "Cortex-A7",
    "0xc08": "Cortex-A8",
    "0xc09": "Cortex-A9",
    "0xc0d": "Cortex-A17",  # first sold as Cortex-A12; the RK3288 reports this number
    "0xc0e": "Cortex-A17",
    "0xc0f": "Cortex-A15",
    "0xd03": "Cortex-A53",
    "0xd04": "Cortex-A35",
    "0xd05": "Cortex-A55",
    "0xd07": "Cortex-A57",
    "0xd08": "Cortex-A72",
    "0xd09": "Cortex-A73",
    "0xd0a": "Cortex-A75",
    "0xd0b": "Cortex-A76",
    "0xd0c": "Neoverse-N1",
    "0xd40": "Neoverse-V1",
    "0xd41": "Cortex-A78",
    "0xd49": "Neoverse-N2",
    "0xd4f": "Neoverse-V2",
}


def _core(cpu: dict[str, str]) -> str:
    """The core's design: by part number where Arm itself made it, else the model name, else the bare part number."""
    part = cpu.get("CPU part", "")
    known = arm_core(cpu.get("CPU implementer", ""), part)
    return known or cpu.get("model name") or (f"CPU part {part}" if part else "unknown")


def arm_core(implementer: str, part: str) -> str | None:
    """The name of a core that Arm itself designed, by the numbers in `/proc/cpuinfo`; None for any other."""
    return _ARM_CORES.get(part) if implementer == "0x41" else None


def core_name(processor: str) -> str:
    """The design of a core, from what a device tells of it: `0x41:0xd08` is a Cortex-A72."""
    implementer, _, part = processor.partition(":")
    return arm_core(implementer, part) or processor


def _highest_mhz(cpufreq: Path, number: str) -> int:
    kilohertz = _read(cpufreq / f"cpu{number}/cpufreq/cpuinfo_max_freq").strip()
    return int(kilohertz) // 1000 if kilohertz.isdecimal() else 0


def _memory_mb(meminfo: str) -> int:
    total = re.search(r"^MemTotal:\s*(\d+) kB", meminfo, re.MULTILINE)
    return int(total[1]) // 1024 if total else 0


_SIMD_WORDS = (
    *("neon", "vfpv3", "vfpv4", "idiva", "idivt"),
    *("asimd", "asimdrdm", "fphp", "asimdhp", "asimddp", "i8mm", "bf16", "sve", "sve2"),
    *("sse4_1", "sse4_2", "avx", "f16c", "fma", "avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16"),
    *("amx_int8", "amx_bf16"),
)


def _simd(cpus: list[dict[str, str]]) -> tuple[str, ...]:
    """The vector features all CPUs have; ARM kernels call the line Features, x86 kernels flags."""
    each = [set((cpu.get("Features") or cpu.get("flags") or "").split()) for cpu in cpus]
    common = set.intersection(*each) if each else set()
    return tuple(word for word in _SIMD_WORDS if word in common)
