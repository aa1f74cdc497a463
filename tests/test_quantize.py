"""Images for quantizing, and the certificate: what is refused, and that nothing refused is left behind."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec import structs

from edgekit.artifact import OperatorPrecision, Parity, TensorSpec
from edgekit.errors import DataError, MisuseError, NoGainError, ParityError
from edgekit.material import Material, gather, spread
from edgekit.models.cards import IMAGENET
from edgekit.quant import QUANTIZERS
from edgekit.quant.recipe import RECIPES
from edgekit.quantize import FLOOR_DB, HALF_FLOOR_DB, Made, check, make
from edgekit.quantize_file import Wish, quantize_file
from edgekit.quiet import silenced
from edgekit.tuning.precision import PrecisionChooser
from edgekit.tuning.tables import LayerEntry
from tests.quant import small
from tests.tables import HERE, layer_entry, table

IMAGE = TensorSpec(name="input", shape=small.SHAPE)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty images of noise with labels, as an archive."""
    path = tmp_path_factory.mktemp("data") / "images.npz"
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 4, 40)
    pixels = generator.integers(0, 256, (40, 20, 24, 3), dtype=np.uint8)
    np.savez(path, images=pixels, labels=labels)
    return path


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small network in ONNX."""
    with silenced():
        return small.write("onnx", tmp_path_factory.mktemp("onnx"))


@pytest.fixture
def material(images: Path) -> Material:
    return gather(str(images), IMAGENET, (IMAGE,), 16)


def quantized(source: Path, target: Path, material: Material, keep: tuple[str, ...] = ()) -> Made:
    quantizer = QUANTIZERS["onnx"]
    with silenced():
        return make(source, target, quantizer, quantizer.recipe("int8"), material, keep)


@pytest.mark.parametrize(
    ("count", "chosen"), [(3, (0, 3, 6)), (10, tuple(range(10))), (99, tuple(range(10))), (1, (0,))]
)
def test_images_are_spread_over_the_set(count: int, chosen: tuple[int, ...]) -> None:
    assert spread(range(10), count) == chosen


def test_of_one_set_no_image_is_both_calibrated_with_and_held_out(material: Material) -> None:
    (calibration, chosen), (held_out, others) = material.calibration, material.held_out
    assert calibration.digest == held_out.digest
    assert (len(chosen), len(others)) == (16, 24)
    assert not {*chosen} & {*others}
    assert [feed["input"].shape for feed in material.calibrating()] == [small.SHAPE] * 16


def test_of_a_small_set_one_in_four_is_held_out(images: Path) -> None:
    material = gather(str(images), IMAGENET, (IMAGE,), 128)
    assert (material.record.images, len(material.held_out[1])) == (30, 10)


def test_two_splits_are_each_used_whole() -> None:
    material = gather("patterns:20", IMAGENET, (IMAGE,), 128)
    assert (material.record.images, len(material.held_out[1])) == (20, 20)
    assert material.calibration[0].digest != material.held_out[0].digest


def test_a_file_with_its_channels_last_is_fed_so(images: Path) -> None:
    last = gather(str(images), IMAGENET, (TensorSpec(name="image", shape=(1, 16, 12, 3)),), 4)
    first = gather(str(images), IMAGENET, (TensorSpec(name="image", shape=(1, 3, 16, 12)),), 4)
    for one, other in zip(last.calibrating(), first.calibrating(), strict=True):
        np.testing.assert_array_equal(one["image"].transpose(0, 3, 1, 2), other["image"])


@pytest.mark.parametrize("shapes", [((1, 3, 8, 8), (1, 5)), ((1, 5),), ((2, 3, 8, 8),), ((1, 4, 8, 8),)], ids=str)
def test_what_takes_no_image_is_refused(images: Path, shapes: tuple[tuple[int, ...], ...]) -> None:
    inputs = [TensorSpec(name=f"x{index}", shape=shape) for index, shape in enumerate(shapes)]
    with pytest.raises(MisuseError, match=r"Only networks that take one image, 1x3xHxW, can be quantized; this one ta"):
        gather(str(images), IMAGENET, inputs, 16)


def test_too_few_images_are_refused() -> None:
    with pytest.raises(DataError, match=r"patterns:1 has 1 images; quantizing takes 100 or more"):
        gather("patterns:1", IMAGENET, (IMAGE,), 16)


def test_the_record_says_what_became_of_every_layer(source: Path, material: Material, tmp_path: Path) -> None:
    made = quantized(source, tmp_path / "made.onnx", material)

    record = made.record
    assert made.files == (tmp_path / "made.onnx",)
    assert (record.recipe, record.quantized, len(record.operators)) == ("mixed_wi8_ai8", 3, 7)
    reasons = [each.reason for each in record.operators]
    assert {reason: reasons.count(reason) for reason in set(reasons)} == {"": 3, **small.FLOAT}
    assert sum(each.macs for each in record.operators) > 0
    assert record.held_out.snr_db > 20.0
    assert (record.held_out_images, record.calibration.images) == (24, 16)


def test_what_is_asked_to_stay_float_stays(source: Path, material: Material, tmp_path: Path) -> None:
    record = quantized(source, tmp_path / "made.onnx", material, ("head", "st*")).record
    assert {each.module for each in record.operators if each.reason == "asked"} == {"head", "stem"}
    assert [each.module for each in record.operators if each.precision == "int8"] == ["pointwise"]


def test_a_pattern_that_matches_nothing_is_refused(source: Path, material: Material, tmp_path: Path) -> None:
    with pytest.raises(MisuseError, match=r"No layer is called 'haed'\. Layers are called stem, squeeze"):
        quantized(source, tmp_path / "made.onnx", material, ("haed",))


def test_nothing_left_to_quantize_is_refused(source: Path, material: Material, tmp_path: Path) -> None:
    with pytest.raises(MisuseError, match=r"nothing in net.onnx that recipe mixed_wi8_ai8 quantizes: of its 7 layers"):
        quantized(source, tmp_path / "made.onnx", material, ("*",))


def broken(module: Any, monkeypatch: pytest.MonkeyPatch, scale: float) -> None:
    """Makes the quantizer give a file in which the scales of the head are off by a factor."""
    import onnx
    from onnx import numpy_helper

    sound = module.quantize

    def quantize(source: Path, job: Any, target: Path) -> tuple[Path, ...]:
        files: tuple[Path, ...] = sound(source, job, target)
        model = onnx.load(target)
        for each in model.graph.initializer:
            if each.name.startswith("head") and each.name.endswith("_scale"):
                each.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(each) * np.float32(scale), each.name))
        onnx.save(model, target)
        return files

    monkeypatch.setattr(module, "quantize", quantize)


@pytest.mark.parametrize(
    ("scale", "message"),
    [
        (-1.0, r"twin\.onnx is not the network any more: .* dB against the float file .* 5 dB required"),
        (float("nan"), r"twin\.onnx gives \d+ NaN or infinite values"),
    ],
    ids=["turned round", "NaN"],
)
def test_a_wrong_scale_is_refused_and_leaves_no_file(
    scale: float, message: str, source: Path, material: Material, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken(QUANTIZERS["onnx"].load(), monkeypatch, scale)
    with pytest.raises(ParityError, match=message):
        quantized(source, tmp_path / "twin.onnx", material)
    assert list(tmp_path.iterdir()) == []


def test_a_half_float_that_is_not_the_nearest_is_refused(
    source: Path, material: Material, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The smallest of the stem's weights is one step off, which no output shows."""
    import onnx
    from onnx import numpy_helper

    module: Any = QUANTIZERS["onnx"].load()
    sound = module.quantize

    def quantize(path: Path, job: Any, target: Path) -> tuple[Path, ...]:
        files: tuple[Path, ...] = sound(path, job, target)
        model = onnx.load(target)
        stem = next(each for each in model.graph.initializer if each.data_type == onnx.TensorProto.FLOAT16)
        values = numpy_helper.to_array(stem).copy()
        values.ravel()[np.abs(values).argmin()] = np.nextafter(np.abs(values).min(), np.float16(1))
        stem.CopyFrom(numpy_helper.from_array(values, stem.name))
        onnx.save(model, target)
        return files

    monkeypatch.setattr(module, "quantize", quantize)
    with pytest.raises(ParityError, match=r"twin\.onnx has other weights in .* rounded to half floats"), silenced():
        make(source, tmp_path / "twin.onnx", QUANTIZERS["onnx"], RECIPES["fp16"], material)
    assert list(tmp_path.iterdir()) == []


def parity(snr_db: float, nonfinite: int = 0) -> Parity:
    return Parity(max_abs=1.0, relative=0.1, snr_db=snr_db, cosine=0.9, top1_agreement=1.0, nonfinite=nonfinite)


def operator(precision: Any) -> OperatorPrecision:
    return OperatorPrecision(name="a", module="a", kind="linear", macs=1, precision=precision)


@pytest.mark.parametrize(
    ("recipe", "floor", "advice"),
    [
        ("static_wi8_ai8", FLOOR_DB, ", or calibrate"),
        ("dynamic_wi8", FLOOR_DB, "--recipe."),
        ("fp16", HALF_FLOOR_DB, ""),
    ],
)
def test_the_floor_is_a_floor(recipe: str, floor: float, advice: str) -> None:
    found = RECIPES[recipe]
    check("a", parity(floor), [operator(found.precision)], found)
    with pytest.raises(ParityError, match=rf"{floor - 0.1:.1f} dB against .*{advice}"):
        check("a", parity(floor - 0.1), [operator(found.precision)], found)


@pytest.mark.parametrize("recipe", ["wi8_weightonly", "fp16"])
def test_a_file_in_which_nothing_was_quantized_is_refused(recipe: str) -> None:
    with pytest.raises(ParityError, match=r"every operator in it is float"):
        check("a", parity(400.0), [operator("fp32")], RECIPES[recipe])


def test_what_does_not_fit_half_floats_stays_float(source: Path, material: Material, tmp_path: Path) -> None:
    """The head of the twin is beyond their range; what is left of the network is in half floats all the same."""
    import onnx
    from onnx import numpy_helper

    model = onnx.load(source)
    head = next(node for node in model.graph.node if node.op_type == "Gemm")
    weight = next(each for each in model.graph.initializer if each.name == head.input[1])
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * np.float32(1e6), weight.name))
    onnx.save(model, tmp_path / "large.onnx")

    quantizer = QUANTIZERS["onnx"]
    with silenced():
        record = make(tmp_path / "large.onnx", tmp_path / "made.onnx", quantizer, RECIPES["fp16"], material).record

    assert [(each.precision, each.reason) for each in record.operators if each.reason] == [("fp32", "range")]
    assert (record.quantized, record.precision, record.floor_db) == (6, "fp16", HALF_FLOOR_DB)
    assert record.held_out.snr_db > 60.0


# -- by what was measured ---------------------------------------------------------------------------------------------

POINTWISE, HEAD = "convolution 16>24 at 8x8: 1x1", "linear 24>10"


def decided(*rows: LayerEntry, smallest: bool = False) -> PrecisionChooser:
    return PrecisionChooser("onnxruntime", HERE, (structs.replace(table(), layers=rows),), (), smallest)


def static(layer: str, fp32: float, int8: float) -> LayerEntry:
    return structs.replace(layer_entry(layer, fp32, int8), method="static", between=(fp32, int8))


def made_by(decide: PrecisionChooser, source: Path, target: Path, material: Material) -> Made:
    quantizer = QUANTIZERS["onnx"]
    with silenced():
        return make(source, target, quantizer, quantizer.recipe("int8"), material, (), decide)


def test_a_row_that_says_slower_keeps_exactly_that_layer_float(
    source: Path, material: Material, tmp_path: Path
) -> None:
    slower = made_by(decided(static(POINTWISE, 2.0, 3.0)), source, tmp_path / "slower.onnx", material)
    without = made_by(decided(), source, tmp_path / "without.onnx", material)

    (kept,) = [each for each in slower.record.operators if each.reason == "slower"]
    assert (kept.module, kept.precision, kept.layer, kept.saved, kept.unit) == (
        "pointwise",
        "fp32",
        POINTWISE,
        -1,
        "ms",
    )
    assert kept.source.startswith("measured here: onnxruntime 1.31.1")
    records = (slower.record, without.record)
    in_int8 = [{each.module for each in record.operators if each.precision == "int8"} for record in records]
    assert in_int8 == [{"stem", "head"}, {"stem", "pointwise", "head"}]
    assert {each.source for each in without.record.operators} == {"", "structure"}
    assert QUANTIZERS["onnx"].load().quantized(slower.files[0]) < QUANTIZERS["onnx"].load().quantized(without.files[0])


def test_where_nothing_is_faster_in_int8_there_is_no_file(source: Path, material: Material, tmp_path: Path) -> None:
    stem = "convolution 3>16 at 16x16: 3x3 /2x2 padded 1x1x1x1, relu"
    rows = (static(stem, 1.0, 2.0), static(POINTWISE, 1.0, 2.0), layer_entry(HEAD, 1.0, 2.0))
    message = r"Int8 does not pay here: of 3 layers .* none is faster in it \(measured here: .*\), so the float file is"
    with pytest.raises(NoGainError, match=message):
        made_by(decided(*rows), source, tmp_path / "a.onnx", material)
    assert list(tmp_path.iterdir()) == []

    record = made_by(decided(*rows, smallest=True), source, tmp_path / "a.onnx", material).record
    assert (record.quantized, [each.saved for each in record.operators if each.precision == "int8"]) == (3, [-1.0] * 3)


# -- a file of the user's own -----------------------------------------------------------------------------------------

Quantize = Callable[..., Any]


def test_a_file_is_quantized_beside_itself(source: Path, images: Path, tmp_path: Path) -> None:
    path = tmp_path / "mine.onnx"
    path.write_bytes(source.read_bytes())

    made = quantize_file(path, Wish(str(images), "int8", 16, ()), IMAGENET)

    assert made.files == (tmp_path / "mine.int8.onnx",)
    assert made.assumed  # the small network's metadata is silent about it
    assert sorted(each.name for each in tmp_path.iterdir()) == ["mine.int8.onnx", "mine.onnx"]


@pytest.mark.parametrize(
    ("name", "recipe", "out", "message"),
    [
        ("none.onnx", "int8", None, r"none\.onnx is neither a bundle nor a file"),
        ("net.txt", "int8", None, r"its ending is none of \.onnx, \.xml, \.tflite"),
        ("net.onnx", "fp32", None, r"'fp32' leaves a file as it is"),
        ("net.onnx", "int8", "x.tflite", r"x\.tflite should end with \.onnx"),
    ],
)
def test_a_wish_that_does_not_fit_is_refused(
    name: str, recipe: str, out: str | None, message: str, source: Path, images: Path, tmp_path: Path
) -> None:
    for ending in (".onnx", ".txt"):
        (tmp_path / f"net{ending}").write_bytes(source.read_bytes())
    with pytest.raises(MisuseError, match=message):
        quantize_file(
            tmp_path / name, Wish(str(images), recipe, 16, ()), IMAGENET, None if out is None else tmp_path / out
        )
    assert len(list(tmp_path.iterdir())) == 2
