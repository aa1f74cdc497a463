"""GELUs that were written by hand, found in every order, and what only looks like one."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from edgekit.artifact import Shape
from edgekit.capture import capture
from edgekit.errors import ParityError
from edgekit.passes.base import Log, apply, prove
from edgekit.passes.lower.whole_gelu import WholeGelu
from edgekit.program import Program, clone, operator_counts
from tests.passes.materialising import image, probes, proved

SHAPE: Shape = (1, 4, 6, 5)
ROUNDED_CONSTANT_DB = 150.0
ROOT = math.sqrt(2.0)

Function = Callable[[Tensor], Tensor]


class Net(nn.Module):
    """A function of twice the input, with the numbers of an exported network as constants."""

    def __init__(self, function: Callable[..., Tensor], *numbers: float) -> None:
        super().__init__()
        self.function = function
        self.numbers = nn.ParameterList(nn.Parameter(torch.tensor(number)) for number in numbers)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x * 2.0, *self.numbers)


GELUS = {
    "as in the paper": Net(lambda x: x * 0.5 * (1.0 + torch.erf(x / ROOT))),
    "the half last": Net(lambda x: x * (torch.erf(x * 0.70710678) + 1) * 0.5),
    "divided": Net(lambda x: (1 + torch.erf(x / ROOT)) * x / 2),
    "half of the sum": Net(lambda x: 0.5 * (1.0 + torch.erf(x / ROOT)) * x),
    "half of x on the right": Net(lambda x: (1.0 + torch.special.erf(x / ROOT)) * (x / 2.0)),
    "constants in float32": Net(lambda x, a, b, c: x * (torch.erf(x / a) + b) * c, ROOT, 1.0, 0.5),
}

OTHERS = {
    "error function alone": Net(torch.erf),
    "another scale": Net(lambda x: x * 0.5 * (1.0 + torch.erf(x * 0.7))),
    "another sum": Net(lambda x: x * 0.5 * (2.0 + torch.erf(x / ROOT))),
    "another factor": Net(lambda x: x * 0.6 * (1.0 + torch.erf(x / ROOT))),
    "another argument": Net(lambda x: (x + 1.0) * 0.5 * (1.0 + torch.erf(x / ROOT))),
    "twice x": Net(lambda x: x * (1.0 + torch.erf(x / ROOT)) * x),
    "a scaled sum": Net(lambda x: x * 0.5 * torch.add(torch.ones_like(x), torch.erf(x / ROOT), alpha=2)),
    "the sum is used elsewhere": Net(lambda x: (total := 1.0 + torch.erf(x / ROOT)) * x * 0.5 + total),
}


def captured(network: Net) -> Program:
    return capture(network.eval(), SHAPE)


@pytest.mark.parametrize("which", GELUS)
def test_it_is_found_in_every_order(which: str) -> None:
    before = prove(captured(GELUS[which]), probes(SHAPE))
    after, certificate = proved(WholeGelu(), before, SHAPE, ROUNDED_CONSTANT_DB)
    assert certificate.fired == {"whole-gelu": 1}
    assert operator_counts(after.program) == {"mul": 1, "gelu": 1}


@pytest.mark.parametrize("which", OTHERS)
def test_others_are_left_and_told(which: str) -> None:
    program, log = clone(captured(OTHERS[which])), Log()
    WholeGelu()(program, log)
    assert not log.fired
    assert [refusal.reason for refusal in log.declined] == ["the error function is not part of a GELU"]


class Wrong(WholeGelu):
    """The pass, that takes another value for the argument."""

    def __call__(self, program: Program, log: Log) -> None:
        super().__call__(program, log)
        (gelu,) = program.graph.find_nodes(op="call_function", target=torch.ops.aten.gelu.default)
        gelu.args = (gelu.args[0].args[0],)


def test_a_wrong_argument_is_noticed() -> None:
    before = prove(captured(GELUS["as in the paper"]), [(image(SHAPE),)])
    with pytest.raises(ParityError, match="'whole-gelu' changed the network"):
        apply(Wrong(), before, [(image(SHAPE),)], ROUNDED_CONSTANT_DB)
