"""Zeros in front of a max pool, which ONNX Runtime loses: concatenated, for ONNX Runtime only."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from edgekit.artifact import Shape, TensorSpec
from edgekit.capture import capture
from edgekit.errors import ParityError
from edgekit.exporters.base import ExportSpec
from edgekit.exporters.onnx import export
from edgekit.numerics import snr_db
from edgekit.passes.base import Log, apply, prove
from edgekit.passes.lower import LOWERINGS
from edgekit.passes.lower.pooled_padding import PooledPadding
from edgekit.program import Program, clone, constant_names, finish, insert_constant, operator_counts, run
from edgekit.runners import load

EXACT_DB = 250.0
SHAPE: Shape = (1, 3, 6, 5)

Function = Callable[[Tensor], Tensor]


class Net(nn.Module):
    """A layer whose values are mostly negative, and a function of them."""

    def __init__(self, function: Function) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 4, 1)
        self.function = function
        with torch.no_grad():
            self.layer.weight.copy_(image((4, 3, 1, 1), seed=1))
            assert self.layer.bias is not None
            self.layer.bias.fill_(-2.0)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.layer(x))


def image(shape: Shape, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def captured(function: Function) -> Program:
    return capture(Net(function).eval(), SHAPE)


def padded_pool(x: Tensor) -> Tensor:
    """HGNetV2's stem."""
    return functional.max_pool2d(functional.pad(x, (0, 1, 0, 1)), 2, stride=1)


@pytest.mark.parametrize(
    ("function", "concatenations"),
    [
        pytest.param(padded_pool, 2, id="right and below"),
        pytest.param(lambda x: functional.max_pool2d(functional.pad(x, (1, 2, 1, 0)), 3, 2), 2, id="around"),
        pytest.param(lambda x: functional.max_pool2d(functional.pad(x, (0, 0, 2, 0)), 2), 1, id="above only"),
        pytest.param(lambda x: functional.max_pool1d(functional.pad(x[0], (0, 1)), 2), 1, id="one axis"),
        pytest.param(lambda x: nn.ZeroPad2d(1)(x).sum() + padded_pool(x), 2, id="only the one that is pooled"),
    ],
)
def test_zeros_are_concatenated(function: Function, concatenations: int) -> None:
    before = prove(captured(function), [(image(SHAPE),)])

    after, certificate = apply(PooledPadding(), before, [(image(SHAPE),)], EXACT_DB)

    assert certificate.fired == {"pooled-padding": 1}
    assert operator_counts(after.program)["cat"] == concatenations
    assert operator_counts(after.program)["pad"] == operator_counts(before.program)["pad"] - 1
    assert run(after.program, image(SHAPE))[0].equal(run(before.program, image(SHAPE))[0])


@pytest.mark.parametrize(
    "function",
    [
        pytest.param(lambda x: padded_pool(x.relu()), id="nothing negative"),
        pytest.param(lambda x: functional.max_pool2d(functional.pad(x, (0, 1), value=1.0), 2), id="ones"),
        pytest.param(lambda x: functional.max_pool2d(functional.pad(x, (0, 1), value=-torch.inf), 2), id="as pools do"),
        pytest.param(
            lambda x: functional.max_pool2d(functional.pad(x, (0, 1, 0, 1), mode="replicate"), 2), id="copies"
        ),
        pytest.param(lambda x: functional.max_pool2d(functional.pad(x, (1, -1)), 2), id="cropped"),
        pytest.param(lambda x: functional.avg_pool2d(functional.pad(x, (0, 1)), 2), id="average"),
        pytest.param(lambda x: functional.max_pool2d(functional.pad(x, (0, 1)).tanh(), 2), id="something between"),
    ],
)
def test_other_paddings_stay(function: Function) -> None:
    program, log = clone(captured(function)), Log()

    PooledPadding()(program, log)

    assert not log.fired
    finish(program)


class Wrong(PooledPadding):
    """The pass with one of the zeros disturbed."""

    def __call__(self, program: Program, log: Log) -> None:
        super().__call__(program, log)
        zeros = next(node for node in program.graph.find_nodes(op="get_attr") if "zeros" in str(node.target))
        disturbed = torch.zeros_like(zeros.meta["val"])
        disturbed[0, 1, 2, 0] = 1e-3
        zeros.replace_all_uses_with(insert_constant(program, zeros, "disturbed", disturbed))


def test_a_wrong_zero_is_noticed() -> None:
    with pytest.raises(ParityError, match="'pooled-padding' changed the network"):
        apply(Wrong(), prove(captured(padded_pool), [(image(SHAPE),)]), [(image(SHAPE),)], EXACT_DB)


def test_only_for_onnxruntime() -> None:
    asks = {
        runtime
        for (runtime, _), lowering in LOWERINGS.items()
        for each in lowering.after
        if isinstance(each, PooledPadding)
    }
    assert asks == {"onnxruntime"}


@pytest.mark.slow
def test_runtime_needs_it(tmp_path: Path) -> None:
    """Fails when ONNX Runtime has learned to keep the zeros; the pass can go then."""
    program = captured(padded_pool)
    after, _ = apply(PooledPadding(), prove(program, [(image(SHAPE),)]), [(image(SHAPE),)], EXACT_DB)
    expected = run(program, image(SHAPE))[0].double().numpy()

    found = {}
    for name, each in (("before", program), ("after", after.program)):
        spec = ExportSpec(
            (TensorSpec(name="input", shape=SHAPE, layout="NCHW"),),
            (TensorSpec(name="out", shape=expected.shape, layout="NCHW"),),
            {},
        )
        with load("onnxruntime", export(each, spec, tmp_path, name)[0].files[0]) as runner:
            output = runner.run({"input": image(SHAPE).numpy()})["out"]
            found[name] = snr_db(expected, output.astype(np.float64))
    assert found["before"] < 20.0, onnxruntime.__version__
    assert found["after"] > 120.0


def test_constants_are_named_for_what_they_are() -> None:
    after, _ = apply(PooledPadding(), prove(captured(padded_pool), [(image(SHAPE),)]), [(image(SHAPE),)], EXACT_DB)
    assert [name for name in constant_names(after.program) if "zeros" in name] == ["padding_zeros", "padding_zeros_1"]
