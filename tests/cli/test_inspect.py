"""`edgekit inspect`, of a model and of a bundle."""

import json
import os
from pathlib import Path

import pytest
from PIL import Image

from edgekit.bundle import MANIFEST
from tests.cli.conftest import Run
from tests.conftest import Exported


@pytest.fixture
def prepared(exported: Exported, monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    """Arguments whose network is there already."""
    monkeypatch.setattr("edgekit.network.prepare", lambda plan, stage: exported.network)
    return ("inspect", "parcnetv2_xt", "--input", "32")


def test_a_model_is_described_after_materialising(prepared: tuple[str, ...], run: Run) -> None:
    result = run(*prepared)

    assert result.exit_code == 0, result.output
    assert "parcnetv2_xt after materialising: " in result.stdout
    for title in ("Operators", "Modules", "Large depthwise kernels", "Passes"):
        assert f"\n{title}" in result.stdout
    assert "stages.0.0.token_mixer.dwconv1  15x1" in result.stdout
    assert "fold-constants" in result.stdout


def test_json_adds_up(prepared: tuple[str, ...], exported: Exported, run: Run) -> None:
    result = run(*prepared, "--json")

    assert result.stderr == ""
    content = json.loads(result.stdout)
    found = content["inspection"]
    assert content["schema_version"] == 2
    assert sum(row["macs"] for row in found["operators"]) == found["totals"]["macs"]
    assert sum(row["nodes"] for row in found["operators"]) == found["totals"]["operators"]
    assert [one["name"] for one in found["passes"]] == [one.name for one in exported.network.certificates]


def test_depth_sets_how_far_modules_are_told_apart(prepared: tuple[str, ...], run: Run) -> None:
    def modules(depth: str) -> list[str]:
        found = json.loads(run(*prepared, "--json", "--depth", depth).stdout)["inspection"]["modules"]
        return [row["module"] for row in found]

    assert "stages" in modules("1")
    assert "stages.0" in modules("2")
    assert "stages.0.1" in modules("3")


def test_kernels_are_drawn(prepared: tuple[str, ...], run: Run, capfd: pytest.CaptureFixture[str]) -> None:
    result = run(*prepared, "--kernels", "kernels.png")

    assert result.exit_code == 0, result.output
    rows = int(capfd.readouterr().err.split(" kernels drawn into kernels.png")[0].split()[-1])
    with Image.open("kernels.png") as picture:
        assert picture.format == "PNG"
        assert picture.height > rows * 56
    assert list(Path.cwd().iterdir()) == [Path("kernels.png").absolute()]


@pytest.mark.parametrize(
    ("place", "reason"),
    [("no/such/k.png", "No such file or directory"), (".", "Is a directory"), ("file/k.png", "Not a directory")],
)
def test_a_picture_that_cannot_be_written_is_refused_before_the_work(
    run: Run, monkeypatch: pytest.MonkeyPatch, place: str, reason: str
) -> None:
    monkeypatch.setattr("edgekit.network.prepare", lambda plan, stage: pytest.fail("the work was begun"))
    Path("file").touch()

    result = run("inspect", "parcnetv2_xt", "--kernels", place)

    assert result.exit_code == 3
    assert result.stderr == f"Error: {place} cannot be written: {reason}. Choose another place.\n"
    assert list(Path.cwd().iterdir()) == [Path("file").absolute()]


def test_a_bundle_is_described_from_its_manifest(run: Run, bundle: Path) -> None:
    for path in bundle.iterdir():
        if path.name != MANIFEST:
            path.unlink()

    result = run("inspect", bundle)

    assert result.exit_code == 0, result.output
    for words in (
        "parcnetv2_xt for arm",
        "RANDOM weights (seed 0)",
        "input 1x3x32x32 NCHW, this size only",
        "logits 1x1000",
        "interpolate",
    ):
        assert words in result.stdout
    assert "Lowering for onnxruntime" in result.stdout
    content = json.loads(run("inspect", bundle, "--json").stdout)
    assert content.pop("schema_version") == 2
    assert content == {"manifest": json.loads((bundle / MANIFEST).read_text())}


def test_what_a_manifest_says_is_shown_as_it_stands(run: Run, bundle: Path) -> None:
    manifest = json.loads((bundle / MANIFEST).read_text())
    manifest["command"] = ["edgekit", "export", "[/bold]", "[red]x", ":smile:"]
    (bundle / MANIFEST).write_text(json.dumps(manifest))

    result = run("inspect", bundle)

    assert result.exit_code == 0, result.output
    assert "edgekit export [/bold] [red]x :smile:" in result.stdout


@pytest.mark.parametrize(
    "option",
    [
        ("--input", "32"),
        ("--kernel", "keep"),
        ("--weights", "w.pth"),
        ("--ema",),
        ("--features",),
        ("--seed", "0"),
        ("--depth", "2"),
    ],
    ids=lambda option: option[0],
)
def test_options_of_a_model_do_not_apply_to_a_bundle(run: Run, bundle: Path, option: tuple[str, ...]) -> None:
    result = run("inspect", bundle, *option)

    assert result.exit_code == 2
    assert result.stderr == (
        f"Error: {bundle} is a bundle, which {option[0]} does not apply to. Name a model, or leave it out.\n"
    )


def test_a_folder_does_not_hide_the_model_it_has_the_name_of(prepared: tuple[str, ...], run: Run, bundle: Path) -> None:
    Path("parcnetv2_xt").mkdir()
    assert "after materialising" in run(*prepared).stdout

    Path("parcnetv2_xt").rmdir()
    os.rename(bundle, "parcnetv2_xt")  # noqa: PTH104 - to a name that is relative to the working folder
    assert "parcnetv2_xt for arm" in run("inspect", "parcnetv2_xt").stdout


def test_fusion_is_told_region_by_region(run: Run) -> None:
    result = run("inspect", "parnet_pico_digits", "--fusion", "--json")
    assert result.exit_code == 0, result.output
    regions = json.loads(result.stdout)["inspection"]["regions"]
    permutations = [region for region in regions if region["rule"] == "permutation"]
    assert permutations
    assert all(region["reordered"] and region["max_abs"] == 0.0 for region in permutations)

    told = " ".join(run("inspect", "parnet_pico_digits", "--fusion", "--no-fuse", "streams.*").stdout.split())
    assert "permutation" in told
    assert "in the weights of" in told
