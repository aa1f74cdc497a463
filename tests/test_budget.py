"""The search for a mix of precisions: it gives back the layer that costs most, no more than needed, or says why not."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edgekit.artifact import TensorSpec
from edgekit.budget import fewest, given_back, make_within
from edgekit.data.feed import feed
from edgekit.data.sources import open_dataset
from edgekit.errors import BudgetError, MisuseError
from edgekit.material import Material, gather
from edgekit.models.cards import IMAGENET
from edgekit.quant import QUANTIZERS
from edgekit.quant.base import Layer
from edgekit.quantize import Choice, Made
from edgekit.quiet import silenced
from edgekit.runners import load
from edgekit.tuning.precision import Verdict
from tests.quant import small

IMAGE = TensorSpec(name="input", shape=small.SHAPE)
IMAGES = 400


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small network in ONNX."""
    with silenced():
        return small.write("onnx", tmp_path_factory.mktemp("onnx"))


@pytest.fixture(scope="module")
def material(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Material:
    """Images whose labels are what the float network says of them."""
    path = tmp_path_factory.mktemp("data") / "images.npz"
    pixels = np.random.default_rng(0).integers(0, 256, (IMAGES, 16, 16, 3), dtype=np.uint8)
    np.savez(path, images=pixels, labels=np.zeros(IMAGES, np.int64))
    inputs = feed(open_dataset(str(path)), IMAGENET, (16, 16), range(IMAGES))
    with load("onnxruntime", source) as runner:
        labels = [int(np.argmax(runner.run({"input": image})["logits"])) for image in inputs]
    np.savez(path, images=pixels, labels=np.asarray(labels))
    return gather(str(path), IMAGENET, (IMAGE,), 16)


def made(source: Path, material: Material, target: Path, max_drop: float | None) -> Made:
    quantizer = QUANTIZERS["onnx"]
    with silenced():
        return make_within(source, target, quantizer, quantizer.recipe("int8"), material, (), max_drop)


@pytest.fixture
def bad_stem(monkeypatch: pytest.MonkeyPatch) -> None:
    """A quantizer whose scales of the first layer are off by a factor."""
    module = QUANTIZERS["onnx"].load()
    sound = module.quantize

    def quantize(source: Path, job: Any, target: Path) -> tuple[Path, ...]:
        files: tuple[Path, ...] = sound(source, job, target)
        model = onnx.load(target)
        for each in model.graph.initializer:
            if each.name == "stem.weight_scale":
                each.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(each) * np.float32(1.6), each.name))
        onnx.save(model, target)
        return files

    monkeypatch.setattr(module, "quantize", quantize)


def test_without_a_budget_nothing_is_tried(source: Path, material: Material, tmp_path: Path) -> None:
    record = made(source, material, tmp_path / "a.onnx", None).record
    assert (record.quantized, record.max_drop, record.trials) == (3, None, ())


def test_what_stays_inside_is_quantized_whole(source: Path, material: Material, tmp_path: Path) -> None:
    record = made(source, material, tmp_path / "a.onnx", 6.0).record

    (trial,) = record.trials
    assert (record.quantized, record.max_drop, trial.quantized, trial.decision) == (3, 6.0, 3, "within")
    assert trial.images == IMAGES - 16
    assert trial.interval[0] < trial.drop < trial.interval[1] <= 6.0


def test_the_layer_that_costs_most_goes_back(source: Path, material: Material, tmp_path: Path, bad_stem: None) -> None:
    record = made(source, material, tmp_path / "a.onnx", 6.0).record

    assert [each.module for each in record.operators if each.reason == "sensitive"] == ["stem"]
    assert [(trial.quantized, trial.decision == "within") for trial in record.trials] == [(3, False), (2, True)]
    alone = {each.module: each.alone_db for each in record.operators if each.alone_db is not None}
    assert set(alone) == {"stem", "pointwise", "head"}
    assert alone["stem"] < min(alone["pointwise"], alone["head"]) - 10.0


def test_a_budget_that_nothing_keeps_is_refused_with_the_best(source: Path, material: Material, tmp_path: Path) -> None:
    message = (
        r"stays within 0 points for certain\. The best found has \d layers in int8 and loses [+-]\d\.\d\d points, "
        r".* to .* on 384 images; about [\d,]+ images would tell"
    )
    with pytest.raises(BudgetError, match=message):
        made(source, material, tmp_path / "a.onnx", 0.0)
    assert list(tmp_path.iterdir()) == []


def test_images_without_labels_count_nothing(source: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "plain.npz", images=np.zeros((40, 16, 16, 3), np.uint8))
    material = gather(str(tmp_path / "plain.npz"), IMAGENET, (IMAGE,), 16)
    with pytest.raises(MisuseError, match=r"no image of --data has a label"):
        made(source, material, tmp_path / "a.onnx", 1.0)


def chosen(saved: dict[str, float | None]) -> Choice:
    layers = tuple(Layer(name, "linear", name, None, 1) for name in saved)
    return Choice(layers, {}, (), {name: Verdict("", "rules", each, "ms") for name, each in saved.items()})


def test_what_costs_most_accuracy_for_what_it_saves_goes_back_first() -> None:
    alone = {"cheap and harmful": 20.0, "dear and harmful": 20.0, "dear and harmless": 40.0, "cheap and harmless": 39.0}
    saved = {"cheap and harmful": 0.1, "dear and harmful": 10.0, "dear and harmless": 10.0, "cheap and harmless": 1.0}
    assert given_back(chosen({**saved}), alone) == [
        "cheap and harmful",
        "dear and harmful",
        "cheap and harmless",
        "dear and harmless",
    ]


@pytest.mark.parametrize("unknown", [None, 0.0, -1.0])
def test_where_not_all_gains_are_known_accuracy_alone_counts(unknown: float | None) -> None:
    alone = {"a": 30.0, "b": 20.0, "c": 10.0}
    assert given_back(chosen({"a": 0.001, "b": 1.0, "c": unknown}), alone) == ["c", "b", "a"]


@pytest.mark.parametrize("most", range(9))
@pytest.mark.parametrize("needed", range(1, 11))
def test_the_fewest_that_are_enough_are_found(needed: int, most: int) -> None:
    asked: list[int] = []

    def enough(count: int) -> bool:
        asked.append(count)
        return count >= needed

    assert fewest(most, enough) == (needed if needed <= most else None)
    assert len(asked) == len(set(asked)) <= 2 * max(most, 1).bit_length() + 1
    assert all(1 <= count <= most for count in asked)
