"""Programs to materialise, and the passes applied to them with proof."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from edgekit.artifact import Certificate, Shape
from edgekit.capture import capture
from edgekit.models.build import build
from edgekit.models.weights import random_weights
from edgekit.passes.base import Pass, Probes, Proven, apply, prove
from edgekit.program import Program, fingerprint

ROUNDED_ONCE_DB = 140.0
EXACT_DB = 250.0

LARGE: Shape = (1, 3, 320, 256)


def image(shape: Shape, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def probes(shape: Shape) -> Probes:
    return (image(shape),), (image(shape, seed=1),)


def proved(rewrite: Pass, before: Proven, shape: Shape, gate_db: float) -> tuple[Proven, Certificate]:
    """Applies a pass with proof, and checks that what it started from is what it was."""
    untouched = fingerprint(before.program)
    result = apply(rewrite, before, probes(shape), gate_db)
    assert fingerprint(before.program) == untouched
    return result


def materialised(rewrite: Pass, program: Program, shape: Shape, gate_db: float) -> tuple[Program, Certificate]:
    after, certificate = proved(rewrite, prove(program, probes(shape)), shape, gate_db)
    return after.program, certificate


def random_network(policy: str, shape: Shape) -> tuple[nn.Module, Program]:
    model = build("parcnetv2_xt", policy)
    random_weights(model, seed=0)
    return model, capture(model, shape)


def before_gelu(layer: nn.Module, shape: Shape) -> Program:
    """A layer with weights from seeds, and a GELU behind it."""
    with torch.no_grad():
        for index, parameter in enumerate(layer.parameters()):
            parameter.copy_(image(tuple(parameter.shape), seed=index + 1))
    return capture(nn.Sequential(layer, nn.GELU()).eval(), shape)


class Function(nn.Module):
    """A function of the input and of weights of the given shapes, which are not all alike."""

    def __init__(self, function: Callable[..., Tensor], *shapes: Shape, buffer: Tensor | None = None) -> None:
        super().__init__()
        self.function = function
        weights = [image(shape, seed=index + 2) for index, shape in enumerate(shapes)]
        self.weights = nn.ParameterList(weights)
        self.register_buffer("buffer", buffer)

    def forward(self, x: Tensor) -> Tensor:
        held = () if self.buffer is None else (self.buffer,)
        return self.function(x, *self.weights, *held)


def captured(function: Callable[..., Tensor], shape: Shape, *shapes: Shape, buffer: Tensor | None = None) -> Program:
    return capture(Function(function, *shapes, buffer=buffer).eval(), shape)


def centred(x: Tensor, axis: int = -1) -> Tensor:
    return x - x.mean(dim=axis, keepdim=True)


def length(x: Tensor, axis: int = -1) -> Tensor:
    euclidean: Tensor = torch.linalg.vector_norm(x, dim=axis, keepdim=True)
    return euclidean


def an_l2_norm(x: Tensor, w: Tensor) -> Tensor:
    c = centred(x)
    return c / length(c).clamp_min(1e-6) * w
