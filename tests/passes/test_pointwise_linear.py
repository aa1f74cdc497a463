"""Pointwise convolutions beside transposes become linear layers, and no other convolution does."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from edgekit.capture import capture
from edgekit.passes.base import apply, prove
from edgekit.passes.lower.pointwise_linear import PointwiseLinear
from edgekit.program import operator_counts, run

SHAPE = (1, 8, 6, 5)


class Net(nn.Module):
    """A 1x1 convolution with a bias, and what a function makes of it."""

    def __init__(
        self,
        function: Callable[[nn.Module, Tensor], Tensor],
        kernel: int = 1,
        stride: int = 1,
        padding: int = 0,
        groups: int = 1,
    ) -> None:
        super().__init__()
        self.function = function
        self.layer = nn.Conv2d(8, 8, kernel, stride, padding, groups=groups)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.layer, x)


def to_last(x: Tensor) -> Tensor:
    return x.permute(0, 2, 3, 1)


def to_first(x: Tensor) -> Tensor:
    return x.permute(0, 3, 1, 2)


def after(layer: nn.Module, x: Tensor) -> Tensor:
    return torch.tanh(layer(to_first(torch.tanh(to_last(x)))))


def before(layer: nn.Module, x: Tensor) -> Tensor:
    return torch.tanh(to_last(layer(torch.tanh(x))))


def between(layer: nn.Module, x: Tensor) -> Tensor:
    return torch.tanh(to_last(layer(to_first(torch.tanh(to_last(x))))))


@pytest.mark.parametrize(
    ("function", "transposes"), [(after, 2), (before, 1), (between, 1)], ids=["after", "before", "between"]
)
def test_no_transpose_is_added(function: Callable[[nn.Module, Tensor], Tensor], transposes: int) -> None:
    torch.manual_seed(0)
    probe = torch.randn(SHAPE)
    proven = prove(capture(Net(function).eval(), SHAPE), [(probe,)])

    made, certificate = apply(PointwiseLinear(), proven, [(probe,)], gate_db=250.0)

    counts = operator_counts(made.program)
    assert certificate.fired == {"convolution": 1}
    assert (counts["conv2d"], counts["linear"], counts["permute"]) == (0, 1, transposes)
    torch.testing.assert_close(run(made.program, probe)[0], run(proven.program, probe)[0])


@pytest.mark.parametrize(
    ("function", "options", "declined"),
    [
        (lambda layer, x: torch.tanh(layer(x)), {}, 1),
        (lambda layer, x: torch.tanh(layer(torch.tanh(x))) + layer(x), {}, 2),
        (between, {"groups": 2}, 0),
        (between, {"stride": 2}, 0),
        (between, {"kernel": 3, "padding": 1}, 0),
        (between, {"padding": 1}, 0),
    ],
    ids=["alone", "twice", "grouped", "strided", "3x3", "padded"],
)
def test_what_would_cost_a_transpose_or_is_not_pointwise_stays(
    function: Callable[[nn.Module, Tensor], Tensor], options: dict[str, int], declined: int
) -> None:
    probe = torch.randn(SHAPE)
    proven = prove(capture(Net(function, **options).eval(), SHAPE), [(probe,)])

    made, certificate = apply(PointwiseLinear(), proven, [(probe,)], gate_db=250.0)

    assert made is proven
    assert len(certificate.declined) == declined
