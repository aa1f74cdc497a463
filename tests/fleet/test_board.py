"""Bundles on one device: parity where it is measured, times with verdicts, and what has no runtime there."""

import io
import json
import os
import shutil
import signal
import sys
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from edgekit.bench.record import Run, Setting
from edgekit.bundle import MANIFEST, read_manifest
from edgekit.errors import ArtifactError, EnvironmentProblemError, MisuseError, ParityError
from edgekit.files import hash_files
from edgekit.fleet.board import measure_on
from edgekit.measure import Bundle, Choice, Outcome
from edgekit.targets.archive import runner_archive
from edgekit.targets.device import Device, open_device
from tests.bench.conftest import disturbed
from tests.bench.figures import BRIEF, ONE
from tests.targets.running import processes, wait_until

COMMAND = ("edgekit", "bench")
ARTIFACT = "parcnetv2_xt.fp32.onnx"


def measured(device: Device, *bundles: Bundle, choice: Choice | None = None) -> Outcome:
    return measure_on(device, bundles, choice or Choice(memory=False), BRIEF, COMMAND)


def vouched(bundle: Bundle, content: bytes) -> Bundle:
    """The bundle with another artifact, whose hash its manifest knows."""
    (bundle.folder / ARTIFACT).unlink()
    (bundle.folder / ARTIFACT).write_bytes(content)
    manifest = json.loads((bundle.folder / MANIFEST).read_text())
    entry = msgspec.to_builtins(hash_files([bundle.folder / ARTIFACT]))
    manifest["members"][0]["artifact"]["files"] = entry
    (bundle.folder / MANIFEST).write_text(json.dumps(manifest))
    return Bundle(bundle.folder, read_manifest(bundle.folder))


def test_a_device_gives_times_parity_and_its_state(device: Device, opened: Bundle) -> None:
    outcome = measured(device, opened, choice=Choice((ONE, Setting(threads=2))))

    (run,) = outcome.runs
    assert (outcome.problems, outcome.skipped, run.executions) == ((), (), ())
    assert (run.bundle, run.command, run.profile) == ("bundle", COMMAND, BRIEF)
    assert (run.machine.device, run.machine.emulated) == ("local", False)
    assert [one.setting.threads for one in run.measurements] == [watch.threads for watch in run.watches] == [1, 2]
    for one in run.measurements:
        assert (one.subject.artifact, one.subject.distribution) == (ARTIFACT, "onnxruntime")
        assert one.subject.kernels == "CPUExecutionProvider"
        assert one.parity.passed
        assert (one.latency.rounds, len(one.rounds)) == (BRIEF.rounds, BRIEF.rounds)
        assert one.latency.runs >= BRIEF.runs
        assert one.latency.minimum_ms > 0
        assert one.evidence.seconds > 0
    for watch in run.watches:
        assert watch.after.at_s > watch.before.at_s
    assert msgspec.json.decode(msgspec.json.encode(run), type=Run) == run


def test_memory_goes_into_the_same_record(device: Device, opened: Bundle) -> None:
    outcome = measured(device, opened, choice=Choice())

    assert outcome.problems == ()
    (one,) = outcome.runs[0].measurements
    size = (opened.folder / ARTIFACT).stat().st_size
    assert one.memory is not None
    assert one.memory.runtime_bytes > 10 << 20
    assert 0.8 * size < one.memory.load_bytes < 8 * size
    assert 0 <= one.memory.run_bytes < size
    assert outcome.runs[0].no_memory == ""


def test_memory_can_be_left_out(device: Device, opened: Bundle) -> None:
    (one,) = measured(device, opened).runs[0].measurements

    assert one.memory is None


def without_proc() -> bytes:
    """The runner, which looks for processes where there are none, as on a system that does not show them."""
    changed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(runner_archive())) as whole, zipfile.ZipFile(changed, "w") as archive:
        for name in whole.namelist():
            archive.writestr(name, whole.read(name).replace(b'PROC = "/proc"', b'PROC = "/nowhere"'))
    return changed.getvalue()


def test_a_device_that_does_not_tell_of_memory_keeps_its_times(opened: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgekit.targets.served.runner_archive", without_proc)

    with open_device("local") as device:
        outcome = measured(device, opened, choice=Choice())

    (one,) = outcome.runs[0].measurements
    assert one.memory is None
    assert one.latency.runs >= BRIEF.runs
    (problem,) = outcome.problems
    assert isinstance(problem.error, EnvironmentProblemError)
    assert (problem.device, problem.artifact) == ("local", ARTIFACT)
    assert "local does not tell how much memory a process takes" in str(problem.error)
    assert "Measure with --no-memory" in str(problem.error)


@pytest.mark.skipif(sys.platform != "linux", reason="processes are found in /proc")
@pytest.mark.parametrize(
    ("ended", "said"),
    [
        ("runner.zip hold", "is not known: KilledError: the system ended its process, as it does when there is no"),
        ("runner.zip run", "was killed by signal 9"),
    ],
    ids=["holder", "runner"],
)
def test_a_device_that_runs_out_of_memory_keeps_its_times(
    device: Device, opened: Bundle, ended: str, said: str
) -> None:
    ending = threading.Thread(target=end_once_held, args=(ended,))
    ending.start()
    outcome = measured(device, opened, choice=Choice())
    ending.join()

    (one,) = outcome.runs[0].measurements
    assert one.memory is None
    (problem,) = outcome.problems
    assert isinstance(problem.error, EnvironmentProblemError)
    assert problem.device == "local"
    assert said in str(problem.error)


def end_once_held(words: str) -> None:
    """Ends processes of the runner as soon as an artifact is held for its memory."""
    wait_until(lambda: processes("runner.zip hold"))
    for number in processes(words):
        os.kill(number, signal.SIGKILL)


def test_artifacts_of_two_bundles_take_turns(device: Device, opened: Bundle, tmp_path: Path) -> None:
    twin = tmp_path / "again"
    shutil.copytree(opened.folder, twin)

    first, second = measured(device, opened, Bundle(twin, read_manifest(twin))).runs

    assert first.run == second.run
    ((one,), (other,)) = (first.measurements, second.measurements)
    starts = [each.at_s for pair in zip(one.rounds, other.rounds, strict=True) for each in pair]
    assert starts == sorted(starts)


def test_a_wrong_artifact_is_given_no_figure(device: Device, opened: Bundle, tmp_path: Path) -> None:
    """The negative twin: one weight is off by a hundredth, and the manifest vouches for it."""
    wrong = vouched(opened, disturbed(opened.folder / ARTIFACT, tmp_path / "wrong.onnx").read_bytes())

    outcome = measured(device, wrong)

    assert outcome.runs[0].measurements == ()
    (problem,) = outcome.problems
    assert isinstance(problem.error, ParityError)
    assert (problem.device, problem.artifact) == ("local", ARTIFACT)
    assert f"{ARTIFACT} is not the same network on local: " in str(problem.error)
    assert "It is given no figure." in str(problem.error)


def test_a_wrong_artifact_leaves_the_others_alone(
    device: Device, opened: Bundle, exported_again: Path, tmp_path: Path
) -> None:
    right = Bundle(exported_again, read_manifest(exported_again))
    wrong = vouched(opened, disturbed(opened.folder / ARTIFACT, tmp_path / "wrong.onnx").read_bytes())

    outcome = measured(device, wrong, right)

    assert [len(run.measurements) for run in outcome.runs] == [0, 1]
    assert len(outcome.problems) == 1


@pytest.fixture
def exported_again(bundle: Path, tmp_path: Path) -> Path:
    """The same bundle elsewhere."""
    again = tmp_path / "again"
    shutil.copytree(bundle, again, copy_function=os.link)
    return again


def test_an_artifact_that_does_not_load_is_told_with_its_device(device: Device, opened: Bundle) -> None:
    (problem,) = measured(device, vouched(opened, b"no model")).problems

    assert isinstance(problem.error, ArtifactError)
    assert f"{ARTIFACT} does not run on local: " in str(problem.error)


def test_a_damaged_file_is_not_sent(device: Device, opened: Bundle) -> None:
    (opened.folder / ARTIFACT).unlink()
    (opened.folder / ARTIFACT).write_bytes(b"damaged")

    outcome = measured(device, opened)

    assert outcome.runs == ()
    assert "is not the file that was exported" in str(outcome.problems[0].error)


Bare = Callable[..., None]


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> Bare:
    """Takes runtimes off the device, and gives it another address and architecture."""

    def change(device: Device, address: str = "ssh://board", machine: str = "aarch64", *others: str) -> None:
        facts = msgspec.structs.replace(
            device.probe(), address=address, machine=machine, runtimes=dict.fromkeys(others, "1.0"), python="3.11.2"
        )
        monkeypatch.setattr(device, "probe", lambda: facts)

    return change


def test_a_board_without_any_runtime_is_told_the_command(device: Device, opened: Bundle, without: Bare) -> None:
    without(device)

    with pytest.raises(EnvironmentProblemError) as caught:
        measured(device, opened)

    assert "ssh://board runs nothing of this." in str(caught.value)
    assert "Run: edgekit device setup ssh://board --runtime onnxruntime" in str(caught.value)


def test_what_no_wheel_brings_says_why(device: Device, opened: Bundle, without: Bare) -> None:
    without(device, "ssh://board", "armv7l")

    with pytest.raises(EnvironmentProblemError, match="onnxruntime: no wheel for armv7l is known"):
        measured(device, opened)


def test_what_was_asked_for_by_name_is_a_problem(device: Device, opened: Bundle, without: Bare) -> None:
    without(device, "ssh://board", "aarch64", "ncnn")

    outcome = measured(device, opened, choice=Choice(formats=("onnx",)))

    (problem,) = outcome.problems
    assert (problem.device, problem.error.exit_code) == ("ssh://board", 3)
    assert outcome.skipped == ()


def test_processors_are_chosen_on_this_machine_only(device: Device, opened: Bundle) -> None:
    with pytest.raises(MisuseError, match="--affinity chooses processors of this machine"):
        measured(device, opened, choice=Choice((Setting(threads=1, affinity=(0,)),)))
