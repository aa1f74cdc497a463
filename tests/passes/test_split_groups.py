"""Splitting wide groups: one dense convolution per group, nothing moved to get at them, and what is left alone."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from edgekit.artifact import Shape
from edgekit.capture import capture
from edgekit.errors import ParityError
from edgekit.passes.base import Log, apply, prove
from edgekit.passes.lower.split_groups import SplitGroups
from edgekit.program import Program, arguments, constant, constants, operator_counts, set_constant
from tests.passes.materialising import image, probes, proved

SHAPE: Shape = (2, 64, 9, 7)
EXACT_DB = 250.0

ATEN = torch.ops.aten

Function = Callable[[Tensor], Tensor]


class Net(nn.Module):
    """A grouped convolution of what a function gives."""

    def __init__(self, layer: nn.Module, function: Function = torch.relu) -> None:
        super().__init__()
        self.layer = layer
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        found = self.layer(self.function(x))
        assert isinstance(found, Tensor)
        return found


def halves(x: Tensor) -> Tensor:
    return torch.cat([x[:, :32].relu(), x[:, 32:].tanh()], 1)


def quarters(x: Tensor) -> Tensor:
    return torch.cat([part * (index + 1) for index, part in enumerate(x.chunk(4, 1))], -3)


def uneven(x: Tensor) -> Tensor:
    return torch.cat([x[:, :20].relu(), x[:, 20:].tanh()], 1)


def rows(x: Tensor) -> Tensor:
    return torch.cat([x[:, :, :2].relu(), x[:, :, 2:].tanh()], 2)


def convolution(groups: int = 2, made: int = 32, **options: int | bool) -> nn.Conv2d:
    return nn.Conv2d(64, made, 3, groups=groups, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("layer", "function", "counts"),
    [
        pytest.param(convolution(), torch.relu, {"conv2d": 2, "cat": 1, "slice": 2}, id="slices"),
        pytest.param(convolution(bias=False), torch.relu, {"conv2d": 2, "cat": 1, "slice": 2}, id="no bias"),
        pytest.param(convolution(stride=2, padding=1), torch.relu, {"conv2d": 2, "cat": 1, "slice": 2}, id="stride"),
        pytest.param(convolution(4, 64), torch.relu, {"conv2d": 4, "cat": 1, "slice": 4}, id="four groups"),
        pytest.param(convolution(), halves, {"conv2d": 2, "cat": 1, "slice": 2}, id="halves: the concatenation goes"),
        pytest.param(convolution(), quarters, {"conv2d": 2, "cat": 3, "slice": 0}, id="quarters: two by two"),
        pytest.param(convolution(), uneven, {"conv2d": 2, "cat": 2, "slice": 4}, id="borders elsewhere"),
        pytest.param(convolution(), rows, {"conv2d": 2, "cat": 2, "slice": 4}, id="concatenated along rows"),
    ],
)
def test_each_group_gets_a_convolution(layer: nn.Conv2d, function: Function, counts: dict[str, int]) -> None:
    before = prove(capture(Net(layer, function).eval(), SHAPE), probes(SHAPE))
    after, certificate = proved(SplitGroups(), before, SHAPE, EXACT_DB)
    assert certificate.fired == {"split-groups": 1}
    found = operator_counts(after.program)
    assert {name: found.get(name, 0) for name in counts} == counts
    made = after.program.graph.find_nodes(op="call_function", target=ATEN.conv2d.default)
    assert {arguments(node)["groups"] for node in made} == {1}
    weights = [constant(after.program, arguments(node)["weight"]) for node in made]
    assert sum(weight.numel() for weight in weights if weight is not None) == layer.weight.numel()


@pytest.mark.parametrize(
    ("layer", "shape", "declined"),
    [
        pytest.param(nn.Conv2d(64, 64, 3, groups=64), SHAPE, "", id="depthwise"),
        pytest.param(nn.Conv2d(64, 32, 3, groups=8), SHAPE, "", id="narrow groups"),
        pytest.param(nn.Conv2d(64, 16, 3, groups=2), SHAPE, "", id="few outputs"),
        pytest.param(nn.Conv2d(64, 32, 1, groups=2), (1, 64, 1, 1), "", id="one pixel"),
        pytest.param(nn.Conv2d(64, 32, 3, groups=2), (1, 64, 7, 5), "", id="15 pixels"),
        pytest.param(nn.Conv2d(64, 32, 3), SHAPE, "", id="one group"),
        pytest.param(
            nn.Conv2d(144, 144, 1, groups=9), (1, 144, 5, 4), "more than 8 groups", id="more groups than are worth it"
        ),
    ],
)
def test_what_is_left_alone(layer: nn.Conv2d, shape: Shape, declined: str) -> None:
    program = capture(Net(layer).eval(), shape)
    log = Log()
    SplitGroups()(program, log)
    assert not log.fired
    assert [entry.reason for entry in log.declined] == ([declined] if declined else [])
    assert operator_counts(program)["conv2d"] == 1


class Computed(nn.Module):
    """A convolution with weights that are computed from the input."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.conv2d(x, x[:1, :32, :3, :3].expand(32, 32, 3, 3), groups=2)


def test_computed_weights_are_declined() -> None:
    log = Log()
    SplitGroups()(capture(Computed().eval(), SHAPE), log)
    assert [entry.reason for entry in log.declined] == ["the layer's weight is computed"]


class Wrong(SplitGroups):
    """The pass, with one weight of the second group wrong."""

    def __call__(self, program: Program, log: Log) -> None:
        super().__call__(program, log)
        name, value = next((name, value) for name, value in constants(program) if "group1" in name)
        changed = value.clone()
        changed.view(-1)[7] *= 1.01
        second = next(node for node in program.graph.nodes if node.op == "get_attr" and node.target == name)
        second.target = set_constant(program, "wrong", changed)


def test_one_wrong_weight_is_noticed() -> None:
    before = prove(capture(Net(convolution()).eval(), SHAPE), [(image(SHAPE),)])
    with pytest.raises(ParityError, match="'split-groups' changed the network"):
        apply(Wrong(), before, [(image(SHAPE),)], EXACT_DB)
