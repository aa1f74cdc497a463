"""Bringing runtimes to a board, and taking everything off it again.

Wheels are fetched here, for boards rarely have a way to the package index, and sent into a private folder there. The
board's own Python packages are left as they are.
"""

import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

from edgekit.errors import EnvironmentProblemError, MisuseError
from edgekit.targets.job import Facts
from edgekit.targets.link import Progress
from edgekit.targets.served import ServedLink
from edgekit.targets.wheels import NUMPY, Wheel, architecture, glibc_of, python_of

CHECK_SECONDS = 300.0
NUMPY_ARCHITECTURES = ("aarch64", "x86_64")
"""Where numpy has wheels; elsewhere the board's distribution has to bring it."""


def install_runtimes(link: ServedLink, board: Facts, wheels: Sequence[Wheel], progress: Progress) -> None:
    """Brings wheels to a board.

    Raises:
        MisuseError: The board lacks numpy, and there is no wheel of that for it.
        EnvironmentProblemError: pip does not get a wheel.
        DeviceError: The board has no space for them, or was lost.
    """
    requirements = [*dict.fromkeys(wheel.requirement for wheel in wheels), *_numpy(board)]
    with tempfile.TemporaryDirectory() as folder:
        progress(f"fetching {', '.join(requirements)} for {architecture(board)}, Python {board.python}")
        _fetch(requirements, board, Path(folder, "packages"))
        archive = Path(folder, "packages.zip")
        _pack(Path(folder, "packages"), archive)
        progress(f"sending {archive.stat().st_size / (1 << 20):.1f} MiB to {board.address}")
        link.install(archive)


def _numpy(board: Facts) -> list[str]:
    """What has to be fetched so that the board has a numpy."""
    if board.numpy:
        return []
    if architecture(board) in NUMPY_ARCHITECTURES:
        return [NUMPY]
    raise MisuseError(
        f"{board.address} has no numpy, and there is no wheel of it for {architecture(board)}. Install the "
        "distribution's own there: apt-get install python3-numpy."
    )


def _fetch(requirements: Sequence[str], board: Facts, folder: Path) -> None:
    major, minor = python_of(board)
    glibc_minor = glibc_of(board)[1]
    tags = ("manylinux2014", *(f"manylinux_2_{number}" for number in range(17, glibc_minor + 1)))
    platforms = [option for tag in tags for option in ("--platform", f"{tag}_{architecture(board)}")]
    command = [
        *(sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"),
        *("--root-user-action=ignore", "--only-binary=:all:", "--no-deps", "--no-compile"),
        *("--implementation", "cp", "--python-version", f"{major}.{minor}", *platforms),
        *("--target", str(folder), *requirements),
    ]
    process = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if process.returncode:
        errors = [line for line in process.stderr.splitlines() if line.startswith("ERROR")] or ["pip failed"]
        raise EnvironmentProblemError(f"The wheels for {board.address} cannot be fetched. {errors[-1]}")


def _pack(folder: Path, archive: Path) -> None:
    """Packs packages without the programs and caches that pip puts beside them."""
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        for path in sorted(folder.rglob("*")):
            name = path.relative_to(folder)
            if path.is_file() and name.parts[0] != "bin" and "__pycache__" not in name.parts:
                packed.write(path, name)
