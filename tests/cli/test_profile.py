"""`edgekit profile`: tables that add up, JSON with everything, and refusals."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from edgekit.bench.ceiling import measure_ceiling
from edgekit.bench.store import read_profiles
from edgekit.bundle import MANIFEST, read_manifest
from tests.cli.conftest import Run


@pytest.fixture(autouse=True)
def small_ceiling(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measured for real, in kernels that take no time."""
    small = partial(measure_ceiling, rounds=1, sides=(64,), working_sets=(1 << 12, 1 << 16))
    monkeypatch.setattr("edgekit.bench.profile_bundle.measure_ceiling", small)


@pytest.fixture
def profiles(run: Run, bundle: Path) -> list[dict[str, Any]]:
    result = run("profile", bundle, "--runs", "2", "--json")
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    content = json.loads(result.stdout)
    assert content["schema_version"] == 2
    found: list[dict[str, Any]] = content["profiles"]
    return found


def test_json_has_everything_and_adds_up(profiles: list[dict[str, Any]], bundle: Path) -> None:
    (found,) = profiles
    member = json.loads((bundle / MANIFEST).read_text())["members"][0]
    assert found["artifact"] == member["artifact"]["files"][0]["name"]
    assert found["runtime"] == "onnxruntime"
    assert found["runs"] == 2
    assert found["ceiling"]["threads"] == 1
    assert found["latency_ms"] >= found["fastest_ms"] > 0
    assert sum(row["macs"] for row in found["operators"]) == member["program"]["macs"]
    for rows in ("operators", "modules", "kinds"):
        assert sum(row["ms"] for row in found[rows]) == pytest.approx(found["operators_ms"])
        assert sum(row["macs"] for row in found[rows]) == member["program"]["macs"]
    assert found["operators_ms"] + found["outside_ms"] == pytest.approx(found["operators_ms"] / found["inside"])


def test_profiles_are_stored_in_the_bundle(run: Run, bundle: Path) -> None:
    content = json.loads(run("profile", bundle, "--runs", "2", "--json").stdout)

    (kept,) = read_profiles(bundle, {member.artifact.sha256 for member in read_manifest(bundle).members})
    assert Path(content["stored"]).parent == bundle / "profiles"
    assert kept.command == ("edgekit", "profile", str(bundle), "--runs", "2", "--json")
    (found,) = kept.measurements
    assert [row.ms for row in found.profile.operators] == [row["ms"] for row in content["profiles"][0]["operators"]]


def test_profiles_are_stored_elsewhere(run: Run, bundle: Path, tmp_path: Path) -> None:
    result = run("profile", bundle, "--runs", "2", "-o", tmp_path / "profile.json")

    assert f"Stored:  {tmp_path / 'profile.json'}" in result.stdout
    assert json.loads((tmp_path / "profile.json").read_text())["measurements"]
    assert not (bundle / "profiles").exists()


def test_modules_are_those_of_the_network(profiles: list[dict[str, Any]]) -> None:
    modules = {row["name"] for row in profiles[0]["modules"]}
    assert {"downsample_layers.0.conv", "stages.0.0", "stages.3.1", "head"} <= modules
    assert "stages.2.5.mlp.fc1" in {row["module"] for row in profiles[0]["operators"]}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((), ["module", "stages.0.0", "head", "(outside of operators)"]),
        (("--depth", "1"), ["\nstages ", "\nhead "]),
        (("--by", "kind"), ["kind", "\nConv ", "LayerNormalization"]),
        (("--by", "operator", "--top", "50"), ["kernel", "stages.", "more)", "(outside of operators)"]),
        (("--format", "onnx", "--threads", "2"), ["in onnxruntime, 2 threads"]),
    ],
    ids=["default", "depth", "kind", "operator", "threads"],
)
def test_tables_show_what_was_asked_for(run: Run, bundle: Path, options: tuple[str, ...], words: list[str]) -> None:
    result = run("profile", bundle, "--runs", "2", *options)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("Ceiling: ")
    assert "parcnetv2_xt.fp32.onnx in onnxruntime" in result.stdout
    for text in (*words, "ms while profiled; operators take ", "GMAC/s", "of the ceiling"):
        assert text in result.stdout


def test_shares_of_a_table_come_to_the_whole(run: Run, bundle: Path) -> None:
    lines = run("profile", bundle, "--runs", "2", "--by", "kind").stdout.splitlines()
    shares = [float(word.rstrip("%")) for line in lines for word in line.split() if word.endswith("%") and "." in word]
    assert sum(shares) == pytest.approx(100, abs=1)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--format", "tflite"), 2, "There is no format in this bundle named 'tflite'. Known: onnx."),
        (("--format", "onxn"), 2, "Did you mean onnx?"),
        (("--runs", "0"), 2, "0 is not in the range x>=1"),
        (("--by", "colour"), 2, "'colour' is not one of 'module', 'kind', 'operator'"),
    ],
    ids=["other format", "typo", "no runs", "no such view"],
)
def test_a_request_that_cannot_be_met_is_refused(
    run: Run, bundle: Path, arguments: tuple[str, ...], code: int, message: str
) -> None:
    result = run("profile", bundle, *arguments)
    assert result.exit_code == code
    assert message in " ".join(result.stderr.split())


def test_a_folder_that_is_no_bundle_is_refused(run: Run) -> None:
    result = run("profile", "nowhere")
    assert result.exit_code == 2
    assert "nowhere is no bundle" in result.stderr


def test_a_file_that_is_not_the_one_that_was_exported_is_not_profiled(run: Run, bundle: Path) -> None:
    (artifact,) = bundle.glob("*.onnx")
    artifact.unlink()
    artifact.write_bytes(b"other")
    result = run("profile", bundle)
    assert result.exit_code == 1
    assert f"{artifact.name} is not the file that was exported" in result.stderr


def test_a_bundle_without_artifacts_has_nothing_to_profile(run: Run, bundle: Path) -> None:
    manifest = json.loads((bundle / MANIFEST).read_text())
    (bundle / MANIFEST).write_text(json.dumps({**manifest, "members": []}))
    result = run("profile", bundle)
    assert result.exit_code == 2
    assert "holds no artifact" in result.stderr
