"""Cross-layer equalisation: the channels between layers are evened out, and not a bit of the outputs changes."""

import pytest
import torch
from torch import Tensor, nn

from edgekit.capture import capture
from edgekit.errors import ParityError
from edgekit.inputs import natural
from edgekit.passes.base import Log, apply, prove
from edgekit.passes.lower.equalise import Equalise
from edgekit.program import Program, clone, constants

SHAPE = (1, 3, 12, 12)


class Separable(nn.Module):
    """conv -> ReLU -> depthwise -> conv, the channels between them some powers of two apart; then a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.expand, self.depthwise = nn.Conv2d(3, 16, 1), nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.project, self.head = nn.Conv2d(16, 8, 1), nn.Linear(8, 4)
        scale = torch.exp2(torch.linspace(-4, 4, 16))
        with torch.no_grad():
            self.expand.weight.mul_(scale[:, None, None, None])
            self.depthwise.weight.mul_(scale.flip(0)[:, None, None, None])

    def forward(self, x: Tensor) -> Tensor:
        x = self.project(self.depthwise(torch.relu(self.expand(x))))
        logits: Tensor = self.head(x.mean((2, 3)))
        return logits


def program(model: nn.Module, seed: int = 0) -> Program:
    torch.manual_seed(seed)
    return capture(model.eval(), SHAPE)


def made(model: nn.Module) -> tuple[Program, Program, Log]:
    """The program before and after, and what the pass says."""
    before = program(model)
    after, log = clone(before), Log()
    Equalise()(after, log)
    after.recompile()
    return before, after, log


def unevenness(of: Program, name: str) -> float:
    """The largest over the smallest largest weight of the output channels of a layer."""
    weight = next(value for key, value in reversed(list(constants(of))) if key.startswith(f"{name}.weight"))
    largest = weight.detach().abs().flatten(1).amax(1)
    return float(largest.max() / largest.min())


def test_it_fires_on_each_pair_and_evens_the_channels_out() -> None:
    before, after, log = made(Separable())
    assert dict(log.fired) == {"equalise": 2}
    assert unevenness(before, "expand") > 100
    assert unevenness(after, "expand") < 20
    assert unevenness(after, "depthwise") < 20


def test_not_a_bit_changes_in_float32() -> None:
    before, after, _ = made(Separable())
    image = torch.from_numpy(natural(SHAPE))
    torch.testing.assert_close(after(image), before(image), rtol=0, atol=0)


def test_the_certificate_says_so_in_float64() -> None:
    probes = [(torch.from_numpy(natural(SHAPE)),)]
    _, certificate = apply(Equalise(), prove(program(Separable()), probes), probes, 300.0)
    assert certificate.fired == {"equalise": 2}
    assert certificate.parity.max_abs == 0.0
    assert certificate.before == certificate.after


def test_a_second_time_there_is_nothing_to_do() -> None:
    _, after, _ = made(Separable())
    log = Log()
    Equalise()(after, log)
    assert not log.fired


class Between(Separable):
    """The same with something else than ReLU between the first two layers."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, x: Tensor) -> Tensor:
        x = self.expand(x)
        y = torch.relu(x)
        if self.kind != "sum":
            y = nn.functional.gelu(x) if self.kind == "gelu" else nn.functional.relu6(x)
        y = self.depthwise(y)
        logits: Tensor = self.head((self.project(y) + x.sum() if self.kind == "sum" else self.project(y)).mean((2, 3)))
        return logits


@pytest.mark.parametrize("kind", ["gelu", "relu6", "sum"])
def test_what_is_not_homogeneous_or_read_twice_is_left(kind: str) -> None:
    """Only the depthwise layer and the one behind it are a pair then."""
    before, _, log = made(Between(kind))
    assert dict(log.fired) == {"equalise": 1}
    assert unevenness(before, "expand") == unevenness(made(Between(kind))[1], "expand")


class Grouped(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 1, groups=2)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.second(self.first(x)).mean((2, 3))
        return y


def test_a_layer_with_groups_is_declined_with_the_reason() -> None:
    _, _, log = made(Grouped())
    assert not log.fired
    assert [(each.rule, each.site, each.reason) for each in log.declined] == [
        ("equalise", "first", "the layer behind it has groups")
    ]


class OneSided(Equalise):
    """The pass with a defect: what the first layer loses, the second does not get."""

    def __call__(self, program: Program, log: Log) -> None:
        kept = {name: value for name, value in constants(program) if name.startswith("project.weight")}
        super().__call__(program, log)
        for node in program.graph.nodes:
            if node.op == "get_attr" and str(node.target).startswith("project.weight"):
                node.target = next(iter(kept))


def test_scaling_one_side_only_is_found() -> None:
    probes = [(torch.from_numpy(natural(SHAPE)),)]
    with pytest.raises(ParityError, match="Pass 'equalise' changed the network"):
        apply(OneSided(), prove(program(Separable()), probes), probes, 120.0)
