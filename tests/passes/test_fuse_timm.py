"""timm's own networks: fused by algebra at least as far as by the methods their authors wrote for it.

timm imports torchvision for data loading and two small layers, none of which these networks have; empty modules stand
in for it, whose compiled half only loads beside the torch it was built for.
"""

import importlib.abc
import importlib.machinery
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn

from edgekit.capture import capture
from edgekit.numerics import gate_db, snr_db
from edgekit.passes.base import Log
from edgekit.passes.fuse import fuse
from edgekit.passes.materialise import MATERIALISE
from edgekit.program import Program, clone, finish, operator_counts, run
from edgekit.reference import program_in_float64

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


class _Empty(ModuleType):
    """A module in which every name is a class of its own."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


class _EmptyTorchvision(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name: str, *_: object) -> importlib.machinery.ModuleSpec | None:
        inside = name.split(".")[0] == "torchvision"
        return importlib.machinery.ModuleSpec(name, self, is_package=True) if inside else None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        module = _Empty(spec.name)
        modes = ("nearest", "nearest-exact", "bilinear", "bicubic", "box", "hamming", "lanczos")
        names = {mode.upper().replace("-", "_"): mode for mode in modes}
        module.__dict__.update(__path__=[], __version__="0", InterpolationMode=type("InterpolationMode", (), names))
        return module

    def exec_module(self, module: ModuleType) -> None:
        pass


@pytest.fixture(scope="module")
def timm() -> Iterator[Any]:
    if "timm" in sys.modules:
        yield sys.modules["timm"]
        return
    finder = _EmptyTorchvision()
    sys.meta_path.insert(0, finder)
    yield pytest.importorskip("timm")
    sys.meta_path.remove(finder)
    for name in [name for name in sys.modules if name.partition(".")[0] in ("timm", "torchvision")]:
        del sys.modules[name]


def model(timm: Any, name: str) -> nn.Module:
    """Random weights, and norms that are not the identity they start as, mild enough for 139 of them in a row."""
    torch.manual_seed(0)
    made: nn.Module = timm.create_model(name).eval()
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
