"""Small layers and networks to fuse, and a fusion that checks that the network is still the same."""

from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from edgekit.artifact import Refusal
from edgekit.capture import capture
from edgekit.numerics import snr_db
from edgekit.passes.base import Log
from edgekit.passes.fuse import FuseOptions, RegionCertificate, fuse
from edgekit.passes.materialise import MATERIALISE
from edgekit.program import Program, clone, finish, run, stats
from edgekit.reference import program_in_float64

SHAPE = (2, 8, 12, 12)


class Calls(nn.Module):
    """A module whose forward is a function of its layers and its input."""

    def __init__(self, forward: Callable[..., Tensor], **layers: nn.Module) -> None:
        super().__init__()
        for name, layer in layers.items():
            self.add_module(name, layer)
        self.function = forward

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, x)


def norm(channels: int = 8) -> nn.BatchNorm2d:
    layer = nn.BatchNorm2d(channels)
    randomise(layer)
    return layer


def randomise(module: nn.Module) -> None:
    for layer in module.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            cast("Tensor", layer.running_mean).normal_(0, 0.2)
            cast("Tensor", layer.running_var).uniform_(0.5, 2)
        if isinstance(layer, (nn.modules.batchnorm._BatchNorm, nn.LayerNorm, nn.GroupNorm)):
            nn.init.uniform_(layer.weight, 0.7, 1.3)
            nn.init.normal_(layer.bias, 0, 0.2)


def conv(kernel: int = 3, stride: int = 1, groups: int = 1, c_in: int = 8, c_out: int = 8, **more: object) -> nn.Conv2d:
    options = {"padding": kernel // 2, "bias": False, **more}
    return nn.Conv2d(c_in, c_out, kernel, stride, groups=groups, **options)  # type: ignore[arg-type]


def fused(
    model: nn.Module, shape: tuple[int, ...] = SHAPE, options: FuseOptions | None = None
) -> tuple[Program, tuple[RegionCertificate, ...], tuple[Refusal, ...]]:
    """Fuses a model and checks, in float64 and in float32, that it is still the same."""
    program = materialised(capture(model.eval(), shape))
    result = fuse(program, options)
    probe = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    expected = program_in_float64(program)(probe)[0].numpy()

    assert snr_db(expected, program_in_float64(result[0])(probe)[0].numpy()) >= 125
    assert snr_db(expected, run(result[0], probe)[0].double().numpy()) >= 110
    assert stats(result[0]).macs <= stats(program).macs

    return result


def materialised(program: Program) -> Program:
    for rewriting in MATERIALISE:
        program = clone(program)
        rewriting(program, Log())
        finish(program)
    return program


def reasons(refusals: Sequence[Refusal]) -> str:
    return "\n".join(f"{refusal.site}: {refusal.reason}" for refusal in refusals)
