"""The measuring process: what it answers, and that nothing it does takes its parent along."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from edgekit.bench.child import Child, Place, named_error
from edgekit.bench.protocol import Failed, Infer, Load, Prepared, Timed, Verified, Verify
from edgekit.bench.record import Setting
from edgekit.errors import ArtifactError, EdgekitError, EnvironmentProblemError, MisuseError
from edgekit.verify import failure

Put = Callable[..., Place]


def test_a_process_prepares_loads_verifies_and_times(place: Put) -> None:
    with Child("net.onnx") as child:
        prepared = child.ask(place().prepare, Prepared)
        loaded = child.ask(Load(threads=1), Timed).samples_ms
        timed = child.ask(Infer(runs=4, settle=1), Timed).samples_ms
        parity = child.ask(Verify(), Verified).parity
        again = child.ask(Infer(runs=0), Timed).samples_ms

    import onnxruntime

    assert prepared.version == onnxruntime.__version__
    assert len(prepared.build) == 64
    assert prepared.import_ms > 0
    assert len(loaded) == 1
    assert len(timed) == 4
    assert all(0.01 < sample < 60_000 for sample in timed)
    assert failure(parity) is None
    assert again == ()


def test_meanwhile_is_called_while_there_is_no_answer(place: Put) -> None:
    called: list[int] = []
    with Child("net.onnx") as child:
        child.ask(place().prepare, Prepared, meanwhile=lambda: called.append(1), every=0.005)

    assert called


def test_affinity_holds_for_every_thread_of_the_process(place: Put) -> None:
    processor = min(os.sched_getaffinity(0))
    with Child("net.onnx") as child:
        child.ask(place(setting=Setting(threads=2, affinity=(processor,))).prepare, Prepared)
        child.ask(Load(threads=2), Timed)
        threads = [int(path.name) for path in Path(f"/proc/{child.pid}/task").iterdir()]
        allowed = [os.sched_getaffinity(thread) for thread in threads]

    assert len(threads) > 1
    assert allowed == [{processor}] * len(threads)
    assert os.sched_getaffinity(0) != {processor} or os.cpu_count() == 1


def test_processors_that_are_not_there(place: Put) -> None:
    with Child("net.onnx") as child, pytest.raises(MisuseError, match=r"Processors \(4000,\) cannot be used: .*Give"):
        child.ask(place(setting=Setting(threads=1, affinity=(4000,))).prepare, Prepared)


def test_an_artifact_that_does_not_load_is_the_same_error_as_here(place: Put, tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"garbage")
    with Child("broken.onnx") as child:
        child.ask(place(broken).prepare, Prepared)
        with pytest.raises(ArtifactError, match=r"^ONNX Runtime does not load broken\.onnx: \S"):
            child.ask(Load(threads=1), Timed)


def test_a_crash_is_one_line_and_the_parent_lives(place: Put) -> None:
    with Child("net.onnx") as child:
        child.ask(place().prepare, Prepared)
        os.kill(child.pid, signal.SIGSEGV)
        with pytest.raises(ArtifactError, match=r"^The process that ran net\.onnx crashed \(SIGSEGV\)\.$"):
            child.ask(Load(threads=1), Timed)


def test_a_process_the_system_killed_lacked_memory(place: Put) -> None:
    with Child("net.onnx") as child:
        child.ask(place().prepare, Prepared)
        os.kill(child.pid, signal.SIGKILL)
        with pytest.raises(
            EnvironmentProblemError, match=r"system ended the process that ran net\.onnx, as it does when"
        ):
            child.ask(Load(threads=1), Timed)


def test_a_process_that_fails_in_python_says_what_its_last_words_were() -> None:
    with Child("net.onnx") as child, pytest.raises(ArtifactError, match=r"ended with exit code 1\. .*AttributeError"):
        child.ask(Infer(runs=1), Timed)  # nothing was loaded


def test_a_process_that_hangs_is_ended(place: Put) -> None:
    with Child("net.onnx") as child:
        child.ask(place().prepare, Prepared)
        os.kill(child.pid, signal.SIGSTOP)
        with pytest.raises(ArtifactError, match=r"net\.onnx gave no answer in 0 s; its process was ended"):
            child.ask(Load(threads=1), Timed, patience=0.2)
    assert not Path(f"/proc/{child.pid}").exists()


def test_a_process_does_not_outlive_its_block(place: Put) -> None:
    def interrupted(child: Child) -> None:
        with child:
            child.ask(place().prepare, Prepared)
            raise KeyboardInterrupt

    child = Child("net.onnx")
    with pytest.raises(KeyboardInterrupt):
        interrupted(child)
    assert not Path(f"/proc/{child.pid}").exists()


def test_the_working_folder_is_not_searched_for_modules(
    place: Put, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "msgspec.py").write_text("raise SystemExit('imported from the working folder')")
    monkeypatch.chdir(tmp_path)
    with Child("net.onnx") as child:
        assert child.ask(place().prepare, Prepared).version


def test_errors_keep_their_class_and_words() -> None:
    error = named_error(Failed(kind="MissingExtraError", message="Run: pip install 'edgekit[tflite]'"))

    assert type(error).__name__ == "MissingExtraError"
    assert str(error) == "Run: pip install 'edgekit[tflite]'"
    assert error.exit_code == 3
    assert type(named_error(Failed(kind="FromTheFuture", message="x"))) is EdgekitError
