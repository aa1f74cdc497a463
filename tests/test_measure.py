"""Measuring bundles: what is chosen, what a run says, and where it goes."""

import json
import os
import shutil
from pathlib import Path

import msgspec
import pytest

from edgekit.bench.record import Run, Setting
from edgekit.bench.store import FOLDER
from edgekit.bundle import MANIFEST, read_manifest
from edgekit.errors import ArtifactError, MissingExtraError, MisuseError, OutputError, ParityError
from edgekit.files import hash_files
from edgekit.measure import (
    Bundle,
    Choice,
    Outcome,
    Problem,
    check_storage,
    choose_settings,
    conclude,
    host_machine,
    measure_bundles,
    store,
)
from tests.bench.conftest import Watcher, disturbed
from tests.bench.figures import BRIEF, ONE, FakeMachine, measurement, run_of

COMMAND = ("edgekit", "bench")
ARTIFACT = "parcnetv2_xt.fp32.onnx"


@pytest.fixture(autouse=True)
def brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short windows for warming up; how long they are is no matter here."""
    monkeypatch.setattr("edgekit.bench.method.WINDOW_SECONDS", 0.02)


def measured(bundles: list[Bundle], choice: Choice, root: Path = Path("/")) -> Outcome:
    return measure_bundles(bundles, choice, BRIEF, COMMAND, Watcher(), root)


def opened(folder: Path) -> Bundle:
    return Bundle(folder, read_manifest(folder))


def replace_artifact(folder: Path, content: bytes) -> None:
    """Puts another file in the artifact's place and lets the manifest vouch for it."""
    (folder / ARTIFACT).unlink()
    (folder / ARTIFACT).write_bytes(content)
    manifest = json.loads((folder / MANIFEST).read_text())
    entry = msgspec.to_builtins(hash_files([folder / ARTIFACT]))
    manifest["members"][0]["artifact"]["files"] = entry
    (folder / MANIFEST).write_text(json.dumps(manifest))


def test_a_run_says_what_was_measured_how_and_on_what(bundle: Path) -> None:
    outcome = measured([opened(bundle)], Choice((ONE, Setting(threads=2))))

    (run,), manifest = outcome.runs, read_manifest(bundle)
    assert outcome.problems == ()
    assert (run.bundle, run.command, run.profile) == ("bundle", COMMAND, BRIEF)
    assert run.machine == host_machine()
    assert [one.setting.threads for one in run.measurements] == [1, 2]
    for one in run.measurements:
        assert (one.subject.artifact, one.subject.runtime) == (ARTIFACT, "onnxruntime")
        assert one.subject.sha256 == manifest.members[0].artifact.sha256
        assert (one.subject.inputs, one.subject.batch) == (((1, 3, 32, 32),), 1)
        assert one.parity.passed
        assert one.latency.runs == sum(len(each.samples_ms) for each in one.rounds)
        assert one.memory is not None
        assert one.load_ms > 0
    assert msgspec.json.decode(msgspec.json.encode(run), type=Run) == run


def test_bundles_of_one_measuring_share_its_name(bundle: Path, exported_again: Path) -> None:
    outcome = measured([opened(bundle), opened(exported_again)], Choice(memory=False))

    first, second = outcome.runs
    assert first.run == second.run
    assert len(first.measurements[0].rounds) == len(second.measurements[0].rounds)
    assert first.measurements[0].memory is None


@pytest.fixture
def exported_again(bundle: Path, tmp_path: Path) -> Path:
    """The same bundle in another folder."""
    again = tmp_path / "again"
    shutil.copytree(bundle, again)
    return again


def test_a_wrong_artifact_is_not_timed(bundle: Path, exported_again: Path, tmp_path: Path) -> None:
    replace_artifact(bundle, disturbed(bundle / ARTIFACT, tmp_path / "wrong.onnx").read_bytes())

    outcome = measured([opened(bundle), opened(exported_again)], Choice(memory=False))

    assert [len(run.measurements) for run in outcome.runs] == [0, 1]
    (problem,) = outcome.problems
    assert (problem.bundle, problem.artifact, problem.setting) == (bundle, ARTIFACT, ONE)
    assert isinstance(problem.error, ParityError)


def test_a_file_that_is_not_the_exported_one_is_not_opened(bundle: Path) -> None:
    opened_before = opened(bundle)
    (bundle / ARTIFACT).unlink()
    (bundle / ARTIFACT).write_bytes(b"another")

    outcome = measured([opened_before], Choice())

    assert outcome.runs[0].measurements == ()
    assert isinstance(outcome.problems[0].error, ArtifactError)
    assert "is not the file that was exported" in str(outcome.problems[0].error)


def test_the_clock_makes_cycles_of_milliseconds(bundle: Path, tmp_path: Path) -> None:
    machine = FakeMachine(tmp_path / "machine")
    machine.clock(1500, highest=1500)

    (run,) = measured([opened(bundle)], Choice(memory=False), machine.root).runs

    (one,) = run.measurements
    assert one.mcycles == pytest.approx(one.latency.median_ms * 1.5)
    assert run.machine.cores[0].highest_mhz == 1500
    assert run.machine.cores[0].governor == "performance"


@pytest.mark.parametrize("choice", [Choice(runtimes=("openvino",)), Choice(formats=("tflite",))])
def test_a_choice_that_leaves_nothing(bundle: Path, choice: Choice) -> None:
    with pytest.raises(MisuseError, match=r"^Nothing is left to measure; the bundles hold onnx\.$"):
        measured([opened(bundle)], choice)


def test_a_bundle_without_its_reference(bundle: Path) -> None:
    (bundle / "reference.safetensors").unlink()

    with pytest.raises(ArtifactError, match=r"reference\.safetensors is missing"):
        measured([opened(bundle)], Choice())


@pytest.mark.parametrize(
    ("threads", "affinity", "settings"),
    [
        ((), None, (Setting(threads=1),)),
        ((2, 1, 2), None, (Setting(threads=2), Setting(threads=1))),
        ((1,), (0,), (Setting(threads=1, affinity=(0,)),)),
    ],
)
def test_settings(
    threads: tuple[int, ...],
    affinity: tuple[int, ...] | None,
    settings: tuple[Setting, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})

    assert choose_settings(threads, affinity) == settings


@pytest.mark.parametrize(
    ("threads", "affinity", "message"),
    [
        ((1,), (0, 7), r"Processor 7 cannot be used; there is 0, 1\."),
        ((1, 2), (1,), r"2 threads do not fit on 1 processors\. Give more with --affinity"),
    ],
)
def test_settings_that_cannot_be(
    threads: tuple[int, ...], affinity: tuple[int, ...], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})

    with pytest.raises(MisuseError, match=message):
        choose_settings(threads, affinity)


def test_runs_go_into_their_bundles_or_into_one_file(tmp_path: Path) -> None:
    bundles = [Bundle(tmp_path / name, None) for name in ("a", "b", "c")]  # type: ignore[arg-type]
    runs = [run_of(measurement([1.0] * 6), bundle="a"), run_of(measurement([2.0] * 6), bundle="b"), run_of(bundle="c")]
    for each in bundles:
        each.folder.mkdir()

    paths = store(bundles, runs, None)
    (path,) = store(bundles, runs, tmp_path / "all.json")

    assert [path.parent for path in paths] == [tmp_path / "a" / FOLDER, tmp_path / "b" / FOLDER]
    content = json.loads(path.read_text())
    assert content["schema_version"] == 1
    assert [run["bundle"] for run in content["runs"]] == ["a", "b", "c"]


def test_a_place_that_cannot_be_written_is_told_before_anything_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = Bundle(tmp_path, None)  # type: ignore[arg-type]
    check_storage([bundle], None)
    monkeypatch.setattr(os, "access", lambda path, _: path != tmp_path)

    with pytest.raises(OutputError, match=r"cannot be written\. Write the figures elsewhere with -o"):
        check_storage([bundle], None)
    check_storage([bundle], tmp_path / "elsewhere" / "all.json")


def test_a_failed_check_weighs_more_than_a_missing_runtime() -> None:
    missing = Problem(Path(), "a", ONE, MissingExtraError("openvino", "openvino", "Running a"))
    wrong = Problem(Path(), "b", ONE, ParityError("no"))

    assert conclude(()) is None
    assert conclude((missing,)) is missing.error
    assert conclude((missing, wrong)) is wrong.error


def test_the_host_says_what_steers_a_runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setenv("OMPHALOS", "1")
    machine = FakeMachine(tmp_path)
    machine.put("proc/cpuinfo", "processor\t: 0\nmodel name\t: Fake\nflags\t\t: fpu avx2 hypervisor\n")

    found = host_machine(tmp_path)

    assert found.environment["OMP_NUM_THREADS"] == "3"
    assert "OMPHALOS" not in found.environment
    assert found.virtual
    assert not found.emulated
    assert found.cores[0].name == "Fake"
    assert not host_machine(tmp_path / "nothing").virtual
