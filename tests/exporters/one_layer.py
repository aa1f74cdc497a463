"""Small networks on their way to a format: with the passes that lower for it, or without."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from edgekit.artifact import Shape, TensorSpec
from edgekit.capture import capture
from edgekit.exporters import EXPORTERS
from edgekit.exporters.base import Candidate, ExportSpec
from edgekit.numerics import compare_one
from edgekit.passes.base import apply, prove
from edgekit.passes.lower import LOWERINGS
from edgekit.program import Program, run
from edgekit.runners import load

SHAPE: Shape = (1, 8, 6, 5)

Function = Callable[[Tensor], Tensor]


class Net(nn.Module):
    """A function of what a 1x1 convolution makes of the input; its weights are from a seed."""

    def __init__(self, function: Function) -> None:
        super().__init__()
        self.function = function
        self.convolution = nn.Conv2d(8, 8, 1)
        with torch.no_grad():
            for index, parameter in enumerate(self.parameters()):
                parameter.copy_(image(tuple(parameter.shape), seed=index + 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.convolution(x))


def image(shape: Shape = SHAPE, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def program(function: Function) -> Program:
    return capture(Net(function).eval(), SHAPE)


def described(program: Program) -> ExportSpec:
    (output,) = run(program, image())
    return ExportSpec(
        (TensorSpec(name="input", shape=SHAPE),), (TensorSpec(name="out", shape=tuple(output.shape)),), {}
    )


def lowered(program: Program, runtime: str) -> Program:
    proven = prove(program, [(image(),)])
    for rewrite in LOWERINGS[runtime, "fp32"].passes:
        proven, _ = apply(rewrite, proven, [(image(),)], 120.0)
    return proven.program


def written(program: Program, name: str, folder: Path) -> tuple[Candidate, ...]:
    """What the exporter of a format makes of a program as it is."""
    return EXPORTERS[name].load()(program, described(program), folder, "net")


def snr_db(program: Program, runtime: str, path: Path) -> float:
    """How close a file in its runtime comes to a program in torch, both in float32."""
    (expected,) = run(program, image())
    with load(runtime, path) as runner:
        found = runner.run({"input": image().numpy()})["out"]
    return compare_one(expected.double().numpy(), found).snr_db
