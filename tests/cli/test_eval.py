"""`edgekit eval`: a network with real accuracy, its artifact, and artifacts that are not quite it."""

import json
import re
import signal
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from shutil import copytree
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import numpy_helper

from edgekit.bundle import MANIFEST, read_manifest
from edgekit.cli import cli
from edgekit.data.digits import Digits
from edgekit.evaluation.store import FOLDER, read_evaluations, write_evaluation
from tests.bench.figures import timed
from tests.cli.conftest import Run, Spawn, finish, names, wait_for
from tests.evaluation.images import blank, evaluation

READER = '''
"""Reads digits: random features, and the least-squares classifier on them, in closed form."""
import numpy as np
import torch
from torch import nn
from edgekit.data.digits import Digits
from edgekit.data.feed import feed
from edgekit.artifact import Preprocessing

CARD = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5), "crop_fraction": 1.0, "interpolation": "bilinear"}


def build():
    convolution = nn.Conv2d(3, 24, 3, bias=False), nn.BatchNorm2d(24), nn.ReLU()
    features = nn.Sequential(*convolution, nn.AvgPool2d(2), nn.Flatten())
    model = nn.Sequential(features, nn.Linear(24 * 9, 10)).eval()
    data, card = Digits("train", 600), Preprocessing(channel_order="RGB", **CARD)
    images = torch.from_numpy(np.concatenate(list(feed(data, card, (8, 8), range(600)))))
    wanted = nn.functional.one_hot(torch.tensor([data.label(i) for i in range(600)]), 10).float()
    with torch.no_grad():
        found = torch.cat([features(images), torch.ones(600, 1)], dim=1)
        solved = torch.linalg.solve(found.T @ found + 10 * torch.eye(found.shape[1]), found.T @ wanted)
        model[1].weight.copy_(solved[:-1].T)
        model[1].bias.copy_(solved[-1])
    model.edgekit_card = CARD
    return model
'''
"""A network of a user's own that is right on most digits, and made in a second."""

IMAGES = 400


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the network's code and the bundle that was made of it."""
    root = tmp_path_factory.mktemp("reader")
    (root / "reader.py").write_text(READER)
    line = ["export", f"{root}/reader.py:build", "--input", "8", "--format", "onnx", "-o", str(root / "bundle")]
    result = CliRunner().invoke(cli, [*line, "--no-cache"], prog_name="edgekit", catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return root


@pytest.fixture
def reader(made: Path, tmp_path: Path) -> Path:
    """A copy of the bundle that a test may change."""
    return copytree(made / "bundle", tmp_path / "reader")


def edit(bundle: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Changes the manifest."""
    manifest = json.loads((bundle / MANIFEST).read_text())
    change(manifest)
    (bundle / MANIFEST).write_text(json.dumps(manifest))


def disturb(bundle: Path, factor: float, digit: int = 3) -> None:
    """Scales the logit of one digit in the artifact, for which the manifest goes on to vouch."""
    artifact = next(bundle.glob("*.onnx"))
    model = onnx.load(artifact)
    weight = next(each for each in model.graph.initializer if 10 in each.dims and len(each.dims) == 2)
    values = numpy_helper.to_array(weight).copy()
    np.moveaxis(values, values.shape.index(10), 0)[digit] *= factor
    weight.CopyFrom(numpy_helper.from_array(values, weight.name))
    onnx.save(model, artifact)
    content = artifact.read_bytes()
    entry = {"name": artifact.name, "size": len(content), "sha256": sha256(content).hexdigest()}
    edit(bundle, lambda manifest: manifest["members"][0]["artifact"].update(files=[entry]))


def evaluated(run: Run, bundle: Path, *options: object, code: int = 0) -> dict[str, Any]:
    """The evaluation as JSON has it."""
    result = run("eval", bundle, "--data", f"digits:{IMAGES}", "--json", *options)
    assert (result.exit_code, result.stderr) == (code, ""), result.output
    content: dict[str, Any] = json.loads(result.stdout)
    return content


def test_every_step_is_as_good_as_the_first(run: Run, reader: Path) -> None:
    content = evaluated(run, reader, "--trust")

    steps = content["evaluation"]["steps"]
    assert [step["name"] for step in steps] == ["torch fp32", "fused", "reader-build.fp32.onnx"]
    assert steps[0]["top1"] > 85
    for step in steps[1:]:
        assert (step["top1"], step["drop"], step["agreement"]) == (steps[0]["top1"], 0, 100)
        assert step["snr_db"] > 100
        assert step["verdict"] == "alike"
        assert step["interval"][0] < 0 < step["interval"][1]
    assert steps[2]["size_bytes"] == next(reader.glob("*.onnx")).stat().st_size


def test_what_is_stored_is_what_was_printed(run: Run, reader: Path) -> None:
    content = evaluated(run, reader)

    (found,) = read_evaluations(reader, {read_manifest(reader).members[0].artifact.sha256})
    assert content["stored"] == str(reader / FOLDER / names(reader / FOLDER)[0])
    assert [step.top1 for step in found.steps] == [step["top1"] for step in content["evaluation"]["steps"]]
    assert run("verify", reader).exit_code == 0


def test_code_runs_again_only_where_it_is_trusted(run: Run, reader: Path) -> None:
    content = evaluated(run, reader)

    (note,) = content["evaluation"]["notes"]
    assert re.fullmatch(
        r"torch fp32 is missing, and the first artifact is .*reader\.py:build is code, .*--trust.*", note
    )
    (step,) = content["evaluation"]["steps"]
    assert (step["name"], step["verdict"], step["drop"]) == ("reader-build.fp32.onnx", "first", None)


def test_a_network_that_is_another_by_now_is_left_out(run: Run, reader: Path, made: Path, tmp_path: Path) -> None:
    (tmp_path / "reader.py").write_text(READER.replace("10 * torch.eye", "9 * torch.eye"))
    edit(reader, lambda manifest: manifest["origin"].update(model=f"{tmp_path}/reader.py:build"))

    content = evaluated(run, reader, "--trust")

    assert "another network by now" in content["evaluation"]["notes"][0]
    assert len(content["evaluation"]["steps"]) == 1


def test_one_wrong_channel_of_one_weight_is_over_the_budget(run: Run, reader: Path) -> None:
    """The negative twin."""
    disturb(reader, 0.3)

    content = evaluated(run, reader, "--trust", code=1)

    step = content["evaluation"]["steps"][2]
    assert step["verdict"] == "over"
    assert 0.5 < step["interval"][0] < step["drop"] < step["interval"][1]
    assert (step["per_class"][0]["name"], step["lost"] > 10, step["p_value"] < 0.001) == ("3", True, True)
    assert step["flips"][0]["kind"] == "lost"
    assert step["flips"][0]["before"] == "3" != step["flips"][0]["after"]
    assert content["error"]["kind"] == "BudgetError"
    assert re.search(r"onnx loses \d+\.\d\d points of top-1, between .*--max-drop allows", content["error"]["message"])


def test_a_budget_that_is_large_enough_is_kept(run: Run, reader: Path) -> None:
    disturb(reader, 0.3)

    result = run("eval", reader, "--data", f"digits:{IMAGES}", "--trust", "--max-drop", "30")

    assert result.exit_code == 0, result.output
    assert re.search(r"reader-build\.fp32\.onnx .* within", result.stdout)
    assert re.search(r"Images that reader-build\.fp32\.onnx answers otherwise: \d+", result.stdout)
    assert re.search(r"Classes in reader-build\.fp32\.onnx", result.stdout)


def test_a_drop_that_may_be_chance_is_undecided(run: Run, reader: Path) -> None:
    disturb(reader, 0.92)

    content = evaluated(run, reader, "--trust", "--max-drop", "0.1")

    step = content["evaluation"]["steps"][2]
    assert step["changed"] > 0
    assert step["verdict"] == "undecided"
    assert step["images_to_decide"] > 0


def test_tables_and_markdown_say_the_same(run: Run, reader: Path, capfd: pytest.CaptureFixture[str]) -> None:
    timed(reader)
    plain = run("eval", reader, "--data", f"digits:{IMAGES}", "--trust")
    marked = run("eval", reader, "--data", f"digits:{IMAGES}", "--trust", "--markdown")

    assert plain.exit_code == marked.exit_code == 0
    assert re.search(
        r"reader-build\.fp32\.onnx +\d+ KiB +10\.05 ± \d\.\d\d ms +\d\d\.\d\d %.*no change seen", plain.stdout
    )
    assert re.search(r"\| `reader-build\.fp32\.onnx` \| \d+ KiB \| 10\.05 ± .* \| no change seen \|", marked.stdout)
    assert f"Images: digits: {IMAGES} images, 10 classes" in plain.stdout
    assert "from cache" in capfd.readouterr().err


def test_figures_that_are_not_trusted_are_not_beside(run: Run, reader: Path) -> None:
    timed(reader, level="NOISY")

    assert evaluated(run, reader)["latency"] == {}


def test_images_without_labels_tell_agreement_only(run: Run, reader: Path, tmp_path: Path) -> None:
    disturb(reader, 0.3)
    data = Digits("test", 60)
    np.savez(tmp_path / "bare.npz", images=np.stack([data.image(index) for index in range(60)]))

    content = json.loads(run("eval", reader, "--data", tmp_path / "bare.npz", "--trust", "--json").stdout)

    assert any("no labels" in note for note in content["evaluation"]["notes"])
    step = content["evaluation"]["steps"][2]
    assert (step["verdict"], step["top1"], step["drop"]) == ("unlabelled", None, None)
    assert 50 < step["agreement"] < 100


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("patterns:10", r"patterns has 20 classes, .*reader tells 10 apart: .*Give images of the classes"),
        ("nowhere", r"nowhere"),
        ("digits:0", r"digits:0"),
    ],
)
def test_data_that_does_not_fit_is_refused(run: Run, reader: Path, data: str, message: str) -> None:
    result = run("eval", reader, "--data", data)

    assert result.exit_code == 2
    assert re.search(message, result.stderr), result.stderr
    assert not (reader / FOLDER).exists()


@pytest.mark.parametrize("wanted", [10, 1000])
def test_numbers_for_names_are_classes_too(run: Run, bundle: Path, wanted: int) -> None:
    """Digits are ten of anything else than a network's thousand."""
    edit(bundle, lambda manifest: manifest["outputs"][0].update(shape=[1, wanted]))

    result = run("eval", bundle, "--data", "digits:2", "--format", "tflite")

    message = "digits has 10 classes" if wanted == 1000 else "has no artifact in tflite"
    assert message in result.stderr


def test_a_network_that_is_no_classifier_is_refused(run: Run, reader: Path) -> None:
    edit(reader, lambda manifest: manifest["outputs"][0].update(shape=[1, 10, 4, 4]))

    result = run("eval", reader, "--data", "digits:10")

    assert result.exit_code == 2
    assert re.search(r"takes 1x3x8x8 and returns 1x10x4x4", result.stderr)


def test_an_artifact_that_is_not_the_bundles_is_named(run: Run, reader: Path) -> None:
    artifact = next(reader.glob("*.onnx"))
    artifact.write_bytes(artifact.read_bytes() + b"x")

    result = run("eval", reader, "--data", "digits:10")

    assert result.exit_code == 1
    assert "is not the file that was exported" in result.stderr


def test_only_the_formats_asked_for(run: Run, reader: Path) -> None:
    result = run("eval", reader, "--data", "digits:10", "--format", "tflite")

    assert result.exit_code == 2
    assert "has no artifact in tflite. It holds onnx." in result.stderr


def test_some_images_of_many(run: Run, reader: Path) -> None:
    data = evaluated(run, reader, "--images", 25)["evaluation"]["data"]

    assert (data["images"], data["available"]) == (25, IMAGES)
    assert evaluated(run, reader, "--images", 25, "--no-cache")["evaluation"]["data"] == data


def test_an_evaluation_stays_with_the_bytes_it_is_of(run: Run, warm: tuple[str, ...], bundle: Path) -> None:
    sha = read_manifest(bundle).members[0].artifact.sha256
    kept = write_evaluation(evaluation(blank(sha256=sha)), bundle)
    write_evaluation(evaluation(blank(sha256="b" * 64)), bundle)

    assert run(*warm, "-o", bundle).exit_code == 0

    assert names(bundle / FOLDER) == [kept.name]


def test_pixels_that_come_out_otherwise_than_where_it_was_made_are_told(run: Run, reader: Path) -> None:
    edit(reader, lambda manifest: manifest.update(golden="0" * 64))

    content = evaluated(run, reader)

    assert any("prepared to other values" in note for note in content["evaluation"]["notes"])


def test_what_a_bundle_was_made_from_is_in_its_manifest(run: Run, made: Path, bundle: Path) -> None:
    own, shipped = read_manifest(made / "bundle").origin, read_manifest(bundle).origin

    assert own.model == f"{made}/reader.py:build"
    assert (shipped.model, shipped.weights, shipped.seed, shipped.features) == ("parcnetv2_xt", None, None, False)


@pytest.mark.slow
def test_random_weights_of_a_model_by_name(run: Run, bundle: Path) -> None:
    """Nothing has to be trusted for a model of edgekit's own; what its accuracy means is said."""
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)
    np.savez("noise.npz", images=images, labels=np.arange(3), classes=np.arange(1000).astype(str))

    content = json.loads(run("eval", bundle, "--data", "noise.npz", "--json").stdout)

    assert [step["name"] for step in content["evaluation"]["steps"]][:2] == ["torch fp32", "fused"]
    assert "RANDOM (seed 0)" in content["evaluation"]["notes"][0]
    assert [step["agreement"] for step in content["evaluation"]["steps"]] == [None, 100, 100]


SLOW = """
import time
from pathlib import Path
from edgekit.runners import onnxruntime
runs, quick = [0], onnxruntime.OnnxRuntimeRunner.run
def run(self, inputs):
    runs[0] += 1
    if runs[0] == 40:
        Path("ready").touch()
        time.sleep(60)
    return quick(self, inputs)
onnxruntime.OnnxRuntimeRunner.run = run
"""


def test_interrupted_it_goes_on_from_there(
    run: Run, spawn: Spawn, reader: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    whole = evaluated(run, reader, "--no-cache")
    line = ("eval", reader, "--data", f"digits:{IMAGES}")
    process = spawn(*line, code=SLOW)
    wait_for(Path("ready").exists, process)
    before = names(reader)

    process.send_signal(signal.SIGINT)

    code, output, errors = finish(process)
    assert (code, output) == (130, "")
    assert errors.endswith("Interrupted. What was answered is kept; the same command goes on from there.\n")
    assert names(reader) == before
    assert run(*line).exit_code == 0
    assert "reader-build.fp32.onnx: 39 of 400 images are done; the rest follows." in capfd.readouterr().err
    assert evaluated(run, reader)["evaluation"]["steps"] == whole["evaluation"]["steps"]


SINGLE = """
from torch import nn
def build():
    features = nn.Conv2d(3, 8, 5, stride=4), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten()
    return nn.Sequential(*features, nn.Linear(32, 20))
"""

PEAK = """
import atexit, resource
from pathlib import Path
atexit.register(lambda: Path("peak").write_text(str(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)))
"""


@pytest.mark.slow
def test_ten_times_the_images_take_the_same_memory(run: Run, spawn: Spawn) -> None:
    """Peak resident set size, in KiB, of whole commands on 300 and on 3,000 images."""
    Path("single.py").write_text(SINGLE)
    made = run("export", "single.py:build", "--input", "32", "--format", "onnx", "-o", "single")
    assert made.exit_code == 0, made.output
    peaks = []
    for images in (300, 3000):
        code, _, errors = finish(spawn("eval", "single", "--data", f"patterns:{images}", "--no-cache", code=PEAK))
        assert code == 0, errors
        peaks.append(int(Path("peak").read_text()))

    assert peaks[1] - peaks[0] < 24 << 10
