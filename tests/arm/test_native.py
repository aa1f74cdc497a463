"""A board without Python behind a real ssh server: a shell and a few POSIX tools are all that it has.

ncnn's own program for ARMv7 is used where $EDGEKIT_BENCHNCNN_ARMV7 names one, built statically; shell scripts stand in
for programs that fail.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from edgekit.cli import cli
from tests.arm import tiny
from tests.arm.vm import Board, missing_tool, running_board
from tests.fleet.standins import shell_program

pytestmark = pytest.mark.arm

PRINTS = 'echo "      ${6#param=}  min =    1.20  max =    1.90  avg =    1.40" >&2'
REAL = os.environ.get("EDGEKIT_BENCHNCNN_ARMV7", "")


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Board]:
    if missing := missing_tool():
        pytest.fail(f"the emulated board cannot be made; {missing}", pytrace=False)
    with pytest.MonkeyPatch.context() as patch, running_board(tmp_path_factory.mktemp("board")) as running:
        patch.setenv("EDGEKIT_SSH", running.client())
        yield running


@pytest.fixture(autouse=True)
def clean(board: Board) -> Iterator[None]:
    """Sees to it that nothing is left on the board."""
    yield
    wait_until(lambda: leftovers(board) == "", 120)


def leftovers(board: Board) -> str:
    """Folders, and processes of programs and of those that keep sessions."""
    return board.sh(
        "ls -A /root /tight /tmp 2>/dev/null | grep edgekit; "
        "ls -l /proc/[0-9]*/cwd 2>/dev/null | grep edgekit-shell; true"
    ).strip()


def wait_until(condition: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.5)


NETWORK = """
import torch
def build():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.ReLU())
"""


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of a network of one convolution, made by the real tool."""
    folder = tmp_path_factory.mktemp("net")
    (folder / "net.py").write_text(NETWORK)
    arguments = ["export", f"{folder / 'net.py'}:build", "--input", f"1x3x{tiny.SIDE}x{tiny.SIDE}", "--format", "ncnn"]
    answer = CliRunner().invoke(cli, [*arguments, "-o", str(folder / "bundle")])
    assert answer.exit_code == 0, answer.output
    return folder / "bundle"


@pytest.fixture
def bundle(exported: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(exported, tmp_path / "bundle"))


def bench(board: Board, bundle: Path, program: str | Path, *more: str, user: str = "bare") -> Result:
    device = ("--device", board.address(user), "--native", f"ncnn={program}")
    return CliRunner().invoke(cli, ["bench", str(bundle), *device, *more])


def test_the_board_has_no_python_and_is_told_what_to_do(board: Board, bundle: Path) -> None:
    answer = CliRunner().invoke(cli, ["bench", str(bundle), "--device", board.address("bare")])

    assert answer.exit_code == 3
    assert "there is no python3 on its PATH" in answer.output
    assert f"--device {board.address('bare')} --native ncnn=./benchncnn" in answer.output


def test_doctor_says_what_could_run(board: Board) -> None:
    answer = CliRunner().invoke(cli, ["device", "doctor", board.address("bare"), "--json"])

    assert answer.exit_code == 1, answer.output
    found = json.loads(answer.stdout)["diagnosis"]
    assert found["device"] | {"machine": "armv7l", "python": "none", "bits": 32} == found["device"]
    assert "neon" in found["device"]["features"]
    assert found["state"]["governors"] == {"cpu0": "ondemand"}
    assert {each["distribution"]: each["verdict"] for each in found["runtimes"]} == {
        "benchmark_model": "native only",
        "benchncnn": "native only",
        "benchmark.out": "native only",
    }
    assert "no Python" in found["concerns"][0]


def test_a_program_runs_with_nothing_but_a_shell(board: Board, bundle: Path, tmp_path: Path) -> None:
    answer = bench(board, bundle, shell_program(tmp_path, PRINTS), "--json")

    assert answer.exit_code == 0, answer.output
    (run,) = json.loads(answer.stdout)["runs"]
    (one,) = run["printed"]
    assert (run["measurements"], run["executions"]) == ([], [])
    assert (one["parity"], one["emulated"], one["mean_ms"]) == (None, True, None)
    assert run["machine"]["architecture"] == "armv7l"
    assert run["watches"][0]["before"]["governors"] == {"cpu0": "ondemand"}


@pytest.mark.skipif(not REAL, reason="$EDGEKIT_BENCHNCNN_ARMV7 names no benchncnn for ARMv7")
def test_ncnns_own_program_runs(board: Board, bundle: Path) -> None:
    answer = bench(board, bundle, REAL, "--markdown")

    assert answer.exit_code == 0, answer.output
    (row,) = [line for line in answer.stdout.splitlines() if line.startswith(f"| {board.address('bare')}")]
    assert "no time" in row
    assert "outputs NOT compared" in row
    assert row.endswith("**EMULATED** |")


@pytest.mark.skipif(not REAL, reason="$EDGEKIT_BENCHNCNN_ARMV7 names no benchncnn for ARMv7")
def test_instructions_of_ncnns_own_program_are_counted(bundle: Path) -> None:
    arguments = ["bench", str(bundle), "--device", "qemu://armv7", "--native", f"ncnn={REAL}", "--json"]

    runs = [json.loads(CliRunner().invoke(cli, arguments).stdout)["runs"][0]["printed"][0] for _ in range(2)]

    counts = [one["instructions"] for one in runs]
    assert counts[0] > 100_000
    assert counts[1] == pytest.approx(counts[0], rel=0.005)
    assert {one["mean_ms"] for one in runs} == {None}


@pytest.mark.parametrize(
    ("body", "code", "said"),
    [
        ("kill -SEGV $$", 1, "was killed by signal 11"),
        ("echo Hello", 3, "printed no figures that can be read"),
        ("exec /not/there", 3, "cannot be started on"),
    ],
)
def test_each_fault_is_told(board: Board, bundle: Path, tmp_path: Path, body: str, code: int, said: str) -> None:
    answer = bench(board, bundle, shell_program(tmp_path, body))

    assert answer.exit_code == code, answer.output
    assert said in answer.output


def test_a_program_that_the_board_lacks(board: Board, bundle: Path) -> None:
    answer = bench(board, bundle, "board:/usr/bin/benchncnn")

    assert answer.exit_code == 3
    assert "cannot be started on" in answer.output
    assert "not found" in answer.output


def test_a_program_for_this_machine(board: Board, bundle: Path) -> None:
    answer = bench(board, bundle, shutil.which("true") or "/bin/true")

    assert answer.exit_code == 3
    assert "and ssh://bare@" in answer.output
    assert "is armv7l. Build one for it." in answer.output


def test_a_full_disk_is_named(board: Board, bundle: Path, tmp_path: Path) -> None:
    large = shell_program(tmp_path, PRINTS)
    with large.open("ab") as file:
        file.write(b"#" + os.urandom(12 << 20))

    answer = bench(board, bundle, large, user="tight")

    assert answer.exit_code == 3
    assert "has no space left. Free some there and try again." in answer.output


HANGS = "sleep 1000"


def once_it_runs(board: Board, action: Callable[[], object]) -> threading.Thread:
    """Does something as soon as the program runs on the board."""

    def watch() -> None:
        wait_until(lambda: board.sh("pgrep -f 'sleep 1000' || true").strip() != "", 120)
        action()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    return thread


def test_a_link_that_falls_silent(board: Board, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The board learns of it only from the silence, here after 10 s."""
    monkeypatch.setenv("EDGEKIT_SILENCE", "10")
    once_it_runs(board, lambda: board.tell_qemu("set_link link off"))
    try:
        answer = bench(board, bundle, shell_program(tmp_path, HANGS))
    finally:
        board.tell_qemu("set_link link on")

    assert answer.exit_code == 3, answer.output
    assert "fell silent" in answer.output or "does not answer" in answer.output


def test_an_interrupted_run_leaves_nothing(board: Board, bundle: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "edgekit", "bench", str(bundle), "--device", board.address("bare")]
    program = shell_program(tmp_path, HANGS)
    begin = "import signal, runpy, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
    begin += "sys.argv = sys.argv[1:]; runpy.run_module('edgekit', run_name='__main__')"
    process = subprocess.Popen(
        [sys.executable, "-c", begin, "edgekit", *command[3:], "--native", f"ncnn={program}"], stderr=subprocess.PIPE
    )

    once_it_runs(board, lambda: process.send_signal(signal.SIGINT))
    process.communicate(timeout=300)

    assert process.returncode == 130
    assert leftovers(board) == "", "it was gone before the process ended"
