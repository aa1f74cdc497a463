"""What the ARM tests stand on: emulated boards, built once per machine, and one bundle made by the real tool.

The list of boards, the stages of exports and what tuning found are each process's own, so that tests neither see the
user's nor leave theirs there.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgekit.targets.device import Device, open_device
from edgekit.targets.place import cache_folder

REPOSITORY = Path(__file__).parents[2]


def call(*command: str | Path) -> None:
    """Runs a command; what it wrote is the message when it fails."""
    process = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    if process.returncode:
        pytest.fail(
            f"{' '.join(map(str, command))} failed ({process.returncode}):\n{process.stderr}{process.stdout}", False
        )


BUILT = ("boards", "counters", "userlands")
"""Parts of the cache that take time or a download, and hold nothing but what is pinned."""


@pytest.fixture(scope="session", autouse=True)
def own_folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A cache that shares with the user's only what is built once, and no measurements of the user's."""
    own = tmp_path_factory.mktemp("own")
    for part in BUILT:
        shared = cache_folder(part)
        shared.mkdir(parents=True, exist_ok=True)
        (own / "cache").mkdir(exist_ok=True)
        (own / "cache" / part).symlink_to(shared)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGEKIT_CACHE", str(own / "cache"))
        patch.setenv("EDGEKIT_TUNING", str(own / "tuning"))
        yield


@pytest.fixture(scope="session")
def armv7() -> Iterator[Device]:
    """A 32-bit board.

    A missing emulator fails the tests, it does not skip them: who asks for ARM tests wants to know that none ran.
    """
    with open_device("qemu://armv7") as device:
        yield device


@pytest.fixture(scope="session")
def aarch64() -> Iterator[Device]:
    """A 64-bit board."""
    with open_device("qemu://aarch64") as device:
        yield device


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of parcnetv2_xt for ARM boards, or the one that `$EDGEKIT_ARM_BUNDLE` names."""
    ready = os.environ.get("EDGEKIT_ARM_BUNDLE")
    if ready:
        return Path(ready).absolute()
    folder = tmp_path_factory.mktemp("bundle") / "parcnetv2_xt"
    call(sys.executable, "-m", "edgekit", "export", "parcnetv2_xt", "--target", "arm", "--no-cache", "-o", folder)
    return folder
