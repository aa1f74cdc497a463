"""GELU as a sigmoid: no further from the exact one than float32 is, everywhere, and only where it was meant to be."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from edgekit.artifact import Shape
from edgekit.capture import capture
from edgekit.errors import ParityError
from edgekit.passes.base import Log, apply, prove
from edgekit.passes.lower import LOWERINGS
from edgekit.passes.lower.sigmoid_gelu import COEFFICIENTS, SigmoidGelu
from edgekit.program import Program, clone, operator_counts, run
from edgekit.reference import program_in_float64
from tests.passes.materialising import image, probes, proved

SHAPE: Shape = (1, 4, 6, 5)
LARGEST_ERROR = 6.7e-8
FLOAT32_DB = 130.0

_ROUNDING = 2.0**-24


def rewritten(approximate: str = "none", shape: Shape = SHAPE) -> Program:
    program = capture(nn.GELU(approximate).eval(), shape)
    after, certificate = proved(SigmoidGelu(), prove(program, probes(shape)), shape, FLOAT32_DB)
    assert certificate.fired == {"sigmoid-gelu": 1}
    return after.program


def test_it_is_written_in_products_sums_and_one_sigmoid() -> None:
    terms = len(COEFFICIENTS) - 1
    assert operator_counts(rewritten()) == {"mul": 1 + terms + 2, "add": terms, "sigmoid": 1}


def test_it_is_within_half_a_rounding_of_gelu_everywhere() -> None:
    x = torch.cat([torch.linspace(-60, 60, 1_200_001), torch.logspace(-30, 30, 4001), -torch.logspace(-30, 30, 4001)])
    (found,) = program_in_float64(rewritten(shape=tuple(x.shape)))(x)
    assert (found - functional.gelu(x.double())).abs().max() < LARGEST_ERROR


def test_in_float32_it_rounds_like_gelu() -> None:
    x = torch.linspace(-8, 8, 400_001)
    (found,) = run(rewritten(shape=tuple(x.shape)), x)
    exact = functional.gelu(x.double())
    assert ((found.double() - exact).abs() / x.abs().double().clamp_min(1)).max() < 4 * _ROUNDING


def test_large_values_do_not_overflow() -> None:
    x = torch.tensor([1e4, -1e4, 1e10, -1e10, 3e38, -3e38])
    (found,) = run(rewritten(shape=tuple(x.shape)), x)
    assert torch.equal(found, x.clamp_min(0))


def test_the_approximation_by_tanh_is_left_alone() -> None:
    program, log = clone(capture(nn.GELU("tanh").eval(), SHAPE)), Log()
    SigmoidGelu()(program, log)
    assert not log.fired


def test_a_wrong_coefficient_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = (*COEFFICIENTS[:3], 1.001 * COEFFICIENTS[3], *COEFFICIENTS[4:])
    monkeypatch.setattr("edgekit.passes.lower.sigmoid_gelu.COEFFICIENTS", wrong)
    before = prove(capture(nn.GELU().eval(), SHAPE), [(image(SHAPE),)])
    with pytest.raises(ParityError, match="'sigmoid-gelu' changed the network"):
        apply(SigmoidGelu(), before, [(image(SHAPE),)], FLOAT32_DB)


def test_only_for_mnn() -> None:
    asks = {
        name for (name, _), lowering in LOWERINGS.items() for each in lowering.passes if isinstance(each, SigmoidGelu)
    }
    assert asks == {"mnn"}
