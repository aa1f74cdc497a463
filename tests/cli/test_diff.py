"""`edgekit diff`: what tells two bundles apart, in a table and a sentence."""

import json
import re
import shutil
from pathlib import Path

import pytest

from edgekit.bench import profiles
from tests.bench.figures import BRIEF, counted, timed
from tests.cli.conftest import Run


def test_a_table_and_a_sentence(run: Run, bundle: Path, twin: Path) -> None:
    timed(bundle, 1.0)
    timed(twin, 0.9)

    result = run("diff", bundle, twin)

    assert result.exit_code == 0, result.output
    assert re.search(r"weights +random, seed 0 +random, seed 7", result.stdout)
    assert re.search(
        r"latency, 1 thread +10\.05 ± 0\.15 ms +9\.04 ± 0\.1\d ms +0\.900 \[0\.900, 0\.900\]", result.stdout
    )
    assert re.search(r"memory +84 MiB +84 MiB +1\.000", result.stdout)
    assert "The second has other weights: onnx is 10.0% faster (0.900 [0.900, 0.900] times as long)." in result.stdout


def test_json(run: Run, bundle: Path, twin: Path) -> None:
    timed(bundle, 1.0)
    timed(twin, 0.9)

    content = json.loads(run("diff", bundle, twin, "--json").stdout)["difference"]

    assert content["facts"] == [{"what": "weights", "first": "random, seed 0", "second": "random, seed 7"}]
    assert content["artifacts"][0]["latency"][0]["comparison"]["ratio"] == pytest.approx(0.9)


def test_what_cannot_be_compared_is_told(run: Run, bundle: Path, twin: Path) -> None:
    timed(bundle, 1.0)
    timed(twin, level="INVALID")

    result = run("diff", bundle, twin)

    assert result.exit_code == 0
    assert "± 0.15 ms INVALID" in result.stdout
    assert "onnx: The latency of net.fp32.onnx is INVALID: It was invalid." in result.stdout


def test_both_are_measured_when_asked_to(
    run: Run, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgekit.bench.method.WINDOW_SECONDS", 0.02)
    monkeypatch.setattr(profiles, "PROFILES", {"brief": BRIEF})
    again = tmp_path / "again"
    shutil.copytree(bundle, again)

    result = run("diff", bundle, again, "--measure", "--profile", "brief")

    assert result.exit_code == 0, result.output
    assert "The artifacts are the same, byte for byte." in result.stdout
    assert "latency, 1 thread" in result.stdout
    assert len(list((again / "measurements").iterdir())) == 1


def test_what_is_no_bundle(run: Run, bundle: Path) -> None:
    result = run("diff", bundle, "nothing")

    assert result.exit_code == 2
    assert "nothing is no bundle" in result.stderr


def test_executed_instructions_stand_beside_each_other(run: Run, bundle: Path, twin: Path) -> None:
    counted(bundle, 2_000_000)
    counted(twin, 1_900_000)

    result = run("diff", bundle, twin)

    assert result.exit_code == 0, result.output
    row = r"qemu://armv7 \(EMULATED\) +2,000,000 instructions +1,900,000 instructions +0\.9500"
    assert re.search(row, result.stdout), result.stdout
    assert "onnx executes 5.00% fewer instructions on qemu://armv7" in result.stdout
