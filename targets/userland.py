"""Userlands: folders in which programs of an ARM board run under user-mode emulation.

One is built when it is first needed, without root and without touching the host's packages: Debian 12's Python and
numpy, unpacked, and the wheels of the inference runtimes. All is pinned by SHA-256 in `userlands/*.toml`, so that
a count of instructions means the same program next year.
"""

import hashlib
import os
import shutil
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from types import MappingProxyType

from edgekit.errors import EnvironmentProblemError
from edgekit.targets.place import cache_folder

GLIBC_MINOR = 36
"""Debian 12 has glibc 2.36."""

RECIPE = 1
"""Goes up with every change in how a userland is built that makes another folder of the same pins."""


@dataclass(frozen=True, kw_only=True)
class Userland:
    """What differs between the architectures.

    `cpu` is fixed because qemu's default, `max`, has instructions that no board of this class has; qemu knows no
    Cortex-A17, and the A15 has the same instruction set. `cpuinfo` is what one core looks like in `/proc/cpuinfo`.
    """

    machine: str
    debian: str
    qemu: str
    cpu: str
    cpuinfo: str
    python: str = "3.11"


USERLANDS: Mapping[str, Userland] = MappingProxyType(
    {
        "armv7": Userland(
            machine="armv7l",
            debian="armhf",
            qemu="qemu-arm",
            cpu="cortex-a15",
            cpuinfo="""\
model name	: ARMv7 Processor rev 1 (v7l)
BogoMIPS	: 48.00
Features	: half thumb fastmult vfp edsp thumbee neon vfpv3 tls vfpv4 idiva idivt vfpd32 lpae evtstrm
CPU implementer	: 0x41
CPU architecture: 7
CPU variant	: 0x0
CPU part	: 0xc0f
CPU revision	: 1
""",
        ),
        "aarch64": Userland(
            machine="aarch64",
            debian="arm64",
            qemu="qemu-aarch64",
            cpu="cortex-a72",
            cpuinfo="""\
BogoMIPS	: 48.00
Features	: fp asimd evtstrm aes pmull sha1 sha2 crc32 cpuid
CPU implementer	: 0x41
CPU architecture: 8
CPU variant	: 0x0
CPU part	: 0xd08
CPU revision	: 3
""",
        ),
    }
)
"""Name in `qemu://NAME` to the userland."""


@dataclass(frozen=True)
class Pins:
    """SHA-256 of every Debian package, by its path in the archive, and of every wheel, by its requirement."""

    packages: Mapping[str, str]
    wheels: Mapping[str, str]


def read_pins(name: str) -> Pins:
    """The pins of a userland."""
    text = (resources.files("edgekit.targets") / "userlands" / f"{name}.toml").read_text(encoding="utf-8")
    content = tomllib.loads(text)
    return Pins(packages=content["packages"], wheels=content["wheels"])


def pip_platforms(userland: Userland) -> list[str]:
    """Options of pip for every wheel tag that Debian 12 can load; pip does not add the older ones itself."""
    tags = ["manylinux2014", *(f"manylinux_2_{minor}" for minor in range(17, GLIBC_MINOR + 1))]
    return [option for tag in tags for option in ("--platform", f"{tag}_{userland.machine}")]


def find_userland(name: str) -> Path:
    """Where a userland is, or will be once it is built."""
    pins = (resources.files("edgekit.targets") / "userlands" / f"{name}.toml").read_bytes()
    key = hashlib.sha256(pins + repr((RECIPE, USERLANDS[name])).encode()).hexdigest()
    return cache_folder("userlands") / f"{name}-{key[:12]}"


def guest_emulator(userland: Userland, folder: Path) -> list[str]:
    """What runs a program in a userland.

    Raises:
        EnvironmentProblemError: The emulator is not installed.
    """
    emulator = shutil.which(userland.qemu)
    if emulator is None:
        raise EnvironmentProblemError(
            f"Emulating a board needs {userland.qemu}. On Debian 12, as root: apt-get install qemu-user."
        )
    return [emulator, "-cpu", userland.cpu, "-L", str(folder / "sysroot")]


def guest_command(userland: Userland, folder: Path, options: Sequence[str] = ()) -> list[str]:
    """What runs a userland's Python; `options` are for the emulator.

    Raises:
        EnvironmentProblemError: The emulator is not installed.
    """
    python = folder / "sysroot" / "usr" / "bin" / f"python{userland.python}"
    return [*guest_emulator(userland, folder), *options, str(python)]


def guest_environment(folder: Path, *, compiling: bool = False) -> dict[str, str]:
    """The environment of a program in a userland; nothing of the host's, whose PYTHONPATH would confuse the guest."""
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "LC_ALL": "C.UTF-8",
        "PYTHONPATH": str(folder / "wheels"),
        "PYTHONHASHSEED": "0",
        "PYTHONDONTWRITEBYTECODE": "" if compiling else "1",
        "OMP_NUM_THREADS": "1",
    }
