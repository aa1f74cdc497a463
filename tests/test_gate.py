"""The gate: what passes, what fails, what it cannot decide, and what it refuses to decide on."""

from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from msgspec import structs

from edgekit.artifact import GraphStats
from edgekit.bench.compare import Comparison
from edgekit.bench.history import Pairing
from edgekit.bench.record import Interval, Setting
from edgekit.difference import ArtifactDifference, Both, Difference
from edgekit.errors import CheckFailedError, EnvironmentProblemError, MisuseError
from edgekit.gate import Check, Limits, check_all, conclude, write_junit
from tests.bench.figures import MEMORY, measurement

LATENCY = Limits(latency=0.03)


def pairing(ratio: float | None, low: float = 0.0, high: float = 0.0, *, more_memory: float = 1.0) -> Pairing:
    memory = structs.replace(MEMORY, peak_rss_bytes=round(MEMORY.peak_rss_bytes * more_memory))
    interval = None if ratio is None else Interval(low=low, high=high, confidence=0.95)
    obstacles = ("The latency of net.onnx is INVALID: It swapped.",) if ratio is None else ()
    return Pairing(
        setting=Setting(threads=2),
        first=measurement([10.0] * 6),
        second=measurement([10.0] * 6, memory=memory),
        comparison=Comparison(ratio=ratio, interval=interval, paired=True, obstacles=obstacles),
        devices=("ssh://board", "ssh://board"),
    )


def found(*pairings: Pairing, unmatched: tuple[Both, ...] = ()) -> Difference:
    stats = GraphStats(operators=1, parameters=1, macs=1)
    one = ArtifactDifference(
        format="onnx",
        precision="fp32",
        identical=False,
        size_bytes=(1, 1),
        program=(stats, stats),
        snr_db=(120.0, 120.0),
        latency=pairings,
    )
    return Difference(first="old", second="new", facts=(), artifacts=(one,), unmatched=unmatched, conclusion="")


@pytest.mark.parametrize(
    ("ratio", "low", "high", "limit", "passed", "decided"),
    [
        (1.00, 0.99, 1.01, 0.03, True, True),
        (1.02, 1.01, 1.035, 0.03, True, True),
        (1.05, 1.02, 1.08, 0.03, False, True),  # slower for certain, and by more as far as anyone can tell
        (1.05, 0.98, 1.12, 0.03, True, False),
        (0.80, 0.78, 0.82, 0.03, True, True),
        (0.95, 0.93, 0.97, -0.10, False, True),
        (0.95, 0.88, 0.99, -0.10, True, False),
        (0.85, 0.83, 0.87, -0.10, True, True),
    ],
)
def test_latency(ratio: float, low: float, high: float, limit: float, passed: bool, decided: bool) -> None:
    (check,) = check_all(found(pairing(ratio, low, high)), Limits(latency=limit))

    assert (check.passed, check.decided) == (passed, decided)
    assert check.name == "latency of onnx, 2 threads"
    assert check.text.startswith(f"{ratio - 1:+.1%} [{low - 1:+.1%}, {high - 1:+.1%}], at most {limit:+.1%}")
    assert ("measure longer with --profile normal" in check.text) == (not decided)


@pytest.mark.parametrize(("more", "passed"), [(1.0, True), (1.049, True), (1.06, False), (0.5, True)])
def test_memory(more: float, passed: bool) -> None:
    (check,) = check_all(found(pairing(1.0, more_memory=more)), Limits(memory=0.05))

    assert check.passed == passed
    assert check.name == "memory of onnx, 2 threads"
    assert check.text.startswith("84 to ")


def test_invalid_figures_are_refused() -> None:
    with pytest.raises(
        EnvironmentProblemError, match=r"cannot be compared\. The latency .* is INVALID: It swapped\. Mea"
    ):
        check_all(found(pairing(None)), LATENCY)


def test_too_few_rounds_are_refused() -> None:
    bare = structs.replace(pairing(1.0), comparison=Comparison(ratio=1.0, interval=None, paired=True))

    with pytest.raises(EnvironmentProblemError, match="too few rounds for an interval"):
        check_all(found(bare), LATENCY)


def test_what_was_not_measured() -> None:
    with pytest.raises(MisuseError, match=r"onnx artifact was not measured in both .* Pass --measure"):
        check_all(found(), LATENCY)


def test_memory_of_two_devices_decides_nothing() -> None:
    apart = structs.replace(pairing(1.0), devices=("local", "ssh://board"))

    with pytest.raises(EnvironmentProblemError, match="memory of onnx was measured on local and on ssh://board"):
        check_all(found(apart), Limits(memory=0.05))


def test_memory_that_was_not_measured() -> None:
    bare = structs.replace(pairing(1.0), first=measurement([10.0] * 6, memory=None))

    with pytest.raises(MisuseError, match="memory of onnx was left out in one run"):
        check_all(found(bare), Limits(memory=0.05))


def test_an_artifact_that_is_gone_fails() -> None:
    gone = Both(what="artifact", first="tflite fp32", second=None)
    new = Both(what="artifact", first=None, second="openvino fp32")

    checks = check_all(found(pairing(1.0, 0.99, 1.01), unmatched=(gone, new)), LATENCY)

    assert [(check.name, check.passed) for check in checks] == [
        ("latency of onnx, 2 threads", True),
        ("tflite fp32 is there", False),
    ]


GOOD = Check(name="latency of onnx, 1 thread", passed=True, decided=True, text="-1.0% [-2.0%, +0.1%], at most +3.0%")
BAD = Check(name="memory of <onnx>", passed=False, decided=True, text="+9.0%, at most +3.0%")


def test_the_conclusion() -> None:
    conclude([GOOD])
    with pytest.raises(
        CheckFailedError, match=r"^1 of 2 checks failed\. memory of <onnx>: \+9\.0%, at most \+3\.0%\.$"
    ):
        conclude([GOOD, BAD])


def test_comparing_nothing_is_a_failure() -> None:
    with pytest.raises(CheckFailedError, match="Nothing was compared"):
        conclude([])


def test_junit_is_what_continuous_integration_reads(tmp_path: Path) -> None:
    write_junit([GOOD, BAD], tmp_path / "gate.xml")

    suite = ET.parse(tmp_path / "gate.xml").getroot()  # noqa: S314 - written above
    assert (suite.tag, suite.get("tests"), suite.get("failures")) == ("testsuite", "2", "1")
    good, bad = suite
    assert (good.get("name"), good.findtext("system-out"), good.find("failure")) == (GOOD.name, GOOD.text, None)
    failure = bad.find("failure")
    assert failure is not None
    assert (bad.get("name"), failure.get("message")) == (BAD.name, BAD.text)
