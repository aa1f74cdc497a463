"""Expanded operands, which TFLite's converter may fail on: left to broadcast, for TFLite only."""

from collections.abc import Callable
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
from edgekit.passes.lower.plain_broadcast import PlainBroadcast
from edgekit.program import Program, clone, finish, operator_counts, run
from edgekit.runners import load

EXACT_DB = 250.0
SHAPE: Shape = (1, 8, 4, 6)

Function = Callable[[Tensor], Tensor]


class Net(nn.Module):
    """A function of the input."""

    def __init__(self, function: Function) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


class Attention(nn.Module):
    """MobileViTv2's, with weights."""

    def __init__(self) -> None:
        super().__init__()
        self.projection = nn.Conv2d(8, 17, 1)
        self.output = nn.Conv2d(8, 8, 1)
        with torch.no_grad():
            for index, parameter in enumerate(self.parameters()):
                parameter.copy_(image(tuple(parameter.shape), seed=index + 1))

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.projection(x).split([1, 8, 8], dim=1)
        context = (key * query.softmax(-1)).sum(-1, keepdim=True)
        return self.output(value.relu() * context.expand_as(value))  # type: ignore[no-any-return]


def image(shape: Shape, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def column(x: Tensor) -> Tensor:
    return x.sum(-1, keepdim=True)


@pytest.mark.parametrize(
    "function",
    [
        pytest.param(lambda x: x * column(x).expand_as(x), id="expand_as"),
        pytest.param(lambda x: column(x).expand(1, 8, 4, 6) - x, id="expand, first operand"),
        pytest.param(lambda x: x / x.mean((0, 1, 2)).expand(1, 8, 4, 6), id="of fewer axes"),
    ],
)
def test_expansion_is_left_to_the_arithmetic(function: Function) -> None:
    before = prove(capture(Net(function).eval(), SHAPE), [(image(SHAPE),)])

    after, certificate = apply(PlainBroadcast(), before, [(image(SHAPE),)], EXACT_DB)

    assert certificate.fired == {"plain-broadcast": 1}
    assert operator_counts(after.program)["expand"] + operator_counts(after.program)["expand_as"] == 0
    assert run(after.program, image(SHAPE))[0].equal(run(before.program, image(SHAPE))[0])


@pytest.mark.parametrize(
    "function",
    [
        pytest.param(lambda x: column(x).expand_as(x) + column(x), id="the other operand is smaller"),
        pytest.param(lambda x: torch.cat([x, column(x).expand_as(x)]), id="no arithmetic"),
        pytest.param(lambda x: column(x).expand_as(x).mul(2.0), id="a number"),
    ],
)
def test_other_expansions_stay(function: Function) -> None:
    program, log = clone(capture(Net(function).eval(), SHAPE)), Log()

    PlainBroadcast()(program, log)

    assert not log.fired
    finish(program)


class Wrong(PlainBroadcast):
    """The pass with the operands of a product disturbed."""

    def __call__(self, program: Program, log: Log) -> None:
        super().__call__(program, log)
        (product,) = program.graph.find_nodes(op="call_function", target=torch.ops.aten.mul.Tensor)
        product.args = (product.args[0], product.args[0])


def test_a_wrong_operand_is_noticed() -> None:
    before = prove(capture(Net(lambda x: x * column(x).expand_as(x)).eval(), SHAPE), [(image(SHAPE),)])
    with pytest.raises(ParityError, match="'plain-broadcast' changed the network"):
        apply(Wrong(), before, [(image(SHAPE),)], EXACT_DB)


def test_only_for_tflite() -> None:
    asks = {
        name
        for (name, _), lowering in LOWERINGS.items()
        for each in lowering.passes
        if isinstance(each, PlainBroadcast)
    }
    assert asks == {"tflite"}


@pytest.mark.slow
def test_converter_needs_it(tmp_path: Path) -> None:
    """Fails when the converter has learned to convert the expansion; the pass can go then."""
    program = capture(Attention().eval(), SHAPE)
    spec = ExportSpec(
        (TensorSpec(name="input", shape=SHAPE, layout="NCHW"),),
        (TensorSpec(name="out", shape=SHAPE, layout="NCHW"),),
        {},
    )
    with pytest.raises(ConverterError, match="broadcast"):
        export(program, spec, tmp_path, "before")

    after, _ = apply(PlainBroadcast(), prove(program, [(image(SHAPE),)]), [(image(SHAPE),)], EXACT_DB)
    (candidate,) = export(after.program, spec, tmp_path, "after")

    with load("tflite", candidate.files[0]) as runner:
        output = runner.run({"input": image(SHAPE).numpy()})["out"]
    torch.testing.assert_close(torch.from_numpy(output), run(program, image(SHAPE))[0], rtol=1e-4, atol=1e-4)
