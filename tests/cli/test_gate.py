"""`edgekit gate`: the exit code is what it is for."""

import json
import re
from pathlib import Path

import pytest

from tests.bench.figures import counted, timed
from tests.cli.conftest import Run
from tests.evaluation.images import evaluated


@pytest.fixture
def baseline(bundle: Path) -> Path:
    timed(bundle, 1.0)
    return bundle


@pytest.mark.parametrize(("factor", "code"), [(0.9, 0), (1.02, 0), (1.1, 1)])
def test_the_exit_code(run: Run, baseline: Path, twin: Path, factor: float, code: int) -> None:
    timed(twin, factor)

    plain = run("gate", twin, "--baseline", baseline, "--max-latency", "+3%", "--junit", "gate.xml")
    as_json = run("gate", twin, "--baseline", baseline, "--json")

    assert plain.exit_code == as_json.exit_code == code, plain.output
    assert re.search(rf"latency of onnx, 1 thread .* {'FAILED' if code else 'passed'}", plain.stdout)
    assert ("1 of 1 checks failed" in plain.stderr) == bool(code)
    content = json.loads(as_json.stdout)
    assert content["passed"] == (code == 0)
    assert ("error" in content) == bool(code)
    assert f'failures="{code}"' in Path("gate.xml").read_text()


def test_other_limits(run: Run, baseline: Path, twin: Path) -> None:
    timed(twin, 0.97)

    assert run("gate", twin, "--baseline", baseline, "--max-latency", "-10%").exit_code == 1
    assert run("gate", twin, "--baseline", baseline, "--max-memory", "0%").exit_code == 0


@pytest.mark.parametrize(
    ("wrong", "code", "verdict"), [(2, 0, "passed"), (10, 0, "undecided"), (60, 1, "FAILED"), (0, 0, "passed")]
)
def test_accuracy_is_compared_image_by_image(
    run: Run, baseline: Path, twin: Path, wrong: int, code: int, verdict: str
) -> None:
    timed(twin)
    for folder, number in ((baseline, 2), (twin, wrong)):
        evaluated(folder, number)

    result = run("gate", twin, "--baseline", baseline, "--max-drop", "1.5")

    assert result.exit_code == code, result.output
    assert re.search(rf"accuracy of onnx .* points lost on squares, at most 1\.5.* {verdict}", result.stdout)


def test_accuracy_that_was_not_evaluated_in_both_is_refused(run: Run, baseline: Path, twin: Path) -> None:
    timed(twin)
    evaluated(baseline, 0)

    result = run("gate", twin, "--baseline", baseline, "--max-drop", "1")

    assert result.exit_code == 2
    assert "was not evaluated in both bundles on the same images" in result.stderr


def test_an_invalid_figure_is_refused(run: Run, baseline: Path, twin: Path) -> None:
    timed(twin, level="INVALID")

    result = run("gate", twin, "--baseline", baseline, "--junit", "gate.xml")

    assert result.exit_code == 3
    assert "cannot be compared. The latency of net.fp32.onnx is INVALID" in result.stderr
    assert not Path("gate.xml").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--max-latency", "3"), r"'3' is no share\. Write \+3%"),
        ((), r"was not measured in both bundles in one setting\. Pass --measure"),
    ],
    ids=" ".join,
)
def test_requests_that_cannot_be(
    run: Run,
    baseline: Path,
    twin: Path,
    arguments: tuple[str, ...],
    message: str,
) -> None:
    result = run("gate", twin, "--baseline", baseline, *arguments)

    assert result.exit_code == 2
    assert re.search(message, result.stderr), result.stderr


@pytest.mark.parametrize(
    ("instructions", "runtime", "verdict", "code"),
    [
        (1_000_000, "ncnn", "passed", 0),
        (1_004_999, "ncnn", "passed", 0),
        (1_005_100, "ncnn", "FAILED", 1),
        (900_000, "ncnn", "passed", 0),
        (1_012_000, "openvino", "undecided", 0),
        (1_021_000, "openvino", "FAILED", 1),
    ],
)
def test_executed_instructions(
    run: Run, bundle: Path, twin: Path, instructions: int, runtime: str, verdict: str, code: int
) -> None:
    counted(bundle, 1_000_000, runtime=runtime)
    counted(twin, instructions, runtime=runtime)

    result = run("gate", twin, "--baseline", bundle)

    assert result.exit_code == code, result.output
    assert re.search(rf"instructions of onnx on qemu://armv7, emulated .*1,000,000 to .* {verdict}", result.stdout)
    assert " ms" not in result.stdout


def test_executed_instructions_have_a_limit_of_their_own(run: Run, bundle: Path, twin: Path) -> None:
    counted(bundle, 1_000_000)
    counted(twin, 1_020_000)

    assert run("gate", twin, "--baseline", bundle, "--max-instructions", "+3%").exit_code == 0
    assert run("gate", twin, "--baseline", bundle, "--max-latency", "+3%").exit_code == 1


def test_counts_of_two_builds_decide_nothing(run: Run, bundle: Path, twin: Path) -> None:
    counted(bundle, 1_000_000, version="1.0")
    counted(twin, 1_000_000, version="1.1")

    result = run("gate", twin, "--baseline", bundle)

    assert result.exit_code == 3
    assert "One was counted in onnxruntime 1.0, the other in onnxruntime 1.1. Count both again" in result.stderr


def test_counts_of_two_boards_are_never_compared(run: Run, bundle: Path, twin: Path) -> None:
    counted(bundle, 1_000_000, "qemu://armv7")
    counted(twin, 1_000_000, "qemu://aarch64")

    assert run("gate", twin, "--baseline", bundle).exit_code == 2
