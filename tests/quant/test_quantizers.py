"""Every quantizer on a small network: what became int8 is read back, the numbers agree, and a wrong scale shows."""

import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import openvino
import pytest
import torch
from ai_edge_litert import schema_py_generated as schema
from onnx import numpy_helper
from torch import nn

from edgekit.filegraph import read_graph
from edgekit.numerics import compare_one
from edgekit.quant import QUANTIZERS, bias
from edgekit.quant.base import Feed, Job, Layer
from edgekit.quant.recipe import RANGES, parse
from edgekit.quantize import HALF_FLOOR_DB, choose
from edgekit.quiet import silenced
from edgekit.runners import load
from tests.quant import small
from tests.sealed import sealed

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

Make = Callable[[str, str], Path]


@pytest.fixture(scope="module")
def floats(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Format to the small network's float file, written when first asked for."""

    @cache
    def written(name: str) -> Path:
        with silenced():
            return small.write(name, tmp_path_factory.mktemp(name))

    return written


def choice(name: str, recipe: str, path: Path) -> tuple[tuple[Layer, ...], Mapping[str, str]]:
    """The layers of a float file, and why some of them stay float."""
    found = choose(path, QUANTIZERS[name], QUANTIZERS[name].recipe(recipe))
    return found.layers, found.why


def write(
    name: str,
    recipe: str,
    source: Path,
    target: Path,
    feeds: Callable[[], Any] = small.calibrating,
    **options: Any,
) -> Path:
    """Quantizes what the recipe chooses."""
    layers, why = choice(name, recipe, source)
    chosen = frozenset(layer.name for layer in layers) - frozenset(why)
    quantizer = QUANTIZERS[name]
    job = Job(quantizer.recipe(recipe), chosen, feeds, small.IMAGES, **options)
    with silenced():
        files = quantizer.load().quantize(source, job, target)
    assert files[0] == target
    return target


@pytest.fixture(scope="module")
def made(floats: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Make:
    """(format, recipe) to the quantized file, written when first asked for."""
    folder = tmp_path_factory.mktemp("quantized")

    @cache
    def written(name: str, recipe: str) -> Path:
        source = floats(name)
        return write(name, recipe, source, folder / f"{name}-{recipe}{source.suffix}")

    return written


def snr_db(name: str, source: Path, target: Path, feeds: Iterable[Feed] = ()) -> float:
    """How close a file comes to another on held-out inputs."""
    outputs = []
    for path in (source, target):
        with load(QUANTIZERS[name].runtime, path) as runner:
            outputs.append(np.concatenate([runner.run(feed)["logits"] for feed in feeds or small.held_out()]))
    return compare_one(*outputs).snr_db


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


# -- traps ------------------------------------------------------------------------------------------------------------


def optimized(path: Path, folder: Path) -> Counter[str]:
    """The operators ONNX Runtime makes of a file."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(folder / "optimized.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return Counter(node.op_type for node in onnx.load(folder / "optimized.onnx").graph.node)


def test_onnx_runtime_fuses_static_layers_into_integer_kernels(made: Make, tmp_path: Path) -> None:
    found = optimized(made("onnx", "static_wi8_ai8"), tmp_path)
    assert found["QLinearConv"] == 2
    assert found["QGemm"] + found["QLinearMatMul"] == 1


def test_onnx_runtime_fuses_dynamic_layers(made: Make, tmp_path: Path) -> None:
    found = optimized(made("onnx", "mixed_wi8_ai8"), tmp_path)
    assert found["QLinearConv"] == 2
    assert found["DynamicQuantizeMatMul"] + found["MatMulIntegerToFloat"] == 1


def test_activations_of_onnx_are_unsigned(made: Make) -> None:
    graph = onnx.load(made("onnx", "static_wi8_ai8")).graph
    kinds = {constant.name: constant.data_type for constant in graph.initializer}
    points = [kinds[node.input[2]] for node in graph.node if node.op_type == "QuantizeLinear"]
    assert len(points) >= 4
    assert set(points) == {onnx.TensorProto.UINT8}


def test_an_activation_that_only_clips_goes_into_the_range_before_it(floats: Callable[[str], Path], made: Make) -> None:
    """The stem's does; that of the gate stays, with the gate."""
    kinds = [
        Counter(node.op_type for node in onnx.load(path).graph.node)
        for path in (floats("onnx"), made("onnx", "static_wi8_ai8"))
    ]
    assert [each["Relu"] for each in kinds] == [2, 1]


def test_onnx_runtime_leaves_depthwise_layers_float(tmp_path: Path) -> None:
    """It would quantize a float convolution between two conversions, with one scale for all channels."""
    torch.manual_seed(0)
    depthwise = nn.Conv2d(8, 8, 3, groups=8)
    network = nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU(), depthwise, nn.ReLU(), nn.Conv2d(8, 4, 1), nn.Flatten())
    source = tmp_path / "net.onnx"
    image = torch.zeros(small.SHAPE)
    with silenced():
        torch.onnx.export(network.eval(), (image,), source, dynamo=True, input_names=["input"], external_data=False)
        quantized = write("onnx", "static_wi8_ai8", source, tmp_path / "int8.onnx")
    found = optimized(quantized, tmp_path)
    assert (found["QLinearConv"], found["Conv"] + found["FusedConv"]) == (2, 1)


def test_the_head_of_another_width_survives_dynamic_quantization(made: Make) -> None:
    """Shapes noted by the exporter would contradict the weight, which the quantizer turns round."""
    graph = onnx.load(made("onnx", "dynamic_wi8")).graph
    assert [node.op_type for node in graph.node].count("MatMulInteger") == 1
    onnx.shape_inference.infer_shapes(onnx.load(made("onnx", "dynamic_wi8")), strict_mode=True)


def test_a_product_of_tflite_stays_float(made: Make) -> None:
    for recipe in ("static_wi8_ai8", "dynamic_wi8"):
        graph = read_graph("tflite", made("tflite", recipe))
        products = [node for node in graph.nodes.values() if node.kind == "BATCH_MATMUL"]
        assert len(products) == 1
        assert graph.sizes[products[0].operands[1]] == 16 * 8 * 8 * 4 or graph.sizes[products[0].operands[0]] == 4096


@pytest.mark.parametrize(("recipe", "scales"), [("dynamic_wi8", 1), ("static_wi8_ai8", 10)])
def test_a_linear_layer_of_tflite_has_one_scale_in_dynamic_form(recipe: str, scales: int, made: Make) -> None:
    """The ARM tests show what becomes of it in tflite-runtime 2.14; convolutions have one for each channel in both."""
    model: Any = schema.ModelT.InitFromPackedBuf(made("tflite", recipe).read_bytes(), 0)
    found = {tuple(each.shape): each.quantization for each in model.subgraphs[0].tensors if each.quantization}
    assert len(found[10, 24].scale) == scales
    assert len(found[24, 1, 1, 16].scale) == 24


def test_constants_of_tflite_are_inside_the_flatbuffer(made: Make) -> None:
    model: Any = schema.ModelT.InitFromPackedBuf(made("tflite", "dynamic_wi8").read_bytes(), 0)
    assert {buffer.offset for buffer in model.buffers} == {0}


def test_openvino_still_asks_for_float32(made: Make) -> None:
    model: Any = openvino.Core().read_model(str(made("openvino", "static_wi8_ai8")))
    assert model.get_rt_info(["runtime_options", "INFERENCE_PRECISION_HINT"]).value == "f32"


QUANTIZE_ALONE = """
import sys
from pathlib import Path
import edgekit.quant.openvino as quantizer
from edgekit.quant.base import Job
from edgekit.quant.recipe import RECIPES
from tests.quant import small
source, target = map(Path, sys.argv[1:])
chosen = frozenset(layer.name for layer in quantizer.layers(source) if layer.kind == "convolution")
quantizer.quantize(source, Job(RECIPES["static_wi8_ai8"], chosen, small.calibrating, small.IMAGES), target)
assert not [name for name in sys.modules if name.startswith("openvino_telemetry.")]
"""


@pytest.mark.slow
def test_nncf_reports_to_nobody(floats: Callable[[str], Path], tmp_path: Path) -> None:
    source = floats("openvino")
    environment = {**os.environ, **sealed(tmp_path), "HOME": str(tmp_path)}
    command = [sys.executable, "-c", QUANTIZE_ALONE, str(source), str(tmp_path / "alone.xml")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert not (tmp_path / "intel").exists()
