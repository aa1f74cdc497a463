"""What the ARM tests stand on: emulated userlands, built once per machine, and one bundle made by the real tool."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
USERLAND_SCRIPT = REPOSITORY / "scripts" / "arm_userland.sh"


def userlands_folder() -> Path:
    """Where userlands are kept between test runs: `$EDGEKIT_ARM_DIR`, or a folder of the user's cache."""
    return Path(os.environ.get("EDGEKIT_ARM_DIR") or Path.home() / ".cache" / "edgekit" / "arm").absolute()


def call(*command: str | Path) -> None:
    """Runs a command; what it wrote is the message when it fails."""
    process = subprocess.run(
        command,
        cwd=REPOSITORY,
        env={**os.environ, "PYTHON": sys.executable},
        capture_output=True,
        text=True,
        check=False,
    )
    if process.returncode:
        pytest.fail(
            f"{' '.join(map(str, command))} failed ({process.returncode}):\n{process.stderr}{process.stdout}", False
        )


def build_userland(arch: str) -> Path:
    """Builds the userland of an architecture unless it is there already, and gives its Python.

    A missing emulator fails the tests, it does not skip them: who asks for ARM tests wants to know that none ran.
    """
    folder = userlands_folder() / arch
    call(USERLAND_SCRIPT, arch, folder)
    return folder / "python"


@pytest.fixture(scope="session")
def armv7l_python() -> Path:
    """The Python of a 32-bit board."""
    return build_userland("armv7l")


@pytest.fixture(scope="session")
def aarch64_python() -> Path:
    """The Python of a 64-bit board."""
    return build_userland("aarch64")


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of parcnetv2_xt for ARM boards, or the one that `$EDGEKIT_ARM_BUNDLE` names."""
    ready = os.environ.get("EDGEKIT_ARM_BUNDLE")
    if ready:
        return Path(ready).absolute()
    folder = tmp_path_factory.mktemp("bundle") / "parcnetv2_xt"
    call(sys.executable, "-m", "edgekit", "export", "parcnetv2_xt", "--target", "arm", "--no-cache", "-o", folder)
    return folder
