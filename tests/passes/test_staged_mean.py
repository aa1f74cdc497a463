"""Means over height and width, one axis at a time."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from edgekit.capture import capture
from edgekit.passes.base import Log, apply, prove
from edgekit.passes.lower.staged_mean import StagedMean
from edgekit.program import clone, finish, operator_counts, run

SHAPE = (1, 3, 12, 10)


class Mean(nn.Module):
    """A network that only takes a mean."""

    def __init__(self, mean: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.mean = mean

    def forward(self, x: Tensor) -> Tensor:
        return self.mean(x) * 2.0


@pytest.mark.parametrize(
    "mean",
    [
        pytest.param(lambda x: x.mean((2, 3), keepdim=True), id="keepdim"),
        pytest.param(lambda x: x.mean((-1, -2)), id="dropped, negative, reversed"),
        pytest.param(lambda x: x.permute(0, 2, 3, 1).mean((1, 2)), id="channels last"),
        pytest.param(nn.AdaptiveAvgPool2d(1), id="pool to one pixel"),
    ],
)
def test_mean_over_a_map_is_taken_in_two_steps(mean: Callable[[Tensor], Tensor]) -> None:
    probe = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0))
    before = prove(capture(Mean(mean).eval(), SHAPE), [(probe,)])

    after, certificate = apply(StagedMean(), before, [(probe,)], gate_db=250.0)

    assert certificate.fired == {"staged-mean": 1}
    assert operator_counts(after.program)["mean"] == 2
    assert operator_counts(after.program)["adaptive_avg_pool2d"] == 0
    assert run(after.program, probe)[0].shape == run(before.program, probe)[0].shape


@pytest.mark.parametrize(
    "mean",
    [
        pytest.param(lambda x: x.mean(1), id="one axis"),
        pytest.param(lambda x: x.mean((1, 2, 3)), id="three axes"),
        pytest.param(nn.AdaptiveAvgPool2d(2), id="pool to more pixels"),
        pytest.param(lambda x: x[..., :7, :7].mean((2, 3)), id="small map"),
    ],
)
def test_other_means_stay(mean: Callable[[Tensor], Tensor]) -> None:
    program, log = clone(capture(Mean(mean).eval(), SHAPE)), Log()

    StagedMean()(program, log)

    assert not log.fired
    finish(program)
