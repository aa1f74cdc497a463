"""Parts taken before a permutation: the same numbers, and the batch axis stays the first."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from edgekit.artifact import Shape
from edgekit.capture import capture
from edgekit.errors import ParityError
from edgekit.passes.base import Log, apply, prove
from edgekit.passes.lower.parts_first import PartsFirst
from edgekit.program import Program, arguments, operator_counts
from tests.passes.materialising import image, probes, proved

SHAPE: Shape = (1, 5, 12)
EXACT_DB = 250.0

Function = Callable[[Tensor], Tensor]


class Net(nn.Module):
    """A function of the input."""

    def __init__(self, function: Function) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def attention(x: Tensor) -> Tensor:
    """With queries, keys and values in one tensor, as in a vision transformer with two heads of two channels."""
    query, key, value = x.reshape(1, 5, 3, 2, 2).permute(2, 0, 3, 1, 4).unbind(0)
    return (query @ key.mT).softmax(-1) @ value


@pytest.mark.parametrize(
    ("function", "fired", "counts"),
    [
        pytest.param(attention, 1, {"select": 3, "permute": 3, "unbind": 0}, id="attention"),
        pytest.param(lambda x: x.permute(2, 0, 1)[3], 1, {"select": 1, "permute": 0}, id="order is kept"),
        pytest.param(lambda x: x.permute(2, 1, 0)[-1], 1, {"select": 1, "permute": 1}, id="from the end"),
        pytest.param(lambda x: torch.relu(x.unbind(-1)[4]), 1, {"select": 1, "unbind": 0}, id="no permutation"),
        pytest.param(lambda x: x[:, 2] * 2.0, 0, {"select": 1, "permute": 0}, id="nothing to do"),
    ],
)
def test_parts_are_taken_first(function: Function, fired: int, counts: dict[str, int]) -> None:
    before = prove(capture(Net(function).eval(), SHAPE), probes(SHAPE))
    after, certificate = proved(PartsFirst(), before, SHAPE, EXACT_DB)
    assert certificate.fired == ({"parts-first": fired} if fired else {})
    found = operator_counts(after.program)
    assert {name: found[name] for name in counts} == counts


def test_the_batch_axis_stays_the_first() -> None:
    before = prove(capture(Net(attention).eval(), SHAPE), probes(SHAPE))
    after, _ = proved(PartsFirst(), before, SHAPE, EXACT_DB)
    permutations = after.program.graph.find_nodes(op="call_function", target=torch.ops.aten.permute.default)
    assert [arguments(node)["dims"] for node in permutations] == [[0, 2, 1, 3]] * 3


class Wrong(PartsFirst):
    """The pass, that takes the neighbour of a part."""

    def __call__(self, program: Program, log: Log) -> None:
        super().__call__(program, log)
        node = next(iter(program.graph.find_nodes(op="call_function", target=torch.ops.aten.select.int)))
        node.args = (*node.args[:2], 1)


def test_a_wrong_part_is_noticed() -> None:
    before = prove(capture(Net(attention).eval(), SHAPE), [(image(SHAPE),)])
    with pytest.raises(ParityError, match="'parts-first' changed the network"):
        apply(Wrong(), before, [(image(SHAPE),)], EXACT_DB)
