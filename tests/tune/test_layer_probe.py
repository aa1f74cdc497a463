"""Test networks of layers hold the layer as it is in a network, in the precisions they are for."""

from pathlib import Path

import pytest

from edgekit.dense_layer import parse
from edgekit.errors import ConverterError
from edgekit.exporters import EXPORTERS
from edgekit.quant import QUANTIZERS
from edgekit.quiet import silenced
from edgekit.runners import load
from edgekit.tune.entries import why_wrong
from edgekit.tune.layer_probe import FLOAT, INT8, precision_contests, probe_program, probe_shape, three_layers
from edgekit.tune.precision import RIGHT_DB
from edgekit.tuning.tables import LayerMethod

LAYERS = [
    "convolution 8>12 at 9x7: 3x3 /2x2 padded 1x1x1x1, relu",
    "convolution 8>12 at 9x7: 3x3 dilated 2x1 padded 1x0x0x2",
    "convolution 8>8 at 4x4: 1x1, relu6",
    "linear 8>12 at 16",
    "linear 8>12",
]


def quantized(name: str, path: Path) -> int:
    return len(QUANTIZERS[name].load().quantized(path))


@pytest.mark.parametrize("layer", LAYERS)
def test_the_program_reads_and_gives_what_the_layer_does(layer: str) -> None:
    of = parse(layer)
    output = probe_program(of).graph.output_node().all_input_nodes[0].meta["val"]
    sides = output.shape[1:-1] if of.kind == "linear" else output.shape[2:]
    assert tuple(sides) == of.result
    assert probe_shape(of)[0] == 1


@pytest.mark.parametrize(
    ("layer", "method"), [(LAYERS[0], "static"), (LAYERS[2], "static"), (LAYERS[3], "static"), (LAYERS[4], "dynamic")]
)
def test_the_layer_alone_becomes_int8_and_all_three_where_they_share_borders(
    layer: str, method: LayerMethod, tmp_path: Path
) -> None:
    with silenced():
        contests = precision_contests(parse(layer), method, EXPORTERS["onnx"], QUANTIZERS["onnx"], tmp_path)

    counts = [[quantized("onnx", contest.files[name][0]) for name in (FLOAT, INT8)] for contest in contests]
    assert counts == ([[0, 1], [2, 3]] if method == "static" else [[0, 1]])
    for contest in contests:
        for name, files in contest.files.items():
            with load("onnxruntime", files[0]) as runner:
                output = next(iter(runner.run(contest.inputs).values()))
            assert why_wrong(contest.expected[name], output, RIGHT_DB) is None
            exact = contest is contests[0] and name == FLOAT
            assert (why_wrong(contest.expected[name], output) is None) == exact


@pytest.mark.slow
@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize(("name", "method"), [("tflite", "dynamic"), ("tflite", "static"), ("openvino", "static")])
def test_every_converter_writes_the_layer_as_it_is(layer: str, name: str, method: LayerMethod, tmp_path: Path) -> None:
    if "padded 1x0x0x2" in layer or (name == "tflite" and "padded" in layer):
        layer = layer.replace(" padded 1x1x1x1", "").replace(" padded 1x0x0x2", "")  # an operator of its own there
    contests = precision_contests(parse(layer), method, EXPORTERS[name], QUANTIZERS[name], tmp_path)
    assert [quantized(name, each.files[INT8][0]) for each in contests] == ([1, 3] if method == "static" else [1])


def test_a_layer_that_is_written_otherwise_by_itself_is_not_measured(tmp_path: Path) -> None:
    with silenced():
        (contest,) = precision_contests(
            parse("linear 8>12"), "dynamic", EXPORTERS["onnx"], QUANTIZERS["onnx"], tmp_path
        )
    path = contest.files[FLOAT][0]
    assert [str(each.dense) for each in three_layers(parse("linear 8>12"), QUANTIZERS["onnx"], path)][
        1
    ] == "linear 8>12"
    with pytest.raises(ConverterError, match=r"By itself linear 8>12 at 4 is written otherwise: .* linear 16>8, lin"):
        three_layers(parse("linear 8>12 at 4"), QUANTIZERS["onnx"], path)
