"""Bundles measured by programs of the user's: what is recorded, what is compared, and how each fault ends.

ncnn's own program is used where there is one: on the PATH as `benchncnn`, or where $EDGEKIT_BENCHNCNN says.
"""

import os
import shutil
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from edgekit.bench.fleet_rows import UNCOMPARED, fleet_markdown, fleet_rows
from edgekit.bench.history import pairings, tallies
from edgekit.bench.record import Run
from edgekit.bench.store import read_runs, write_run
from edgekit.bundle import read_manifest
from edgekit.cli import cli
from edgekit.errors import ArtifactError, DeviceError, EnvironmentProblemError, ParityError
from edgekit.fleet.native import Work, lacking, measure_natively
from edgekit.measure import Bundle, Choice, Outcome
from edgekit.targets.address import parse_address
from edgekit.targets.native import parse_given
from edgekit.targets.shell_device import open_shell
from edgekit.targets.shell_machine import look
from tests.bench.figures import BRIEF, ONE
from tests.fleet.standins import OLD_OPTIONS, benchmark_model, shell_program

NETWORK = """
import torch
def build():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Conv2d(3, 16, 3, padding=1), torch.nn.ReLU())
"""

NCNN_PRINTS = 'echo "      ${6#param=}  min =    1.20  max =    1.90  avg =    1.40" >&2'
"""A stand-in that prints like ncnn's program, under the artifact's name."""


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of a network of one convolution, made by the real tool."""
    folder = tmp_path_factory.mktemp("small")
    source = folder / "net.py"
    source.write_text(NETWORK)
    arguments = ["export", f"{source}:build", "--input", "1x3x64x64", "--format", "tflite", "--format", "ncnn"]
    answer = CliRunner().invoke(cli, [*arguments, "-o", str(folder / "net")])
    assert answer.exit_code == 0, answer.output
    return folder / "net"


@pytest.fixture
def opened(small: Path, tmp_path: Path) -> Bundle:
    shutil.copytree(small, tmp_path / "net")
    return Bundle(tmp_path / "net", read_manifest(tmp_path / "net"))


def measured(opened: Bundle, *natives: str, choice: Choice | None = None, device: str = "local") -> Outcome:
    programs = {each.runtime: each for each in map(parse_given, natives)}
    work = Work([opened], choice or Choice(), BRIEF, ("edgekit", "bench"), programs)
    return measure_natively([device], work, print)


def left(opened: Bundle) -> list[Path]:
    """What sessions left on this machine."""
    return list((opened.folder.parent / "cache" / "local").iterdir())


def test_outputs_of_every_case_are_compared_where_the_program_gives_them(opened: Bundle, tmp_path: Path) -> None:
    outcome = measured(opened, f"tflite={benchmark_model(tmp_path)}")

    (run,) = outcome.runs
    ((one,), (skipped,)) = (run.printed, outcome.skipped)
    assert (run.measurements, run.executions, outcome.problems) == ((), (), ())
    assert one.parity is not None
    assert one.parity.passed
    assert one.parity.parity.snr_db > 100
    assert one.runs >= BRIEF.runs
    assert one.minimum_ms is not None
    assert one.minimum_ms > 0
    assert one.verdict.level != "TRUSTED"
    assert any("no single times" in reason.text for reason in one.verdict.reasons)
    assert (one.subject.distribution, len(one.subject.build), one.load_ms) == ("benchmark_model", 64, 0.1)
    assert "--native ncnn=PROGRAM" in skipped.reason
    assert UNCOMPARED not in fleet_markdown(outcome.runs)
    assert run.machine.python == "none"
    assert msgspec.json.decode(msgspec.json.encode(run), type=Run) == run
    assert left(opened) == []


def test_a_program_that_computes_something_else_is_given_no_figure(opened: Bundle, tmp_path: Path) -> None:
    """The negative twin: the output is off by a hundredth."""
    outcome = measured(opened, f"tflite={benchmark_model(tmp_path, change=' * np.float32(1.01)')}")

    (found,) = outcome.problems
    assert isinstance(found.error, ParityError)
    assert "It is given no figure." in str(found.error)
    assert outcome.runs == ()


def test_an_output_of_another_size_is_none(opened: Bundle, tmp_path: Path) -> None:
    (found,) = measured(opened, f"tflite={benchmark_model(tmp_path, change='[:, :, 1:]')}").problems

    assert isinstance(found.error, ArtifactError)
    assert "must return" in str(found.error)


def test_a_runtime_without_such_a_program_is_said_to_need_python(opened: Bundle) -> None:
    """No option is named that there is none of."""
    with open_shell(parse_address("local"), print) as session:
        facts, _ = look(session)

    assert lacking("onnxruntime", facts) == (
        "onnxruntime has no benchmark program that is known here; it needs Python on local"
    )
    assert lacking("mnn", facts).endswith("--native mnn=PROGRAM")
    assert left(opened) == []


def test_an_older_program_is_not_compared_and_says_so(opened: Bundle, tmp_path: Path) -> None:
    (run,) = measured(opened, f"tflite={benchmark_model(tmp_path, options=OLD_OPTIONS)}").runs

    (one,) = run.printed
    assert one.parity is None
    assert one.uncompared == "This benchmark_model takes no input from a file, or leaves no output in one."


def test_what_was_not_compared_is_marked_wherever_it_is_shown(opened: Bundle, tmp_path: Path) -> None:
    outcome = measured(opened, f"ncnn={shell_program(tmp_path, NCNN_PRINTS)}")

    (row,) = fleet_rows(outcome.runs)
    assert (row.figure, row.snr, row.verdict) == ("mean 1.40 ms (1.20 to 1.90)", "outputs NOT compared", "NOISY")
    assert row.ratio == "no ratio"
    text = fleet_markdown(outcome.runs)
    assert "Outputs were NOT compared: nobody knows whether it computed this network." in text
    assert "zeros for weights" in text


def test_printed_figures_are_kept_and_compared_with_nothing(opened: Bundle, tmp_path: Path) -> None:
    outcome = measured(opened, f"ncnn={shell_program(tmp_path, NCNN_PRINTS)}")
    (run,) = outcome.runs
    write_run(run, opened.folder)
    (sha256,) = {one.subject.sha256 for one in run.printed}

    kept = read_runs(opened.folder, {sha256})

    assert [each.printed for each in kept] == [run.printed]
    assert read_runs(opened.folder, {"f" * 64}) == []
    assert pairings(kept, kept, (sha256, sha256)) == ()
    assert tallies(kept, kept, (sha256, sha256)) == ()


@pytest.mark.parametrize(
    ("body", "kind", "said"),
    [
        ("kill -SEGV $$", ArtifactError, "benchncnn was killed by signal 11"),
        ("echo no such layer >&2; exit 1", ArtifactError, "ended with code 1. It said:\nno such layer"),
        ("echo Hello", EnvironmentProblemError, "printed no figures that can be read"),
        ("exec ./not-there", EnvironmentProblemError, "cannot be started on local"),
        ("while :; do echo aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa; done", DeviceError, "printed without end"),
    ],
)
def test_each_fault_is_told_and_leaves_nothing(
    opened: Bundle, tmp_path: Path, body: str, kind: type[Exception], said: str
) -> None:
    outcome = measured(opened, f"ncnn={shell_program(tmp_path, body)}")

    (found,) = outcome.problems
    assert (type(found.error), found.device) == (kind, "local")
    assert said in str(found.error)
    assert outcome.runs == ()
    assert left(opened) == []


def test_a_program_that_hangs_is_ended_and_the_others_run(
    opened: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgekit.fleet.native.PATIENCE_S", 1.0)
    hanging = shell_program(tmp_path, "sleep 1000")
    monkeypatch.setattr("edgekit.fleet.native.SLACK", 1000.0)

    outcome = measured(opened, f"ncnn={hanging}")

    (found,) = outcome.problems
    assert isinstance(found.error, DeviceError)
    assert "did not end within 1 s, and was ended" in str(found.error)
    assert left(opened) == []


def test_a_program_for_another_processor_is_refused_before_it_is_sent(opened: Bundle, tmp_path: Path) -> None:
    alien = tmp_path / "benchncnn"
    alien.write_bytes(b"\x7fELF\x02\x01" + bytes(12) + (243).to_bytes(2, "little"))

    (found,) = measured(opened, f"ncnn={alien}").problems

    assert isinstance(found.error, EnvironmentProblemError)
    assert "is a program for RISC-V" in str(found.error)


def test_a_device_that_is_lost_is_one_problem(opened: Bundle, tmp_path: Path) -> None:
    """The program ends the keeper of the session, as a board does that reboots; the second setting is not tried."""
    body = 'pid=$(pwd); pid=${pid#*.edgekit-shell-}; kill -9 "${pid%%/*}"; exit 3'
    choice = Choice((ONE, msgspec.structs.replace(ONE, threads=2)))

    (found,) = measured(opened, f"ncnn={shell_program(tmp_path, body)}", choice=choice).problems

    assert (type(found.error), found.bundle, found.device) == (DeviceError, None, "local")


def real_benchncnn() -> str:
    """ncnn's own program, or why there is none."""
    return os.environ.get("EDGEKIT_BENCHNCNN") or shutil.which("benchncnn") or ""


@pytest.mark.skipif(not real_benchncnn(), reason="no benchncnn on the PATH, and $EDGEKIT_BENCHNCNN names none")
def test_ncnns_own_program_is_read(opened: Bundle) -> None:
    outcome = measured(opened, f"ncnn={real_benchncnn()}")

    assert outcome.problems == ()
    (one,) = outcome.runs[0].printed
    assert one.mean_ms is not None
    assert one.mean_ms > 0
    assert (one.parity, one.verdict.level) == (None, "NOISY")
    assert left(opened) == []
