"""Building a userland: packages of Debian 12 and wheels, fetched by their hashes and unpacked, without root."""

import fcntl
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from edgekit.errors import EnvironmentProblemError, first_line
from edgekit.files import staging
from edgekit.targets.link import Progress
from edgekit.targets.userland import (
    USERLANDS,
    Pins,
    Userland,
    find_userland,
    guest_command,
    guest_environment,
    pip_platforms,
    read_pins,
)

APT_HELPER = Path("/usr/lib/apt/apt-helper")
MIRROR_VARIABLE = "EDGEKIT_DEBIAN_MIRROR"
CORES = 4


def build_userland(name: str, progress: Progress) -> Path:
    """The folder of a userland, built unless it is there already; `wheels` and `sysroot` are in it.

    Args:
        name: A key of `USERLANDS`.
        progress: Gets a line for each step; nothing is said when nothing has to be done.

    Raises:
        EnvironmentProblemError: A tool is missing, or a package is gone from the mirror or from the package index.
        OutputError: The cache folder cannot be written.
    """
    folder = find_userland(name)
    if folder.is_dir():
        return folder
    with _lock(folder):
        if folder.is_dir():  # another process has just built it
            return folder
        _check_tools()
        with staging(folder, "set $EDGEKIT_CACHE to another folder") as partial:
            _unpack_packages(USERLANDS[name], read_pins(name), partial, progress)
            write_processor_files(USERLANDS[name], partial / "sysroot")
            _install_wheels(USERLANDS[name], read_pins(name), partial, progress)
            _compile_modules(USERLANDS[name], partial, progress)
    return folder


def debian_mirror() -> str:
    """The address of a Debian mirror: `$EDGEKIT_DEBIAN_MIRROR`, or the one in this machine's apt sources.

    Raises:
        EnvironmentProblemError: There is neither.
    """
    if chosen := os.environ.get(MIRROR_VARIABLE):
        return chosen
    indexes = _call(
        *("apt-get", "indextargets", "--format", "$(CODENAME) $(REPO_URI)"),
        *("Origin: Debian", "Component: main", "Created-By: Packages"),
    )
    for line in indexes.splitlines():
        release, _, address = line.partition(" ")
        if address and "-" not in release:  # trixie-security and its like hold no full suite
            return address
    raise EnvironmentProblemError(
        f"apt knows no Debian mirror here. Run `apt-get update` as root, or set ${MIRROR_VARIABLE} to one's address."
    )


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """Lets one process at a time build a folder."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _check_tools() -> None:
    advice = {"apt-get": "use Debian 12 or a derivative, whose packages are unpacked here", "dpkg-deb": "install dpkg"}
    for tool, what in advice.items():
        if shutil.which(tool) is None:
            raise EnvironmentProblemError(f"An emulated board is made with {tool}, which is missing. Please {what}.")
    if not APT_HELPER.exists():
        raise EnvironmentProblemError(f"An emulated board is made with {APT_HELPER}, which is missing. Install apt.")


def _unpack_packages(userland: Userland, pins: Pins, folder: Path, progress: Progress) -> None:
    mirror = debian_mirror().rstrip("/")
    progress(f"fetching {len(pins.packages)} packages of Debian 12 ({userland.debian}) from {mirror}")
    archives, sysroot = folder / "archives", folder / "sysroot"
    archives.mkdir()
    sysroot.mkdir()
    _download(mirror, pins, archives)
    for archive in sorted(archives.iterdir()):
        _call("dpkg-deb", "--extract", archive, sysroot)
    shutil.rmtree(archives)
    _link_libraries(sysroot)


def _download(mirror: str, pins: Pins, archives: Path) -> None:
    """Fetches packages through apt, with the host's proxies, and has it check their hashes."""
    wanted: list[str | Path] = [
        part
        for path, digest in pins.packages.items()
        for part in (f"{mirror}/{quote(path)}", archives / Path(path).name, f"SHA256:{digest}")
    ]
    options = ("-o", "APT::Sandbox::User=", "-o", "Acquire::Retries=3")
    try:
        _call(APT_HELPER, *options, "download-file", *wanted)
    except EnvironmentProblemError as error:
        raise EnvironmentProblemError(
            f"{mirror} did not give the pinned packages ({first_line(error)}). If it has newer ones by now, set "
            f"${MIRROR_VARIABLE} to a mirror that keeps old ones, such as Debian's snapshot archive; or pin anew with "
            "scripts/pin_userlands.py."
        ) from error


def _link_libraries(sysroot: Path) -> None:
    """Makes the two links that numpy needs and that update-alternatives would make on a board."""
    for library in [*sysroot.glob("usr/lib/*/blas/libblas.so.3"), *sysroot.glob("usr/lib/*/lapack/liblapack.so.3")]:
        (library.parents[1] / library.name).symlink_to(Path(library.parent.name, library.name))


def write_processor_files(userland: Userland, sysroot: Path) -> None:
    """Describes a board with four cores in the files that runtimes choose their kernels from.

    qemu shows the guest the host's `/proc` and `/sys` except where the sysroot has the file. On an x86 description some
    runtimes crash, and without the lists of cores TFLite silently leaves XNNPACK out.
    """
    cores = sysroot / "sys/devices/system/cpu"
    blocks = [f"processor\t: {core}\n{userland.cpuinfo}\n" for core in range(CORES)]
    _write(sysroot / "proc/cpuinfo", "".join(blocks))
    for listing in ("possible", "present", "online"):
        _write(cores / listing, f"0-{CORES - 1}\n")
    for core in range(CORES):
        topology = cores / f"cpu{core}" / "topology"
        _write(topology / "physical_package_id", "0\n")
        _write(topology / "core_siblings", f"{(1 << CORES) - 1:x}\n")
        _write(topology / "core_id", f"{core}\n")
        _write(topology / "thread_siblings", f"{1 << core:x}\n")


def _write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def _install_wheels(userland: Userland, pins: Pins, folder: Path, progress: Progress) -> None:
    progress(f"fetching the wheels {', '.join(pins.wheels)}")
    requirements = folder / "requirements.txt"
    requirements.write_text("".join(f"{wheel} --hash=sha256:{digest}\n" for wheel, digest in pins.wheels.items()))
    _call(
        *(sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"),
        *("--root-user-action=ignore", "--only-binary=:all:", "--no-deps", "--no-compile", "--require-hashes"),
        *("--implementation", "cp", "--python-version", userland.python, *pip_platforms(userland)),
        *("--target", str(folder / "wheels"), "--requirement", str(requirements)),
    )


MODULES = (
    "numpy",
    "ai_edge_litert.interpreter",
    "tflite_runtime.interpreter",
    "onnxruntime",
    "openvino",
    "ncnn",
    "MNN",
)
"""What the runner imports, as far as a userland has it."""


def _compile_modules(userland: Userland, folder: Path, progress: Progress) -> None:
    """Imports every runtime once, which shows that it works and leaves compiled modules for a quicker start."""
    progress("trying the runtimes")
    present = [
        name for name in MODULES if any((folder / "wheels").glob(f"{name.partition('.')[0]}*")) or name == "numpy"
    ]
    code = "import importlib, sys; [importlib.import_module(name) for name in sys.argv[1:]]"
    _call(*guest_command(userland, folder), "-c", code, *present, environment=guest_environment(folder, compiling=True))


_CHATTER = re.compile(r"^(WARNING|W|Get|Ign|Fetched|Reading)\b")


def _call(*command: str | Path, environment: Mapping[str, str] | None = None) -> str:
    """What a command prints.

    Raises:
        EnvironmentProblemError: It failed; with the first line of its complaints that is none of its chatter.
    """
    process = subprocess.run(
        command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if process.returncode:
        lines = [line for line in process.stderr.splitlines() if line.strip() and not _CHATTER.match(line)]
        reason = lines[0].strip() if lines else f"exit code {process.returncode}"
        raise EnvironmentProblemError(f"{Path(command[0]).name} failed: {reason}")
    return process.stdout
