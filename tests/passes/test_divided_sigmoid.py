"""Sigmoids as quotients: exact everywhere, at infinities too, and in TFLite as exact as float32."""

import pytest
import torch
from torch import nn

from edgekit.artifact import Shape
from edgekit.capture import capture
from edgekit.errors import ParityError
from edgekit.passes.base import apply, prove
from edgekit.passes.lower import LOWERINGS
from edgekit.passes.lower.divided_sigmoid import DividedSigmoid
from edgekit.program import Program, operator_counts, run
from edgekit.reference import program_in_float64
from tests.passes.materialising import image, probes, proved

SHAPE: Shape = (1, 4, 6, 5)
FLOAT32_DB = 130.0
EXACT_DB = 280.0


def rewritten(module: nn.Module, shape: Shape = SHAPE) -> Program:
    after, certificate = proved(
        DividedSigmoid(), prove(capture(module.eval(), shape), probes(shape)), shape, FLOAT32_DB
    )
    assert certificate.fired == {"divided-sigmoid": 1}
    assert certificate.parity.snr_db > EXACT_DB
    return after.program


@pytest.mark.parametrize(
    ("module", "operators"),
    [
        (nn.SiLU(), {"neg": 1, "exp": 1, "add": 1, "div": 1}),
        (nn.Sigmoid(), {"neg": 1, "exp": 1, "add": 1, "reciprocal": 1}),
    ],
)
def test_it_is_an_exponential_and_a_quotient(module: nn.Module, operators: dict[str, int]) -> None:
    assert operator_counts(rewritten(module)) == operators


@pytest.mark.parametrize("module", [nn.SiLU(), nn.Sigmoid()])
def test_nothing_overflows(module: nn.Module) -> None:
    x = torch.tensor([0.0, 1.0, -1.0, 80.0, -80.0, 1e4, -1e4, 3e38, -3e38])
    (found,) = run(rewritten(module, tuple(x.shape)), x)
    assert torch.allclose(found, module(x), rtol=1e-6, atol=1e-30)


def test_it_is_the_same_function_everywhere() -> None:
    x = torch.linspace(-90, 90, 200_001)
    (found,) = program_in_float64(rewritten(nn.SiLU(), tuple(x.shape)))(x)
    assert torch.allclose(found, nn.functional.silu(x.double()), rtol=1e-12, atol=1e-30)


def test_another_constant_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgekit.passes.lower.divided_sigmoid.ONE", 1.0001)
    before = prove(capture(nn.SiLU().eval(), SHAPE), [(image(SHAPE),)])
    with pytest.raises(ParityError, match="'divided-sigmoid' changed the network"):
        apply(DividedSigmoid(), before, [(image(SHAPE),)], FLOAT32_DB)


def test_only_for_tflite_in_float() -> None:
    asks = {
        key for key, lowering in LOWERINGS.items() if any(isinstance(each, DividedSigmoid) for each in lowering.passes)
    }
    assert asks == {("tflite", "fp32")}
