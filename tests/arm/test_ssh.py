"""A whole ARM machine behind a real ssh server: work that goes well, and everything that can break it, one by one.

After each fault three things are looked at: what is said, the exit code that goes with it, and that the board is as it
was, its governor included.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from edgekit.cli import cli
from edgekit.errors import DeviceError
from edgekit.numerics import compare_one
from edgekit.targets.device import Device, open_device
from edgekit.targets.job import Job, Task
from tests.arm import tiny
from tests.arm.vm import Board, missing_tool, running_board

pytestmark = pytest.mark.arm

RUNNING, KILL = "pgrep -f 'runner[.]zip{0}' || test $? -eq 1", "pkill -9 -f 'runner[.]zip{0}'"
"""Scripts for the board: the processes of the runner, whose command lines go on in these words, and their end."""

GOVERNOR = "cat /sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"
LONG = 1_000_000
"""More rounds than any test waits for."""


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Board]:
    if missing := missing_tool():
        pytest.fail(f"the emulated board cannot be made; {missing}", pytrace=False)
    with pytest.MonkeyPatch.context() as patch, running_board(tmp_path_factory.mktemp("board")) as running:
        patch.setenv("EDGEKIT_SSH", running.client())
        answer = CliRunner().invoke(cli, ["device", "setup", running.address(), "--json"])
        assert answer.exit_code == 0, answer.output
        yield running


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    files = tiny.write(tmp_path_factory.mktemp("tiny"))
    task = Task(key="tiny", runtime="ncnn", files=files, cases=({"in0": tiny.image()},))
    return Job(tasks=(task,), repeats=5, timeout_s=300)


@pytest.fixture
def clean(board: Board) -> Iterator[None]:
    """Sees to it that nothing is left on the board but what was set up, and that its governor is the old one."""
    yield
    wait_until(lambda: leftovers(board) == "", 240)


def leftovers(board: Board) -> str:
    """What a session left: folders, locks, processes, a governor."""
    return board.sh(
        "ls -A /root/.edgekit/sessions /tight /tmp 2>/dev/null | grep -v ':$'; "
        + RUNNING.format("")
        + "; grep -v ondemand /sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"
        + "; true"
    ).strip()


def wait_until(condition: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.5)


def failure(board: Board, job: Job, *, user: str = "root") -> str:
    """What is said when a job fails."""
    with pytest.raises(DeviceError) as caught, open_device(board.address(user)) as device:
        device.run(job)
    assert caught.value.exit_code == 3
    return str(caught.value)


def test_outputs_are_those_of_the_network(board: Board, job: Job, clean: None) -> None:
    with open_device(board.address()) as device:
        record = device.run(job)

    measured = record["tiny"]
    assert measured.failure is None
    parity = compare_one(tiny.expected(tiny.image()), measured.outputs[0]["out0"])
    assert parity.snr_db > 90.0, "ncnn computes convolutions by Winograd's method, which costs digits"
    assert len(measured.samples_ms) == 5
    assert min(measured.samples_ms) > 0
    assert measured.distribution == "ncnn"


def test_the_board_is_described(board: Board, clean: None) -> None:
    with open_device(board.address()) as device:
        facts = device.probe()

    assert (facts.machine, facts.bits, facts.emulated) == ("armv7l", 32, True)
    assert facts.address == board.address()
    assert set(facts.runtimes) == {"ncnn", "tflite-runtime"}
    assert "neon" in facts.features


def test_state_before_and_after_is_recorded(board: Board, job: Job, clean: None) -> None:
    with open_device(board.address()) as device:
        record = device.run(replace(job, governor="performance"))

    assert record.before.governors == {"cpu0": "performance"}
    assert record.before.highest_khz == {"cpu0": 1608000}
    assert 0 < record.after.available_kib < record.device.memory_kib


def test_files_are_sent_once(board: Board, job: Job, clean: None) -> None:
    with open_device(board.address()) as device:
        device.run(job)
        before = board.sh("ls -i /root/.edgekit/sessions/*/blobs")
        device.run(job)
        assert board.sh("ls -i /root/.edgekit/sessions/*/blobs") == before


def test_a_missing_runtime_is_named_and_the_rest_runs(board: Board, job: Job, clean: None) -> None:
    other = replace(job.tasks[0], key="other", runtime="onnxruntime")
    with open_device(board.address()) as device:
        record = device.run(replace(job, tasks=(other, *job.tasks)))

    assert record["other"].failure is not None
    assert record["other"].failure.kind == "MissingRuntimeError"
    assert "onnxruntime is not installed; there is ncnn, tflite-runtime" in record["other"].failure.message
    assert record["tiny"].samples_ms


def test_setup_says_what_does_not_install(board: Board, clean: None) -> None:
    answer = CliRunner().invoke(cli, ["device", "setup", board.address(), "--runtime", "openvino"])

    assert answer.exit_code == 2
    assert "openvino does not install" in answer.output
    assert "no wheel for armv7l" in answer.output


def test_doctor_knows_what_the_wheel_lacks(board: Board, clean: None) -> None:
    answer = CliRunner().invoke(cli, ["device", "doctor", board.address(), "--json"])

    assert answer.exit_code == 0, answer.output
    verdicts = {each["distribution"]: each for each in json.loads(answer.stdout)["diagnosis"]["runtimes"]}
    assert (verdicts["ncnn"]["verdict"], verdicts["tflite-runtime"]["verdict"]) == ("works", "works")
    assert "without XNNPACK" in verdicts["tflite-runtime"]["remark"]
    assert verdicts["onnxruntime"]["verdict"] == "unavailable"


@pytest.mark.parametrize(
    ("known", "said"),
    [
        ("wrong_hosts", "shows another host key than the known one"),
        ("no_hosts", "has a host key that is not known here"),
    ],
)
def test_host_keys_are_checked(
    board: Board, job: Job, clean: None, monkeypatch: pytest.MonkeyPatch, known: str, said: str
) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("EDGEKIT_SSH", board.client(known))
        message = failure(board, job)

    assert said in message


def test_a_user_without_a_key_is_told_how_to_bring_one(board: Board, job: Job, clean: None) -> None:
    assert "ssh-copy-id" in failure(board, job, user="stranger")


def test_a_board_without_python_says_so(board: Board, job: Job, clean: None) -> None:
    assert "there is no python3 on its PATH" in failure(board, job, user="bare")


def test_a_full_disk_is_named(board: Board, job: Job, clean: None, tmp_path: Path) -> None:
    large = tmp_path / "large.bin"
    large.write_bytes(os.urandom(12 << 20))
    files = (*job.tasks[0].files, large)

    message = failure(board, replace(job, tasks=(replace(job.tasks[0], files=files),)), user="tight")

    assert "has no space left" in message


def test_a_link_that_is_cut_while_files_are_sent(board: Board, job: Job, clean: None, tmp_path: Path) -> None:
    large = tmp_path / "large.bin"
    large.write_bytes(os.urandom(100 << 20))
    larger = replace(job, tasks=(replace(job.tasks[0], files=(*job.tasks[0].files, large)),))
    with open_device(board.address()) as device:
        threading.Timer(0.5, ssh_of(device).kill).start()
        with pytest.raises(DeviceError, match="ended before the job did"):
            device.run(larger)


def ssh_of(device: Device) -> "subprocess.Popen[bytes]":
    """The ssh client under a device."""
    process: subprocess.Popen[bytes] = device._link._process  # type: ignore[attr-defined]
    return process


def test_a_link_that_falls_silent_while_a_job_runs(
    board: Board, job: Job, clean: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The board learns of it only from the silence, here after 20 s, and then puts its governor back."""
    monkeypatch.setenv("EDGEKIT_SILENCE", "20")
    with open_device(board.address()) as device:
        try:
            with pytest.raises(DeviceError, match="fell silent"):
                device.run(
                    replace(job, repeats=LONG, governor="performance"), lambda: board.tell_qemu("set_link link off")
                )
        finally:
            board.tell_qemu("set_link link on")
    wait_until(lambda: leftovers(board) == "", 120)


def test_a_worker_that_is_killed(board: Board, job: Job, clean: None) -> None:
    with open_device(board.address()) as device:
        with pytest.raises(DeviceError, match=r"was killed by signal 9.*busy with round"):
            device.run(replace(job, repeats=LONG, governor="performance"), lambda: board.sh(KILL.format(" run")))

        assert device.run(job)["tiny"].failure is None, "the session goes on"


def test_a_guard_that_is_killed_is_cleared_up_after(board: Board, job: Job, clean: None) -> None:
    with open_device(board.address()) as device, pytest.raises(DeviceError, match="ended before the job did"):
        device.run(replace(job, repeats=LONG, governor="performance"), lambda: board.sh(KILL.format(" guard")))
    assert "performance" in board.sh(GOVERNOR)

    lines: list[str] = []
    with open_device(board.address(), lines.append):
        pass

    assert any("cleared up session" in line for line in lines)


HOG = (
    "python3 -c \"import os,re,time; open('/proc/self/oom_score_adj','w').write('-1000'); "
    "free=int(re.search('MemAvailable: *([0-9]+)',open('/proc/meminfo').read())[1])<<10; "
    "hog=b'x'*(free-(14<<20)); time.sleep({seconds})\" >/dev/null 2>&1 & sleep 8"
)
"""Takes all of a board's memory but 14 MiB, for some seconds; the system may not end it for that."""


def test_a_board_that_runs_out_of_memory(board: Board, job: Job, clean: None) -> None:
    with open_device(board.address()) as device:
        board.sh(HOG.format(seconds=40))
        with pytest.raises(DeviceError, match=r"killed by signal 9.*out of memory"):
            device.run(replace(job, tasks=(replace(job.tasks[0], runtime="tflite"), *large_tasks(job))))
    board.sh("pkill -9 -f '[h]og=' || test $? -eq 1")


def large_tasks(job: Job) -> tuple[Task, ...]:
    return tuple(replace(job.tasks[0], key=f"task {number}") for number in range(20))


def test_a_clock_that_is_set_meanwhile(board: Board, job: Job, clean: None) -> None:
    with open_device(board.address()) as device:
        disturbed = device.run(replace(job, repeats=15000), lambda: board.sh("date -s '+2 hours'"))

    assert "the clock was set by +7" in disturbed.disturbances[0]
    assert max(disturbed["tiny"].samples_ms) < 3_600_000


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """The bundle of a network of one convolution, made by the real tool."""
    source = tmp_path / "net.py"
    source.write_text(NETWORK)
    arguments = ["export", f"{source}:build", "--input", "1x3x24x24", "--format", "tflite", "--format", "ncnn"]
    answer = CliRunner().invoke(cli, [*arguments, "--format", "onnx", "-o", str(tmp_path / "net")])
    assert answer.exit_code == 0, answer.output
    return tmp_path / "net"


NETWORK = """
import torch
def build():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.ReLU())
"""


def test_bench_from_end_to_end(board: Board, clean: None, bundle: Path) -> None:
    """On the machine behind ssh and on an emulated userland at once; neither gives a time."""
    devices = ("--device", board.address(), "--device", "qemu://armv7")

    answer = CliRunner().invoke(cli, ["bench", str(bundle), *devices, "--json"])

    assert answer.exit_code == 0, answer.output
    content = json.loads(answer.stdout)
    remote, emulated = content["runs"]
    for made, address in ((remote, board.address()), (emulated, "qemu://armv7")):
        machine = made["machine"]
        assert (machine["device"], machine["architecture"], machine["emulated"]) == (address, "armv7l", True)
        assert made["measurements"] == []
        assert {one["subject"]["distribution"] for one in made["executions"]} == {"ncnn", "tflite-runtime"}
        assert all(one["emulated"] and one["parity"]["parity"]["snr_db"] > 80 for one in made["executions"])
    assert [one["instructions"] for one in remote["executions"]] == [None, None]
    assert [one["memory"] for one in emulated["executions"]] == [None, None]
    assert (remote["no_memory"], "user-mode emulation" in emulated["no_memory"]) == ("", True)
    for memory in (one["memory"] for one in remote["executions"]):
        assert memory["runtime_bytes"] > 5 << 20, "an interpreter of Python and a runtime"
        assert 0 < memory["load_bytes"] < memory["runtime_bytes"], "of a network of a few hundred weights"
        assert memory["peak_rss_bytes"] >= sum(memory[f"{part}_bytes"] for part in ("runtime", "load", "run"))
        assert 0 < memory["peak_pss_bytes"] <= memory["peak_rss_bytes"]
    assert all(one["instructions"] > 100_000 for one in emulated["executions"])
    assert remote["watches"][0]["before"]["governors"] == {"cpu0": "ondemand"}
    assert {each["artifact"].rpartition(".")[2] for each in content["skipped"]} == {"onnx"}
    assert len(list((bundle / "measurements").iterdir())) == 2


def test_bench_shows_no_time_of_a_board_that_is_emulated(board: Board, clean: None, bundle: Path) -> None:
    answer = CliRunner().invoke(cli, ["bench", str(bundle), "--device", board.address(), "--no-memory", "--markdown"])

    assert answer.exit_code == 0, answer.output
    rows = [line for line in answer.stdout.splitlines() if line.startswith(f"| {board.address()}")]
    assert len(rows) == 2
    assert all("not counted" in row and row.endswith("**EMULATED** |") and " ms" not in row for row in rows)
    assert "| memory |" not in answer.stdout


def test_two_jobs_never_run_at_once(board: Board, job: Job, clean: None) -> None:
    lines: list[str] = []
    order: list[str] = []
    with open_device(board.address()) as first, open_device(board.address(), lines.append) as second:

        def run_first() -> None:
            first.run(replace(job, repeats=2000))
            order.append("first")

        thread = threading.Thread(target=run_first)
        thread.start()
        wait_until(lambda: board.sh("ls /tmp").strip() != "", 120)
        second.run(job)
        order.append("second")
        thread.join()

    assert order == ["first", "second"]
    assert any("somebody else is measuring there" in line for line in lines)


INTERRUPTED = """
import signal, sys
from pathlib import Path
from dataclasses import replace
from edgekit.targets.device import open_device
from edgekit.targets.job import Job, Task
from tests.arm import tiny
files = tiny.write(Path(sys.argv[2]))
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it, and hands that on
task = Task(key="tiny", runtime="ncnn", files=files, cases=({"in0": tiny.image()},))
with open_device(sys.argv[1]) as device:
    print("begins", flush=True)
    device.run(Job(tasks=(task,), repeats=10**6, governor="performance"))
"""


def test_an_interrupted_job_leaves_nothing(board: Board, clean: None, tmp_path: Path) -> None:
    command = [sys.executable, "-c", INTERRUPTED, board.address(), str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "begins\n"
    wait_until(lambda: "performance" in board.sh(GOVERNOR), 300)

    process.send_signal(signal.SIGINT)
    _, complaints = process.communicate(timeout=300)

    assert "KeyboardInterrupt" in complaints
    assert "ondemand" in board.sh(GOVERNOR), "it was put back before the process ended"


def test_a_board_that_is_cleared_keeps_no_trace(board: Board) -> None:
    """Comes last: what the other tests run with is gone afterwards."""
    assert "wheels" in board.sh("ls -A /root/.edgekit")

    answer = CliRunner().invoke(cli, ["device", "remove", board.address()])

    assert answer.exit_code == 0, answer.output
    assert board.sh("ls -A /root /tmp | grep -v ':$' | grep -v '^$' || true") == ""
