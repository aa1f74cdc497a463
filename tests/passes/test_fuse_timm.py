"""timm's own networks: fused by algebra at least as far as by the methods their authors wrote for it."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from edgekit.capture import capture
from edgekit.numerics import gate_db, snr_db
from edgekit.passes.base import Log
from edgekit.passes.fuse import fuse
from edgekit.passes.materialise import MATERIALISE
from edgekit.program import Program, clone, finish, operator_counts, run
from edgekit.reference import program_in_float64
from tests.timm_beside_torch import import_timm

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

SHAPE = (1, 3, 64, 64)

REPARAMETERISED = (
    "repvgg_a0",
    "repvgg_d2se",
    "mobileone_s0",
    "mobileone_s4",
    "fastvit_t8",
    "repvit_m1",
    "repghostnet_100",
)
PLAIN = ("resnet50", "efficientnet_b0", "mobilenetv3_small_050", "ghostnet_050", "convnext_atto", "regnety_002")


@pytest.fixture(scope="module")
def timm() -> Any:
    return import_timm()


class ShuffleUnit(nn.Module):
    """ShuffleNetV2's unit, which timm has not: half the channels pass by, then the halves are interleaved."""

    def __init__(self, channels: int, *, stride: int = 1) -> None:
        super().__init__()
        self.stride = stride
        half = channels // 2
        inputs = channels if stride == 2 else half
        self.branch = nn.Sequential(
            *_normed(inputs, half, 1),
            nn.ReLU(),
            *_normed(half, half, 3, stride, half),
            *_normed(half, half, 1),
            nn.ReLU(),
        )
        self.passing: nn.Module = nn.Identity()
        if stride == 2:
            self.passing = nn.Sequential(*_normed(inputs, inputs, 3, 2, inputs), *_normed(inputs, half, 1), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        one, other = (x, x) if self.stride == 2 else x.chunk(2, dim=1)
        joined = torch.cat([self.passing(one), self.branch(other)], dim=1)
        batch, channels, height, width = joined.shape
        return joined.view(batch, 2, channels // 2, height, width).transpose(1, 2).reshape(joined.shape)


def _normed(inputs: int, outputs: int, side: int, stride: int = 1, groups: int = 1) -> tuple[nn.Module, nn.Module]:
    layer = nn.Conv2d(inputs, outputs, side, stride, side // 2, groups=groups, bias=False)
    return layer, nn.BatchNorm2d(outputs)


def shuffle_net() -> nn.Module:
    stem = (*_normed(3, 24, 3, 2), nn.ReLU())
    units = (ShuffleUnit(24, stride=2), *(ShuffleUnit(24) for _ in range(3)))
    return nn.Sequential(*stem, *units, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(24, 10))


def model(timm: Any, name: str) -> nn.Module:
    """Random weights, and norms that are not the identity they start as, mild enough for 139 of them in a row."""
    torch.manual_seed(0)
    return randomised(timm.create_model(name))


def randomised(made: nn.Module) -> nn.Module:
    made.eval()
    for layer in made.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            assert layer.running_mean is not None
            assert layer.running_var is not None
            layer.running_mean.normal_(0, 0.1)
            layer.running_var.uniform_(0.7, 1.4)
        if isinstance(layer, (nn.modules.batchnorm._BatchNorm, nn.LayerNorm)):
            nn.init.uniform_(layer.weight, 0.8, 1.2)
            nn.init.normal_(layer.bias, 0, 0.1)
        for parameter in ("gamma", "layer_scale"):
            scale = getattr(layer, parameter, None)
            if isinstance(scale, nn.Parameter):
                nn.init.uniform_(scale, 0.2, 0.6)
    return made


def captured(made: nn.Module) -> Program:
    program = capture(made, SHAPE)
    for rewriting in MATERIALISE:
        program = clone(program)
        rewriting(program, Log())
        finish(program)
    return program


def check_equal(before: Program, after: Program) -> None:
    probe = torch.randn(SHAPE, generator=torch.Generator().manual_seed(1))
    exact = program_in_float64(before)(probe)[0].numpy()
    gate = gate_db(snr_db(exact, run(before, probe)[0].double().numpy()))

    assert snr_db(exact, run(after, probe)[0].double().numpy()) >= gate
    assert snr_db(exact, program_in_float64(after)(probe)[0].numpy()) >= gate


def layers(program: Program) -> int:
    return operator_counts(program)["conv2d"] + operator_counts(program)["linear"]


@pytest.mark.parametrize("name", REPARAMETERISED)
def test_no_more_layers_than_the_authors_leave(timm: Any, name: str) -> None:
    made = model(timm, name)
    program = captured(made)
    fused, certificates, _ = fuse(program)
    theirs = captured(timm.utils.reparameterize_model(made))

    assert layers(fused) <= layers(theirs) < layers(program) + (name == "repghostnet_100")
    assert operator_counts(fused)["conv2d"] <= operator_counts(theirs)["conv2d"]
    assert operator_counts(fused)["batch_norm"] == 0
    assert max(certificate.used for certificate in certificates) < 0.5
    check_equal(program, fused)


@pytest.mark.parametrize("name", PLAIN)
def test_norms_go_and_layers_stay(timm: Any, name: str) -> None:
    program = captured(model(timm, name))
    fused, _, _ = fuse(program)
    counts = operator_counts(fused)

    assert counts["conv2d"] == operator_counts(program)["conv2d"]
    assert counts["batch_norm"] == 0
    # What scales and shifts is in the layers: the products left are gates.
    assert counts["mul"] == counts["sigmoid"] + counts["hardsigmoid"]
    check_equal(program, fused)


def test_shuffles_and_norms_of_a_shufflenet_go() -> None:
    torch.manual_seed(0)
    program = captured(randomised(shuffle_net()))
    fused, _, _ = fuse(program)
    before, counts = operator_counts(program), operator_counts(fused)

    assert before["transpose"] == before["view"] == 4
    assert counts["transpose"] == counts["view"] == counts["reshape"] == counts["batch_norm"] == 0
    assert counts["conv2d"] == before["conv2d"] == 15
    check_equal(program, fused)
