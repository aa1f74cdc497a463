"""Every quantizer on a small network: what became int8 is read back, the numbers agree, and a wrong scale shows."""

import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import openvino
import pytest
from ai_edge_litert import schema_py_generated as schema
from onnx import numpy_helper

from edgekit.quant import QUANTIZERS, bias
from edgekit.quant.recipe import RANGES, parse
from edgekit.quantize import HALF_FLOOR_DB
from edgekit.runners import load
from tests.quant import small
from tests.quant.quantizing import Make, choice, optimized, snr_db, write

EVERY = [(name, recipe) for name, quantizer in QUANTIZERS.items() for recipe in quantizer.recipes]
INT8 = [name for name, quantizer in QUANTIZERS.items() if not quantizer.lacks]
CORRECTED = [
    (name, recipe) for name in ("onnx", "tflite") for recipe in QUANTIZERS[name].recipes if not parse(recipe).half
]
"""Where biases are corrected by edgekit; NNCF does it by itself, and half floats leave nothing to correct."""

STATIC = [name for name in INT8 if "static_wi8_ai8" in QUANTIZERS[name].recipes]
FLOOR_DB = 30.0
"""Every recipe reaches this on the small network, and none does with one scale off by half."""

HALVES_DB = 60.0
"""What half floats reach on it."""


@pytest.mark.parametrize("name", INT8)
def test_what_stays_float_is_known_by_its_structure(name: str, floats: Callable[[str], Path]) -> None:
    layers, why = choice(name, "wi8_weightonly", floats(name))

    assert Counter(why.values()) == small.FLOAT
    assert Counter(layer.kind for layer in layers if layer.name not in why) == small.INT8
    if name == "openvino":  # the others merge layers with what is around them, and name the whole
        assert {layer.module for layer in layers if why.get(layer.name) == "gate"} == {"squeeze", "excite"}


@pytest.mark.parametrize(("name", "recipe"), EVERY)
def test_what_was_chosen_is_int8_in_the_file_and_nothing_else(
    name: str, recipe: str, floats: Callable[[str], Path], made: Make
) -> None:
    layers, why = choice(name, recipe, floats(name))

    found = QUANTIZERS[name].load().quantized(made(name, recipe))

    assert found == {layer.name for layer in layers} - set(why)
    assert len(found) == {("onnx", "dynamic_wi8"): 1}.get((name, recipe), 7 if recipe == "fp16" else 3)
    assert QUANTIZERS[name].load().quantized(floats(name)) == frozenset()


@pytest.mark.parametrize(("name", "recipe"), EVERY)
def test_the_numbers_agree(name: str, recipe: str, floats: Callable[[str], Path], made: Make) -> None:
    assert snr_db(name, floats(name), made(name, recipe)) > (HALVES_DB if recipe == "fp16" else FLOOR_DB)


@pytest.mark.parametrize(("name", "recipe"), EVERY)
def test_files_tell_what_they_are(name: str, recipe: str, made: Make) -> None:
    with load(QUANTIZERS[name].runtime, made(name, recipe)) as runner:
        assert runner.metadata() == small.METADATA
        assert [(spec.name, spec.shape) for spec in runner.inputs] == [("input", small.SHAPE)]
        assert runner.run(next(small.held_out()))["logits"].dtype == np.float32


@pytest.mark.parametrize(("name", "recipe"), EVERY)
def test_the_same_inputs_give_the_same_bytes(
    name: str, recipe: str, floats: Callable[[str], Path], made: Make, tmp_path: Path
) -> None:
    first = made(name, recipe)
    again = write(name, recipe, floats(name), tmp_path / first.name)
    assert again.read_bytes() == first.read_bytes()
    if name in ("openvino", "ncnn"):
        assert again.with_suffix(".bin").read_bytes() == first.with_suffix(".bin").read_bytes()


@pytest.mark.parametrize("name", ["onnx", "tflite"])
def test_ranges_do_not_depend_on_the_order_of_the_images(
    name: str, floats: Callable[[str], Path], made: Make, tmp_path: Path
) -> None:
    first = made(name, "static_wi8_ai8")
    turned = write(
        name, "static_wi8_ai8", floats(name), tmp_path / first.name, lambda: reversed([*small.calibrating()])
    )
    assert turned.read_bytes() == first.read_bytes()


# -- ranges and biases ------------------------------------------------------------------------------------------------


def steps(name: str, path: Path) -> float:
    """The sum of the widths of all grids of activations."""
    if name == "onnx":
        graph = onnx.load(path).graph
        values = {each.name: float(numpy_helper.to_array(each)) for each in graph.initializer if not each.dims}
        return sum(values[node.input[1]] for node in graph.node if node.op_type == "QuantizeLinear")
    if name == "tflite":
        model: Any = schema.ModelT.InitFromPackedBuf(path.read_bytes(), 0)
        kinds = [(each, model.buffers[each.buffer].data is None) for each in model.subgraphs[0].tensors]
        return sum(float(each.quantization.scale[0]) for each, moves in kinds if moves and each.type == 9)
    nodes = openvino.Core().read_model(str(path)).get_ordered_ops()
    grids = [each for each in nodes if each.get_type_name() == "FakeQuantize"]
    ends = [[float(each.input_value(index).get_node().data.max()) for index in (1, 2)] for each in grids]
    return sum(high - low for low, high in ends)


@pytest.mark.parametrize("name", STATIC)
def test_ranges_are_as_asked(name: str, floats: Callable[[str], Path], tmp_path: Path) -> None:
    found = {}
    for ranges in RANGES:
        target = tmp_path / ranges / floats(name).name
        target.parent.mkdir()
        found[ranges] = steps(name, write(name, "static_wi8_ai8", floats(name), target, ranges=ranges))
    assert found["minmax"] > found["mse"] > 0
    assert found["minmax"] > found["percentile"] > 0
    assert found["mse"] != found["percentile"]


def widest(path: Path) -> int:
    """The largest of the integers that weights are stored as, without its sign."""
    if path.suffix == ".onnx":
        stored = [numpy_helper.to_array(each) for each in onnx.load(path).graph.initializer]
    else:
        nodes = openvino.Core().read_model(path).get_ordered_ops()
        stored = [np.array(each.data) for each in nodes if each.get_type_name() == "Constant"]
    return max(int(abs(each.astype(int)).max()) for each in stored if each.dtype == np.int8 and each.ndim > 1)


@pytest.mark.parametrize(
    ("name", "recipe"), [("onnx", "static_wi8_ai8"), ("onnx", "dynamic_wi8"), ("openvino", "static_wi8_ai8")]
)
def test_weights_have_seven_bits_where_sums_of_two_products_would_not_fit(
    name: str, recipe: str, floats: Callable[[str], Path], made: Make, tmp_path: Path
) -> None:
    source = floats(name)
    narrow = write(name, recipe, source, tmp_path / source.name, short_sums=True)
    assert 60 < widest(narrow) <= 64
    assert 120 < widest(made(name, recipe)) <= 128
    assert snr_db(name, source, made(name, recipe)) > snr_db(name, source, narrow) > FLOOR_DB - 6


@pytest.mark.parametrize(("name", "recipe"), CORRECTED)
def test_correcting_biases_brings_the_outputs_closer(
    name: str, recipe: str, floats: Callable[[str], Path], made: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = floats(name)
    plain = snr_db(name, source, write(name, recipe, source, tmp_path / f"plain{source.suffix}", corrected=False))
    assert snr_db(name, source, made(name, recipe)) > plain + 1.0

    sound = bias.corrections
    monkeypatch.setattr(  # the twin: away from the mean error
        f"edgekit.quant.{name}_bias.corrections",
        lambda layers, runs: {layer: -change for layer, change in sound(layers, runs).items()},
    )
    assert snr_db(name, source, write(name, recipe, source, tmp_path / f"twin{source.suffix}")) < plain


# -- the twins: one scale is off by half ------------------------------------------------------------------------------


def disturb_onnx(path: Path, target: Path) -> Path:
    model = onnx.load(path)
    scale = next(each for each in model.graph.initializer if each.name.endswith("weight_scale"))
    scale.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(scale) * np.float32(1.5), scale.name))
    onnx.save(model, target)
    return target


def disturb_tflite(path: Path, target: Path) -> Path:
    from edgekit.flatbuffer import pack

    model: Any = schema.ModelT.InitFromPackedBuf(path.read_bytes(), 0)
    weight = next(
        each for each in model.subgraphs[0].tensors if each.type == schema.TensorType.INT8 and len(each.shape) == 4
    )
    weight.quantization.scale = [1.5 * each for each in weight.quantization.scale]
    target.write_bytes(pack(model))
    return target


def disturb_openvino(path: Path, target: Path) -> Path:
    model: Any = openvino.Core().read_model(str(path))
    layer = next(each for each in model.get_ordered_ops() if each.get_type_name() == "Convolution")
    scale = layer.input_value(1).get_node().input_value(1).get_node()
    values = openvino.opset13.constant(np.array(scale.data) * np.float32(1.5))
    layer.input_value(1).get_node().input(1).replace_source_output(values.output(0))
    openvino.save_model(model, str(target), compress_to_fp16=False)
    return target


DISTURB = {"onnx": disturb_onnx, "tflite": disturb_tflite, "openvino": disturb_openvino}


@pytest.mark.parametrize("name", STATIC)
def test_a_wrong_scale_shows(name: str, floats: Callable[[str], Path], made: Make, tmp_path: Path) -> None:
    sound = made(name, "static_wi8_ai8")
    twin = DISTURB[name](sound, tmp_path / f"twin{sound.suffix}")
    assert snr_db(name, floats(name), twin) < FLOOR_DB - 15.0


def test_a_wrong_scale_of_weights_shows_in_mnn(floats: Callable[[str], Path], made: Make, tmp_path: Path) -> None:
    """All of the stem's, which stand beside its least values, half as large again."""
    _, stem = next(QUANTIZERS["mnn"].load().weights(floats("mnn")))
    least, most = (edge(stem.reshape(16, -1), axis=1) for edge in (np.min, np.max))
    ranges = np.stack((least, (most - least) / np.float32(255)), axis=1)
    wrong = ranges * np.array([1.0, 1.5], np.float32)
    sound = made("mnn", "wi8_weightonly").read_bytes()
    assert sound.count(ranges.tobytes()) == 1
    twin = tmp_path / "twin.mnn"
    twin.write_bytes(sound.replace(ranges.tobytes(), wrong.tobytes()))

    assert snr_db("mnn", floats("mnn"), twin) < FLOOR_DB - 15.0


# -- half floats ------------------------------------------------------------------------------------------------------


def constants_of(path: Path) -> Path:
    """The file of two that holds the constants, or the one file."""
    return path.with_suffix(".bin") if path.suffix in (".xml", ".param") else path


@pytest.mark.parametrize("name", QUANTIZERS)
def test_half_floats_are_those_of_the_weights_and_take_half_the_room(
    name: str, floats: Callable[[str], Path], made: Make
) -> None:
    module = QUANTIZERS[name].load()
    content = constants_of(made(name, "fp16")).read_bytes()
    expected = {layer: values.astype(np.float16).tobytes() for layer, values in module.weights(floats(name))}
    stored = [*expected.values()]

    assert {layer: values.tobytes() for layer, values in module.halves(made(name, "fp16"))} == expected
    assert all(half in content for half in stored)
    assert {*module.weights(made(name, "fp16"))} == {*module.halves(floats(name))} == set()
    saved = constants_of(floats(name)).stat().st_size - len(content)
    assert sum(map(len, stored)) - saved < 4096  # what each format needs to say what is stored how


@pytest.mark.parametrize("name", QUANTIZERS)
def test_one_wrong_half_float_shows(name: str, floats: Callable[[str], Path], made: Make, tmp_path: Path) -> None:
    """The largest weight of the stem with its sign turned round."""
    sound = made(name, "fp16")
    _, weights = max(QUANTIZERS[name].load().weights(floats(name)), key=lambda each: each[1].ndim + each[1].size / 1e6)
    halves = weights.astype(np.float16).ravel()
    twin = Path(shutil.copy(sound, tmp_path))
    for other in {constants_of(sound)} - {sound}:
        shutil.copy(other, tmp_path)
    content = constants_of(twin).read_bytes()
    wrong = halves.copy()
    wrong[np.abs(halves).argmax()] *= -1
    assert content.count(halves.tobytes()) == 1
    constants_of(twin).write_bytes(content.replace(halves.tobytes(), wrong.tobytes()))

    assert snr_db(name, floats(name), twin) < HALF_FLOOR_DB


def test_a_product_of_two_maps_has_no_weights(floats: Callable[[str], Path]) -> None:
    """Every layer of the small network has some; its product is with a matrix per channel."""
    for name in QUANTIZERS:
        assert choice(name, "fp16", floats(name))[1] == {}


def test_onnx_runtime_and_openvino_compute_as_with_floats(
    floats: Callable[[str], Path], made: Make, tmp_path: Path
) -> None:
    kinds = [optimized(path, tmp_path) for path in (floats("onnx"), made("onnx", "fp16"))]
    assert kinds[0] == kinds[1]
    kinds = [compiled(path) for path in (floats("openvino"), made("openvino", "fp16"))]
    assert kinds[0] == kinds[1]


def compiled(path: Path) -> Counter[str]:
    """The operators OpenVINO makes of a file."""
    model: Any = openvino.compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}).get_runtime_model()
    return Counter(str(each.get_rt_info()["layerType"].value) for each in model.get_ordered_ops())
