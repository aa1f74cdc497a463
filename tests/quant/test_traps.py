"""What quantizers and runtimes do without a word, and the files show that it is not done here."""

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import openvino
import pytest
import torch
from ai_edge_litert import schema_py_generated as schema
from torch import nn

from edgekit.filegraph import read_graph
from edgekit.quiet import silenced
from tests.quant import small
from tests.quant.quantizing import Make, optimized, write
from tests.sealed import sealed


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


@pytest.mark.parametrize(
    ("recipe", "architectures", "scales"),
    [
        ("dynamic_wi8", (), 1),
        ("dynamic_wi8", ("armv7l", "aarch64"), 1),
        ("dynamic_wi8", ("x86_64",), 10),
        ("static_wi8_ai8", ("armv7l",), 10),
    ],
)
def test_a_linear_layer_of_tflite_has_one_scale_in_dynamic_form_where_it_may_run_on_armv7(
    recipe: str, architectures: tuple[str, ...], scales: int, floats: Callable[[str], Path], tmp_path: Path
) -> None:
    """The ARM tests show what becomes of it in tflite-runtime 2.14; convolutions have one for each channel in both."""
    path = write("tflite", recipe, floats("tflite"), tmp_path / "made.tflite", architectures=architectures)
    model: Any = schema.ModelT.InitFromPackedBuf(path.read_bytes(), 0)
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
