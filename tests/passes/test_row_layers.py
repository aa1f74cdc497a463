"""Linear layers on one row of pixels, which TFLite's converter fails on: convolutions, for TFLite only."""

from collections.abc import Callable
from math import prod
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from edgekit.artifact import Shape, TensorSpec
from edgekit.capture import capture
from edgekit.errors import ConverterError, ParityError
from edgekit.exporters.base import ExportSpec
from edgekit.exporters.tflite import export
from edgekit.passes.base import Log, apply, prove
from edgekit.passes.lower import LOWERINGS
from edgekit.passes.lower.row_layers import RowLayers
from edgekit.program import Program, arguments, clone, constant, finish, insert_constant, operator_counts, run, stats
from edgekit.runners import load

EXACT_DB = 250.0
ROW: Shape = (1, 2, 1, 12)


class Net(nn.Module):
    """A layer with weights, and a sum behind it."""

    def __init__(self, layer: Callable[[nn.Linear, Tensor], Tensor], bias: bool = True) -> None:
        super().__init__()
        self.weights = nn.Linear(12, 8, bias=bias)
        self.layer = layer
        with torch.no_grad():
            for index, parameter in enumerate(self.parameters()):
                parameter.copy_(image(tuple(parameter.shape), seed=index + 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(self.weights, x) + 1.0


def image(shape: Shape, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def linear(weights: nn.Linear, x: Tensor) -> Tensor:
    return weights(x)  # type: ignore[no-any-return]


def captured(shape: Shape, layer: Callable[[nn.Linear, Tensor], Tensor] = linear, bias: bool = True) -> Program:
    return capture(Net(layer, bias).eval(), shape)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(1, 1, 1, 12), ROW, (1, 3, 1, 1, 12)])
def test_layer_on_one_row_is_a_convolution(shape: Shape, bias: bool) -> None:
    probe = image(shape)
    before = prove(captured(shape, bias=bias), [(probe,)])

    after, certificate = apply(RowLayers(), before, [(probe,)], EXACT_DB)

    assert certificate.fired == {"row-layers": 1}
    reshapes = {"reshape": 2} if len(shape) > 4 else {}
    assert operator_counts(after.program) == {"permute": 2, "conv2d": 1, "add": 1, **reshapes}
    assert stats(after.program).macs == stats(before.program).macs == prod(shape[:-1]) * 12 * 8
    assert run(after.program, probe)[0].shape == run(before.program, probe)[0].shape


def test_product_with_a_constant_matrix() -> None:
    matrix = image((12, 8), seed=3)
    before = prove(captured(ROW, lambda _, x: x @ matrix), [(image(ROW),)])

    after, certificate = apply(RowLayers(), before, [(image(ROW),)], EXACT_DB)

    assert certificate.fired == {"row-layers": 1}
    assert operator_counts(after.program) == {"permute": 2, "conv2d": 1, "add": 1}


@pytest.mark.parametrize(
    ("shape", "layer"),
    [
        pytest.param((1, 2, 2, 12), linear, id="a map"),
        pytest.param((1, 1, 2, 12), linear, id="a row that lies"),
        pytest.param((2, 1, 1, 12), linear, id="two images"),
        pytest.param((1, 1, 12), linear, id="three axes"),
        pytest.param((1, 12), linear, id="a matrix"),
        pytest.param(ROW, lambda _, x: x @ x.mT, id="computed matrix"),
    ],
)
def test_other_layers_stay(shape: Shape, layer: Callable[[nn.Linear, Tensor], Tensor]) -> None:
    program, log = clone(captured(shape, layer)), Log()

    RowLayers()(program, log)

    assert not log.fired
    finish(program)


class Wrong(RowLayers):
    """The pass with one weight disturbed."""

    def __call__(self, program: Program, log: Log) -> None:
        super().__call__(program, log)
        (layer,) = program.graph.find_nodes(op="call_function", target=torch.ops.aten.conv2d.default)
        weight = constant(program, arguments(layer)["weight"])
        assert weight is not None
        disturbed = weight.clone()
        disturbed[3, 5] += 1e-3
        layer.args = (layer.args[0], insert_constant(program, layer, "disturbed", disturbed), *layer.args[2:])


def test_a_wrong_weight_is_noticed() -> None:
    with pytest.raises(ParityError, match="'row-layers' changed the network"):
        apply(Wrong(), prove(captured(ROW), [(image(ROW),)]), [(image(ROW),)], EXACT_DB)


def test_only_for_tflite() -> None:
    asks = {
        runtime
        for (runtime, _), lowering in LOWERINGS.items()
        for each in lowering.after
        if isinstance(each, RowLayers)
    }
    assert asks == {"tflite"}


@pytest.mark.slow
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(1, 1, 1, 12), ROW, (1, 3, 1, 1, 12)])
def test_converter_needs_it(tmp_path: Path, shape: Shape, bias: bool) -> None:
    """Fails when the converter has learned to convert the layer; the pass can go then."""
    program = captured(shape, bias=bias)
    spec = ExportSpec(
        (TensorSpec(name="input", shape=shape, layout="NCHW"),),
        (TensorSpec(name="out", shape=(*shape[:-1], 8), layout="NCHW"),),
        {},
    )
    with pytest.raises(ConverterError):
        export(program, spec, tmp_path, "before")

    after, _ = apply(RowLayers(), prove(program, [(image(shape),)]), [(image(shape),)], EXACT_DB)
    (candidate,) = export(after.program, spec, tmp_path, "after")

    with load("tflite", candidate.files[0]) as runner:
        output = runner.run({"input": image(shape).numpy()})["out"]
    torch.testing.assert_close(torch.from_numpy(output), run(program, image(shape))[0])
