"""Two bundles beside each other."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from edgekit.bench.store import write_run
from edgekit.bundle import MANIFEST, read_manifest
from edgekit.difference import Both, difference
from edgekit.errors import BundleError, MisuseError
from tests.bench.figures import measurement, run_of, timed
from tests.evaluation.images import evaluated

FAST = (10.0, 10.1, 10.0, 10.2, 10.1, 10.0)


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    change(manifest)
    (folder / MANIFEST).write_text(json.dumps(manifest))


@pytest.fixture
def second(twin: Path) -> Path:
    """A bundle of the same network with another artifact."""
    edit(twin, lambda manifest: manifest["weights"].update(seed=0))
    return twin


def test_a_bundle_is_itself(bundle: Path) -> None:
    found = difference(bundle, bundle)

    assert found.facts == found.unmatched == ()
    assert found.artifacts[0].identical
    assert found.conclusion == "The artifacts are the same, byte for byte."


@pytest.mark.parametrize(
    ("factor", "conclusion"),
    [
        (0.8, r"made differently: onnx is 20\.0% faster \(0\.800 \[0\.800, 0\.800\] times as long\)\."),
        (1.25, r"onnx is 25\.0% slower \(1\.250"),
        (1.0, r"onnx is not shown to be faster or slower \(1\.000"),
    ],
)
def test_latency_is_that_of_the_measurements(bundle: Path, second: Path, factor: float, conclusion: str) -> None:
    timed(bundle, 1.0)
    timed(second, factor)

    found = difference(bundle, second)

    (one,) = found.artifacts
    assert one.latency[0].comparison.ratio == pytest.approx(factor)
    assert one.size_bytes[1] == 1000
    assert not one.identical
    assert re.search(conclusion, found.conclusion), found.conclusion


def test_without_measurements_the_sentence_says_so(bundle: Path, second: Path) -> None:
    timed(bundle, 1.0)

    assert difference(bundle, second).conclusion.endswith("onnx was not measured in both.")


def test_an_invalid_figure_is_not_compared(bundle: Path, second: Path) -> None:
    timed(bundle, 1.0)
    timed(second, 1.0, level="INVALID")

    found = difference(bundle, second)

    assert found.conclusion.endswith("onnx cannot be compared in latency.")
    assert found.artifacts[0].latency[0].comparison.obstacles


def test_measurements_of_an_older_artifact_do_not_count(bundle: Path, second: Path) -> None:
    timed(bundle, 1.0)
    timed(second, 1.0)
    edit(second, lambda manifest: manifest["members"][0]["artifact"]["files"][0].update(sha256="e" * 64))

    assert difference(bundle, second).artifacts[0].latency == ()


MADE_DIFFERENTLY = "is the same network, made differently"


@pytest.mark.parametrize(
    ("change", "fact", "beginning"),
    [
        (lambda m: m["weights"].update(seed=7), ("weights", "random, seed 0", "random, seed 7"), "has other weights"),
        (lambda m: m["model"].update(name="net"), ("model", "parcnetv2_xt", "net"), "is another model"),
        (
            lambda m: m["inputs"][0].update(shape=[1, 3, 64, 64]),
            ("inputs", "input 1x3x32x32", "input 1x3x64x64"),
            "is made for another input",
        ),
        (lambda m: m["captured"].update(macs=1234), ("MACs", None, "1,234"), MADE_DIFFERENTLY),
        (lambda m: m["tools"].update(onnx="0.1"), ("onnx", None, "0.1"), MADE_DIFFERENTLY),
        (lambda m: m["tools"].pop("onnx"), ("onnx", None, None), MADE_DIFFERENTLY),
        (lambda m: m.update(regions=[]), ("fused regions", None, "0"), MADE_DIFFERENTLY),
    ],
    ids=["weights", "model", "input", "macs", "tool", "no-tool", "regions"],
)
def test_facts_that_differ_are_named(
    bundle: Path,
    second: Path,
    change: Callable[[dict[str, Any]], object],
    fact: tuple[str, str | None, str | None],
    beginning: str,
) -> None:
    """Of a fact that depends on versions only what the second says is known beforehand."""
    edit(second, change)

    found = difference(bundle, second)

    (both,) = found.facts
    assert (both.what, both.second) == (fact[0], fact[2])
    assert both.first == fact[1] or (fact[1] is None and both.first)
    assert found.conclusion.startswith(f"The second {beginning}")


def test_artifacts_only_one_has(bundle: Path, second: Path) -> None:
    def add(manifest: dict[str, Any]) -> None:
        other = json.loads(json.dumps(manifest["members"][0]))
        other["artifact"].update(format="tflite")
        manifest["members"].append(other)

    edit(second, add)

    assert difference(bundle, second).unmatched == (Both(what="artifact", first=None, second="tflite fp32"),)


def test_nothing_in_common(bundle: Path, second: Path) -> None:
    edit(second, lambda manifest: manifest["members"][0]["artifact"].update(format="tflite"))

    with pytest.raises(MisuseError, match=r"bundle holds onnx, .*twin holds tflite: there is nothing to compare\."):
        difference(bundle, second)


def test_what_is_no_bundle(bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="is no bundle"):
        difference(bundle, tmp_path / "nothing")


def test_a_run_of_few_rounds_has_no_interval(bundle: Path, second: Path) -> None:
    for folder in (bundle, second):
        (member,) = read_manifest(folder).members
        one = measurement(FAST[:3], sha256=member.artifact.sha256)
        write_run(structs.replace(run_of(one), run="brief"), folder)

    assert "by too few rounds for an interval" in difference(bundle, second).conclusion


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (60, r"is 14\.50 points less accurate \[\d+\.\d\d, \d+\.\d\d\]\.$"),
        (3, r"is not shown to be more or less accurate \(-0\.25 \[-\d\.\d\d, \+\d\.\d\d\] points\)\.$"),
        (0, r"is not shown to be more or less accurate \(\+0\.50 "),
    ],
)
def test_accuracy_is_that_of_the_same_images(bundle: Path, second: Path, wrong: int, said: str) -> None:
    evaluated(bundle, 2)
    evaluated(second, wrong)

    found = difference(bundle, second)

    accuracy = found.artifacts[0].accuracy
    assert accuracy is not None
    assert accuracy.top1 == (99.5, 100 - wrong / 4)
    assert (accuracy.lost, accuracy.gained) == (max(0, wrong - 2), max(0, 2 - wrong))
    assert re.search(said, found.conclusion), found.conclusion


def test_without_evaluations_nothing_is_said_of_accuracy(bundle: Path, second: Path) -> None:
    evaluated(second, 2)

    assert difference(bundle, second).artifacts[0].accuracy is None


def test_parts_are_compared_with_parts_alone(bundle: Path, second: Path) -> None:
    def add(manifest: dict[str, Any]) -> None:
        other = json.loads(json.dumps(manifest["members"][0]))
        certificate = manifest["passes"][0]
        other["partition"] = {"pattern": "streams.*", "parts": [], "parity": certificate["parity"], "gate_db": 250.0}
        manifest["members"].append(other)

    edit(second, add)
    found = difference(bundle, second)
    assert [one.name for one in found.artifacts] == ["onnx"]
    assert found.unmatched == (Both(what="artifact", first=None, second="onnx fp32 in parts at streams.*"),)

    edit(bundle, add)
    assert [one.name for one in difference(bundle, second).artifacts] == ["onnx", "onnx in parts at streams.*"]
