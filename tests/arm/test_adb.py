"""A device behind adb: the real client, against a daemon that stands in for a device and runs this machine's Python."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edgekit.errors import DeviceError
from edgekit.targets.device import Device, open_device
from edgekit.targets.job import Job, Task
from tests.arm import tiny
from tests.arm.adbd import running_daemon
from tests.arm.test_counts import onnx_file

pytestmark = pytest.mark.arm


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def address(home: Path) -> Iterator[str]:
    """The address of a device that is connected to an adb server of the test's own."""
    adb = shutil.which("adb")
    if adb is None:
        pytest.fail("adb is missing; as root: apt-get install adb", pytrace=False)
    with socket.create_server(("127.0.0.1", 0)) as free:
        server = f"tcp:localhost:{free.getsockname()[1]}"
    programs = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    (home / "bin").mkdir()
    (home / "bin" / "python3").symlink_to(sys.executable)
    environment = {"PATH": programs, "HOME": str(home), "OMP_NUM_THREADS": "1"}
    with pytest.MonkeyPatch.context() as patch, running_daemon(environment) as port:
        patch.setenv("ADB_SERVER_SOCKET", server)
        patch.setenv("HOME", str(home))  # where adb keeps its keys
        serial = f"127.0.0.1:{port}"
        answer = subprocess.run([adb, "connect", serial], capture_output=True, text=True, check=True)
        assert "connected to" in answer.stdout, answer.stdout + answer.stderr
        yield f"adb://{serial}"
        subprocess.run([adb, "kill-server"], check=True)


@pytest.fixture
def job(tmp_path: Path) -> Job:
    files = (onnx_file(tmp_path / "tiny.onnx"),)
    task = Task(key="tiny", runtime="onnxruntime", files=files, cases=({"in0": tiny.image()},))
    return Job(tasks=(task,), repeats=5)


def sessions(home: Path) -> list[str]:
    return [path.name for path in home.glob(".edgekit/sessions/*")]


def test_a_job_runs_and_leaves_nothing(address: str, home: Path, job: Job) -> None:
    with open_device(address) as device:
        record = device.run(job)
        assert len(sessions(home)) == 1

    np.testing.assert_allclose(record["tiny"].outputs[0]["out0"], tiny.expected(tiny.image()), rtol=1e-4, atol=1e-4)
    assert len(record["tiny"].samples_ms) == 5
    assert record.device.address == address
    wait_until_gone(home)


def test_bytes_go_both_ways_unchanged(address: str, home: Path) -> None:
    """Line ends and control characters, which a terminal would change."""
    content = bytes(range(256)) * 5000 + b"\r\n\x04\x1a"
    with open_device(address) as device:
        link = device._link
        link.push({"bytes": content})
        assert link.fetch("bytes") == content


def test_a_device_that_is_not_there(address: str) -> None:
    with pytest.raises(DeviceError, match="`adb devices` lists what is"), open_device("adb://nobody"):
        pass


def test_a_link_that_is_cut_leaves_nothing(address: str, home: Path, job: Job) -> None:
    with open_device(address) as device:
        adb_of(device).kill()
        with pytest.raises(DeviceError, match="ended before the job did"):
            device.run(job)
    wait_until_gone(home)


def adb_of(device: Device) -> "subprocess.Popen[bytes]":
    """The adb client under a device."""
    process: subprocess.Popen[bytes] = device._link._process  # type: ignore[attr-defined]
    return process


def wait_until_gone(home: Path) -> None:
    deadline = time.monotonic() + 120
    while sessions(home):
        assert time.monotonic() < deadline, "the session's folder is still there"
        time.sleep(0.2)
