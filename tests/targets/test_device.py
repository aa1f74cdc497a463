"""Sessions with a device: on this very machine, with a real guard and a real runtime."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgekit.errors import DeviceError, MisuseError
from edgekit.targets.device import Device, open_device
from edgekit.targets.job import Job, Task
from edgekit.targets.place import cache_folder
from edgekit.targets.shipped import sessions
from tests.targets.running import processes, wait_until

LONG = 10_000_000
"""More rounds than any test waits for."""


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sessions of the machine itself are kept in the cache."""
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path / "cache"))


def model(path: Path, factor: float) -> Path:
    """A network that multiplies its input of shape (1, 4)."""
    constant = numpy_helper.from_array(np.full((1, 4), factor, np.float32), "factor")
    shape = (1, 4)
    graph = helper.make_graph(
        [helper.make_node("Mul", ["x", "factor"], ["y"])],
        "times",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        [constant],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


X = np.arange(4, dtype=np.float32).reshape(1, 4)


@pytest.fixture
def twice(tmp_path: Path) -> Task:
    return Task(key="twice", runtime="onnxruntime", files=(model(tmp_path / "twice.onnx", 2),), cases=({"x": X},))


@pytest.fixture
def device() -> Iterator[Device]:
    with open_device("local") as opened:
        yield opened


def sessions_left() -> list[Path]:
    return [path for path in cache_folder("local").rglob("*") if path.is_dir() and path.parent.name == "sessions"]


def test_outputs_and_times_come_back(device: Device, twice: Task, tmp_path: Path) -> None:
    thrice = replace(twice, key="thrice", files=(model(tmp_path / "thrice.onnx", 3),), cases=({"x": X}, {"x": -X}))

    record = device.run(Job(tasks=(twice, thrice), repeats=7))

    np.testing.assert_array_equal(record["twice"].outputs[0]["y"], 2 * X)
    np.testing.assert_array_equal(record["thrice"].outputs[1]["y"], -3 * X)
    assert [len(each.samples_ms) for each in record.artifacts] == [7, 7]
    assert min(record["twice"].samples_ms) > 0
    assert record["twice"].distribution == "onnxruntime"
    assert record.peak_kib > 10_000
    assert record.disturbances == ()


def test_the_probe_names_what_the_jobs_run_in(device: Device, twice: Task) -> None:
    facts = device.probe()

    assert facts.runtimes["onnxruntime"] == device.run(Job(tasks=(twice,)))["twice"].version
    assert (facts.address, facts.emulated) == ("local", False)


def test_files_are_sent_once_and_all_is_removed(twice: Task) -> None:
    with open_device("local") as device:
        device.run(Job(tasks=(twice,), repeats=1))
        (session,) = sessions_left()
        sent = {path: path.stat().st_ino for path in (session / "blobs").iterdir()}
        device.run(Job(tasks=(twice,), repeats=1))
        assert {path: path.stat().st_ino for path in (session / "blobs").iterdir()} == sent
        assert len(sent) == 2
    assert sessions_left() == []


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        ({"runtime": "armnn"}, "MissingRuntimeError", "armnn is not installed; there is "),
        ({"cases": ({"z": X},)}, "ValueError", r"its inputs are \['x'\], and given were \['z'\]"),
        ({"cases": ({"x": X[:, :3]},)}, "InvalidArgument", "Got invalid dimensions"),
    ],
)
def test_an_artifact_that_fails_leaves_the_others_alone(
    device: Device, twice: Task, change: dict[str, object], kind: str, message: str
) -> None:
    wrong = replace(twice, key="wrong", **change)  # type: ignore[arg-type]

    record = device.run(Job(tasks=(wrong, twice), repeats=2))

    assert record["wrong"].failure is not None
    assert record["wrong"].failure.kind == kind
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(record["wrong"].failure.message)
    assert len(record["twice"].samples_ms) == 2


def test_a_file_that_is_no_network_is_a_failure_with_the_runtimes_words(
    device: Device, twice: Task, tmp_path: Path
) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"no network")

    record = device.run(Job(tasks=(replace(twice, files=(tmp_path / "broken.onnx",)),)))

    assert record["twice"].failure is not None
    assert "broken.onnx failed:Protobuf parsing failed" in record["twice"].failure.message


def test_a_file_that_arrives_damaged_ends_the_job(device: Device, twice: Task) -> None:
    device.run(Job(tasks=(twice,), repeats=1))
    (session,) = sessions_left()
    for path in (session / "blobs").iterdir():
        path.write_bytes(b"damaged")

    with pytest.raises(DeviceError, match="DamagedFileError: a file arrived damaged"):
        device.run(Job(tasks=(twice,), repeats=1))


def test_instructions_are_counted_only_where_they_can_be(device: Device, twice: Task) -> None:
    with pytest.raises(MisuseError, match="local cannot count instructions"):
        device.run(Job(tasks=(twice,), measure="instructions"))


@pytest.mark.skipif(sys.platform != "linux", reason="processes are found in /proc")
def test_a_worker_that_dies_is_told_about_and_the_session_goes_on(device: Device, twice: Task) -> None:
    def kill() -> None:
        for number in processes("runner.zip run"):
            os.kill(number, signal.SIGKILL)

    with pytest.raises(DeviceError, match=r"(?s)was killed by signal 9 .* out of memory\. It was busy with round"):
        device.run(Job(tasks=(twice,), repeats=LONG), kill)

    assert device.run(Job(tasks=(twice,), repeats=1))["twice"].failure is None


@pytest.mark.skipif(sys.platform != "linux", reason="processes are found in /proc")
def test_a_guard_that_dies_is_told_about_and_cleared_up_after(twice: Task) -> None:
    def kill() -> None:
        wait_until(lambda: processes("runner.zip run"))
        for number in processes("runner.zip guard"):
            os.kill(number, signal.SIGKILL)

    threading.Thread(target=kill).start()
    with open_device("local") as device, pytest.raises(DeviceError, match="guard on this machine ended early"):
        device.run(Job(tasks=(twice,), repeats=LONG))
    assert len(sessions_left()) == 1

    lines: list[str] = []
    with open_device("local", lines.append):
        assert len(sessions_left()) == 1
    assert sessions_left() == []
    assert [line for line in lines if line.startswith("local: cleared up session")]
    wait_until(lambda: not processes("runner.zip run"))


def test_a_device_that_takes_too_long_is_given_up(twice: Task) -> None:
    with open_device("local") as device, pytest.raises(DeviceError, match="did not answer in time"):
        device.run(Job(tasks=(twice,), repeats=LONG, timeout_s=2.0))
    wait_until(lambda: sessions_left() == [])


def test_a_job_waits_for_another(device: Device, twice: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    with open_device("local", lines.append) as second, sessions.BoardLock() as lock:
        wait_until(lock.try_it)
        waiting = threading.Thread(target=lambda: second.run(Job(tasks=(twice,), repeats=1)))
        waiting.start()
        wait_until(lambda: lines)
        assert waiting.is_alive()
        lock.__exit__()
        waiting.join(120)
    assert lines == ["local: waiting, somebody else is measuring there"]
    assert not waiting.is_alive()


INTERRUPTED = """
import signal, sys
from pathlib import Path
import numpy as np
from edgekit.targets.device import open_device
from edgekit.targets.job import Job, Task

signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it, and hands that on
task = Task(key="a", runtime="onnxruntime", files=(Path(sys.argv[1]),), cases=({"x": np.zeros((1, 4), np.float32)},))
with open_device("local") as device:
    device.run(Job(tasks=(task,), repeats=10**7))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="processes are found in /proc")
def test_ctrl_c_leaves_nothing_behind(twice: Task) -> None:
    command = [sys.executable, "-c", INTERRUPTED, str(twice.files[0])]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    wait_until(lambda: processes("runner.zip run"))

    process.send_signal(signal.SIGINT)
    _, complaints = process.communicate(timeout=300)

    assert "KeyboardInterrupt" in complaints
    assert sessions_left() == []
    wait_until(lambda: not processes("runner.zip"))


@pytest.fixture
def heavy(tmp_path: Path) -> Task:
    """A network with weights of 64 MiB."""
    path, side = tmp_path / "heavy.onnx", 4096
    weights = numpy_helper.from_array(np.ones((side, side), np.float32), "weights")
    shape = (1, side)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "weights"], ["y"])],
        "heavy",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        [weights],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return Task(key="heavy", runtime="onnxruntime", files=(path,), cases=({"x": np.ones(shape, np.float32)},))


def weighing(*tasks: Task) -> Job:
    return Job(tasks=tasks, measure="memory", outputs=False)


def test_memory_is_told_of_each_artifact_alone(device: Device, twice: Task, heavy: Task) -> None:
    record = device.run(weighing(heavy, twice))

    large, small = record["heavy"].footprint, record["twice"].footprint
    assert large is not None
    assert small is not None
    assert large.load_bytes > 64 << 20 > small.load_bytes
    assert large.runtime_bytes == pytest.approx(small.runtime_bytes, rel=0.2), "nothing of the other is in it"
    for each in (large, small):
        parts = each.runtime_bytes + each.load_bytes + each.run_bytes
        assert each.peak_rss_bytes == max(parts, each.load_peak_bytes)
        assert each.peak_pss_bytes is not None
        assert 0.3 * each.peak_rss_bytes < each.peak_pss_bytes <= each.peak_rss_bytes + (1 << 20)
    assert (record["twice"].samples_ms, record["twice"].outputs) == ((), ())


def test_memory_that_is_not_known_leaves_that_of_the_others(device: Device, twice: Task, tmp_path: Path) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"no network")
    broken = replace(twice, key="broken", files=(tmp_path / "broken.onnx",))
    missing = replace(twice, key="missing", runtime="nothing")

    record = device.run(weighing(broken, missing, twice))

    assert record["broken"].failure is not None
    assert "Protobuf parsing failed" in record["broken"].failure.message
    assert record["missing"].failure is not None
    assert record["missing"].failure.kind == "MissingRuntimeError"
    assert record["twice"].footprint is not None


@pytest.mark.skipif(sys.platform != "linux", reason="processes are found in /proc")
def test_a_process_that_the_system_ends_for_its_memory_is_told(device: Device, twice: Task) -> None:
    def kill() -> None:
        wait_until(lambda: processes("runner.zip hold"))
        for number in processes("runner.zip hold"):
            os.kill(number, signal.SIGKILL)

    threading.Thread(target=kill).start()
    record = device.run(weighing(twice, replace(twice, key="next")))

    assert record["twice"].failure is not None
    assert "the system ended its process, as it does when there is no memory left" in record["twice"].failure.message
    assert record["next"].footprint is not None


def run_in_vain(device: Device, job: Job) -> None:
    with pytest.raises(DeviceError):
        device.run(job)


@pytest.mark.skipif(sys.platform != "linux", reason="processes are found in /proc")
def test_a_session_that_is_closed_ends_the_process_whose_memory_is_measured(twice: Task) -> None:
    with open_device("local") as device:
        tasks = [replace(twice, key=f"task {number}") for number in range(100)]
        thread = threading.Thread(target=run_in_vain, args=(device, weighing(*tasks)))
        thread.start()
        wait_until(lambda: processes("runner.zip hold"))
    thread.join(120)

    wait_until(lambda: not processes("runner.zip"))


def test_who_runs_a_job_hears_when_its_rounds_begin(device: Device, twice: Task) -> None:
    heard: list[str] = []

    device.run(Job(tasks=(twice,), repeats=0), lambda: heard.append("no round"))
    device.run(Job(tasks=(twice,), repeats=2), lambda: heard.append("rounds"))

    assert heard == ["rounds"]
