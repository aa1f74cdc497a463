"""`edgekit export --int8` and `edgekit quantize`: both precisions in one bundle, checked like any other."""

import json
import shutil
from importlib.metadata import version
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result
from msgspec import structs
from onnx import numpy_helper

from edgekit.bundle import MANIFEST, read_manifest
from edgekit.cli import cli
from edgekit.files import hash_files
from edgekit.targets.board import load_board
from edgekit.tuning.tables import keep
from tests.tables import layer_entry, table

NET = """
import torch
from torch import nn

def build():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=8), nn.Conv2d(8, 12, 1),
                        nn.GELU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 5))
    net.edgekit_card = {"input_shape": (1, 3, 16, 16)}
    return net
"""


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, [*arguments], prog_name="edgekit")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a network and images."""
    folder = tmp_path_factory.mktemp("int8")
    (folder / "net.py").write_text(NET)
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (48, 16, 16, 3), dtype=np.uint8)
    np.savez(folder / "images.npz", images=images, labels=generator.integers(0, 5, 48))
    return folder


@pytest.fixture(scope="module")
def bundle(place: Path) -> Path:
    """The network's bundle in ONNX, float and int8."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGEKIT_CACHE", str(place / "cache"))
        data = str(place / "images.npz")
        line = ("export", f"{place / 'net.py'}:build", "--format", "onnx", "--target", "host", "--int8", "--data", data)
        result = run(*line, "--calibration", "16", "-o", str(place / "bundle"))
    assert result.exit_code == 0, result.output
    assert "3 of 4 layers int8, mixed_wi8_ai8" in result.stdout
    return place / "bundle"


def test_both_precisions_are_in_the_bundle(bundle: Path) -> None:
    exact, rounded = read_manifest(bundle).members

    assert [member.artifact.precision for member in (exact, rounded)] == ["fp32", "int8"]
    assert (exact.artifact.files[0].name, rounded.artifact.files[0].name) == (
        "net-build.fp32.onnx",
        "net-build.int8.onnx",
    )
    assert exact.quantization is None
    record = rounded.quantization
    assert record is not None
    assert (record.recipe, record.quantized, record.calibration.data, record.calibration.images) == (
        *("mixed_wi8_ai8", 3, "images.npz", 16),
    )
    assert [(each.module, each.reason) for each in record.operators if each.reason] == [("2", "grouped")]
    assert record.held_out.snr_db > 20.0
    assert all(case.passed and case.gate_db > 5.0 for case in rounded.parity)


@pytest.mark.parametrize(("asked", "found"), [((), "mse"), (("--ranges", "percentile"), "percentile")])
def test_the_record_says_how_ranges_were_chosen(
    asked: tuple[str, ...], found: str, bundle: Path, place: Path, tmp_path: Path
) -> None:
    source = str(bundle / "net-build.fp32.onnx")
    line = ("quantize", source, "--data", str(place / "images.npz"), "-o", str(tmp_path / "made.onnx"), "--json")
    result = run(*line, *asked)
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["quantization"]["ranges"] == found


def test_ranges_of_a_recipe_that_fixes_none_are_not_told(bundle: Path, place: Path, tmp_path: Path) -> None:
    line = ("quantize", str(bundle / "net-build.fp32.onnx"), "--data", str(place / "images.npz"), "--json")
    result = run(*line, "--recipe", "dynamic_wi8", "--ranges", "mse", "-o", str(tmp_path / "made.onnx"))
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["quantization"]["ranges"] is None


def test_other_ranges_are_another_artifact(bundle: Path, place: Path, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGEKIT_CACHE", str(place / "cache"))
        line = ("quantize", str(bundle), "--data", str(place / "images.npz"), "--calibration", "16")
        result = run(*line, "--ranges", "minmax", "-o", str(tmp_path / "other"))
    assert result.exit_code == 0, result.output
    first, second = (read_manifest(folder).members[1].quantization for folder in (bundle, tmp_path / "other"))
    assert first is not None
    assert second is not None
    assert (first.ranges, second.ranges) == ("mse", "minmax")


def test_the_bundle_verifies(bundle: Path) -> None:
    result = run("verify", str(bundle), "--json")
    assert result.exit_code == 0, result.output
    assert [row["passed"] for row in json.loads(result.stdout)["artifacts"]] == [True, True]


BRIEFLY = ("--runs", "5", "--seconds", "0.1", "--no-memory", "--json")


def test_both_precisions_are_timed(bundle: Path, tmp_path: Path) -> None:
    result = run("bench", str(bundle), *BRIEFLY, "-o", str(tmp_path / "figures.json"))

    assert result.exit_code == 0, result.output
    (made,) = json.loads(result.stdout)["runs"]
    assert [each["subject"]["precision"] for each in made["measurements"]] == ["fp32", "int8"]


def test_a_wrong_scale_is_neither_verified_nor_timed(bundle: Path, tmp_path: Path) -> None:
    """The manifest vouches for the twin's bytes, so only what it computes can give it away."""
    copy = Path(shutil.copytree(bundle, tmp_path / "bundle"))
    path = copy / "net-build.int8.onnx"
    model = onnx.load(path)
    scale = next(each for each in model.graph.initializer if each.name.endswith("weight_scale"))
    scale.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(scale) * np.float32(1.3), scale.name))
    onnx.save(model, path)
    manifest = json.loads((copy / MANIFEST).read_text())
    manifest["members"][1]["artifact"]["files"] = msgspec.to_builtins(hash_files([path]))
    (copy / MANIFEST).write_text(json.dumps(manifest))

    for command in (("verify", str(copy)), ("bench", str(copy), *BRIEFLY)):
        result = run(*command)
        assert result.exit_code == 1
        assert "net-build.int8.onnx is not the same network" in result.output


def test_a_second_time_it_comes_from_the_cache(bundle: Path, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEKIT_CACHE", str(place / "cache"))
    before = read_manifest(bundle)
    data = ("--data", str(place / "images.npz"), "--calibration", "16")

    result = run("quantize", str(bundle), *data, "-o", str(place / "again"))

    assert result.exit_code == 0, result.output
    after = read_manifest(place / "again")
    assert after.members == before.members
    assert [stage.name for stage in after.stages if stage.cached][-1] == "onnx int8"


def test_a_file_is_quantized_with_the_preprocessing_it_states(bundle: Path, place: Path, tmp_path: Path) -> None:
    line = (
        "quantize",
        str(bundle / "net-build.fp32.onnx"),
        "--data",
        str(place / "images.npz"),
        "--recipe",
        "wi8_weightonly",
    )
    result = run(*line, "-o", str(tmp_path / "small.onnx"), "--json")

    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert (found["assumed"], found["quantization"]["recipe"]) == (False, "wi8_weightonly")
    assert (tmp_path / "small.onnx").stat().st_size > 0


def test_half_floats_stand_beside_floats_in_a_bundle(bundle: Path, place: Path, tmp_path: Path) -> None:
    data = ("--data", str(place / "images.npz"), "--calibration", "16")
    result = run("quantize", str(bundle), *data, "--recipe", "fp16", "-o", str(tmp_path / "half"))

    assert result.exit_code == 0, result.output
    assert "4 of 4 layers fp16" in result.stdout
    exact, half = read_manifest(tmp_path / "half").members
    assert [member.artifact.precision for member in (exact, half)] == ["fp32", "fp16"]
    record = half.quantization
    assert record is not None
    assert {(each.precision, each.reason) for each in record.operators} == {("fp16", "")}
    assert record.held_out.snr_db > record.floor_db == 40.0
    assert run("verify", str(tmp_path / "half")).exit_code == 0


def test_of_a_dry_run_nothing_is_left(place: Path, tmp_path: Path) -> None:
    line = ("export", f"{place / 'net.py'}:build", "--format", "onnx", "--int8", "--data", "patterns", "--dry-run")
    result = run(*line, "-o", str(tmp_path / "out" / "bundle"))
    assert result.exit_code == 0, result.output
    assert not (tmp_path / "out").exists()
    assert "net-build.int8.onnx" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("quantize", "none.onnx", "--data", "patterns"), "none.onnx is neither a bundle nor a file"),
        (("quantize", "none.onnx"), "Quantizing needs images"),
        (("export", "parnet_pico_digits", "--format", "ncnn", "--int8", "--data", "digits"), "ncnn (its packages come"),
        (("export", "parnet_pico_digits", "--format", "pt2", "--recipe", "fp16", "--data", "digits"), "pt2 (nothing"),
    ],
)
def test_misuse_is_told(arguments: tuple[str, ...], message: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert message in result.output


# -- by what was measured ---------------------------------------------------------------------------------------------

STEM, POINTWISE, HEAD = "convolution 3>8 at 16x16: 3x3 /2x2, relu", "convolution 8>12 at 5x5: 1x1", "linear 12>5"


def measure_here(**costs: tuple[float, float]) -> None:
    """Keeps a table of this machine in which layers cost so much in float and in int8."""
    board, package = load_board("host"), f"onnxruntime {version('onnxruntime')}"
    key = {"cpu": board.clusters[0].core, "architecture": board.architectures[0], "package": package}
    names = {"stem": STEM, "pointwise": POINTWISE, "head": HEAD}
    rows = [layer_entry(names[name], *pair) for name, pair in costs.items()]
    rows = [each if each.layer.kind == "linear" else structs.replace(each, method="static") for each in rows]
    keep(structs.replace(table(**key), layers=tuple(rows), dot_products=board.dot_products))


def exported(place: Path, out: Path, *options: str) -> Result:
    """Exports with the cache of the bundle, whose int8 file is of layers nobody has measured and must not come back."""
    line = ("export", f"{place / 'net.py'}:build", "--format", "onnx", "--target", "host", "--int8")
    data = ("--data", str(place / "images.npz"), "--calibration", "16")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGEKIT_CACHE", str(place / "cache"))
        result = run(*line, *data, *options, "-o", str(out))
    assert result.exit_code == 0, result.output
    return result


def test_what_is_slower_here_stays_float_and_everything_says_so(
    place: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    measure_here(stem=(3.0, 1.0), pointwise=(1.0, 1.5))
    exported(place, tmp_path / "out")

    saves = (
        "int8 saves 2.000 ms of an inference in 1 layers; 1 are no faster in it and stay float; 1 are int8 by structure"
    )
    assert saves in capfd.readouterr().err
    rounded = read_manifest(tmp_path / "out").members[1]
    assert saves in rounded.artifact.notes[1]
    assert rounded.quantization is not None
    found = {each.layer: each for each in rounded.quantization.operators if each.source}
    assert {name: (each.precision, each.reason, each.saved) for name, each in found.items()} == {
        STEM: ("int8", "", 2.0),
        POINTWISE: ("fp32", "slower", -0.5),
        HEAD: ("int8", "", None),
    }
    inspected = " ".join(run("inspect", str(tmp_path / "out")).stdout.split())
    assert f"{POINTWISE} 1 fp32 slower -0.500 ms measured here" in inspected
    assert run("verify", str(tmp_path / "out")).exit_code == 0


def test_where_nothing_is_faster_the_bundle_is_float_and_says_why(
    place: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    measure_here(stem=(1.0, 2.0), pointwise=(1.0, 1.5), head=(1.0, 1.25))
    exported(place, tmp_path / "out")

    assert "Left out: onnx int8. Int8 does not pay here: of 3 layers" in capfd.readouterr().err
    (exact,) = read_manifest(tmp_path / "out").members
    assert "so the float file is the fastest" in exact.artifact.notes[-1]

    exported(place, tmp_path / "smallest", "--smallest")
    assert "int8 does NOT make it faster, it only saves size: 3 layers cost 1.750 ms more" in capfd.readouterr().err
    rounded = read_manifest(tmp_path / "smallest").members[1]
    assert rounded.quantization is not None
    assert rounded.quantization.quantized == 3


def test_a_file_is_quantized_for_a_target(place: Path, tmp_path: Path, bundle: Path) -> None:
    measure_here(stem=(1.0, 2.0), pointwise=(1.0, 1.5))
    (source,) = bundle.glob("*.fp32.onnx")
    for target, count in (("host", 1), ("rk3588", 3)):  # of whose CPU nothing is known
        line = ("quantize", str(source), "--data", str(place / "images.npz"), "--calibration", "16")
        result = run(*line, "--target", target, "-o", str(tmp_path / f"{target}.onnx"), "--json")
        assert result.exit_code == 0, result.output
        operators = json.loads(result.stdout)["quantization"]["operators"]
        assert sum(each["precision"] == "int8" for each in operators) == count


def test_a_bundle_has_its_target(bundle: Path) -> None:
    result = run("quantize", str(bundle), "--data", "patterns", "--target", "host")
    assert result.exit_code == 2
    assert "is a bundle, which was exported for a target" in result.output
