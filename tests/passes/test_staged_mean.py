"""Means over height and width, one axis at a time."""

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from edgekit.artifact import TensorSpec, WeightsSource
from edgekit.capture import capture, output_specs
from edgekit.exporters.base import Candidate
from edgekit.inputs import generate
from edgekit.network import Network, numpy_forward, rewrite
from edgekit.passes.base import Log, apply, prove
from edgekit.passes.lower.staged_mean import StagedMean
from edgekit.program import Program, clone, finish, operator_counts, run
from edgekit.reference import model_in_float64
from edgekit.verify import reference, verify_file

Write = Callable[[Network, str, Path], tuple[Candidate, ...]]
WriteProgram = Callable[[Network, Program, str, Path], tuple[Candidate, ...]]

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


@pytest.mark.parametrize(("least", "fired"), [(120, 1), (121, 0)])
def test_a_runtime_decides_from_how_many_values_on(least: int, fired: int) -> None:
    program, log = clone(capture(Mean(lambda x: x.mean((2, 3))).eval(), SHAPE)), Log()

    StagedMean(least_terms=least)(program, log)

    assert log.fired.total() == fired


def test_a_large_map_is_averaged_better_than_in_one_go(
    write: Write, write_program: WriteProgram, tmp_path: Path
) -> None:
    """In ONNX Runtime, where only large ones are staged: 128 x 128 values. Simplifying makes one mean of them again."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), Mean(lambda x: x.mean((2, 3)))).eval()
    inputs = (TensorSpec(name="input", shape=(1, 3, 128, 128), layout="NCHW"),)
    captured = capture(model, inputs[0].shape)
    exact, rounded = numpy_forward(model_in_float64(model)), numpy_forward(model)
    against = reference(inputs, output_specs(captured), generate(inputs), exact, rounded)
    network = rewrite(captured, WeightsSource(kind="model"), against, {}, lambda _: nullcontext())

    _, staged = write(network, "onnx", tmp_path)
    better = {each.case: each.parity.snr_db for each in verify_file("onnxruntime", staged.files[0], against)}
    _, at_once = write_program(network, captured, "onnx", tmp_path)
    worse = {each.case: each.parity.snr_db for each in verify_file("onnxruntime", at_once.files[0], against)}

    assert better["edges"] > worse["edges"] + 6.0
