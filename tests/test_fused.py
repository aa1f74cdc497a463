"""Fusing as a library call: a module like any other that computes the same, or a refusal."""

import copy
import functools
import io
import subprocess
import sys
from pathlib import Path
from typing import cast

import pytest
import torch
from torch import Tensor, nn

from edgekit.artifact import RegionCertificate
from edgekit.capture import capture
from edgekit.errors import ModelError, ParityError
from edgekit.fused import Fused, fuse_module
from edgekit.passes.fuse import rewrite
from edgekit.passes.fuse.certificate import Region, certify
from edgekit.program import Program, constant, operator_counts, stats
from tests.passes.fusing import conv, norm

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")

SHAPE = (1, 3, 16, 16)


class Net(nn.Module):
    """Two branches with norms, a gate that doubles, a buffer, and a head."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.three, self.one = conv(c_in=3), conv(1, c_in=3)
        self.a, self.b = norm(), norm()
        self.gate = nn.Linear(8, 8)
        self.head = nn.Linear(8, 5)
        self.mean: Tensor
        self.register_buffer("mean", torch.rand(3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(x - self.mean)
        y = torch.relu(self.a(self.three(x)) + self.b(self.one(x))).mean((2, 3))
        result: Tensor = self.head(y * 2 * torch.sigmoid(self.gate(y)))
        return result


@pytest.fixture(scope="module")
def model() -> nn.Module:
    return Net().eval()


@pytest.fixture(scope="module")
def fused(model: nn.Module) -> Fused:
    return fuse_module(model, SHAPE)


def image(seed: int = 0) -> Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed))


def test_it_computes_the_same_with_fewer_layers(model: nn.Module, fused: Fused) -> None:
    assert isinstance(fused.module, nn.Module)
    torch.testing.assert_close(fused.module(image()), model(image()), rtol=1e-5, atol=1e-6)
    counts = operator_counts(cast("Program", fused.module))
    assert counts["conv2d"] == 1
    assert counts["batch_norm"] == 0
    assert fused.passes[-1].after.parameters < stats(capture(model, SHAPE)).parameters
    assert fused.parity.snr_db > 110
    assert [region.site for region in fused.regions]
    assert [certificate.name for certificate in fused.passes][-1] == "fuse"


def test_the_state_has_the_names_of_the_modules(model: nn.Module, fused: Fused) -> None:
    names = set(fused.module.state_dict())
    assert {"head.weight", "head.bias", "gate.weight", "gate.bias", "mean"} <= names
    assert {name for name, _ in fused.module.named_buffers()} == {"mean"}
    assert all(parameter.requires_grad for parameter in fused.module.parameters())
    assert type(fused.module).__name__ == "Net"
    pointers = {value.data_ptr() for value in model.state_dict().values()}
    assert not pointers & {value.data_ptr() for value in fused.module.state_dict().values()}


def test_it_trains_and_leaves_the_original_alone(model: nn.Module, fused: Fused) -> None:
    twin, before = copy.deepcopy(fused.module), copy.deepcopy(model.state_dict())
    optimizer = torch.optim.SGD(twin.parameters(), lr=0.1)
    first = twin(image()).square().sum()
    first.backward()
    optimizer.step()
    assert twin(image()).square().sum() < first
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    torch.testing.assert_close(fused.module(image()), model(image()), rtol=1e-5, atol=1e-6)


def test_it_is_saved_moved_compiled_and_exported_like_any_module(fused: Fused) -> None:
    expected = fused.module(image()).detach()
    buffer = io.BytesIO()
    torch.save(fused.module.state_dict(), buffer)
    buffer.seek(0)
    twin = copy.deepcopy(fused.module)
    for parameter in twin.parameters():
        nn.init.zeros_(parameter)
    twin.load_state_dict(torch.load(buffer))
    assert torch.equal(twin(image()), expected)
    assert twin.to(torch.float64)(image().double()).dtype is torch.float64
    assert torch.equal(torch.compile(fused.module, backend="aot_eager")(image()), expected)
    exported = torch.export.export(fused.module, (image(),))
    assert torch.equal(exported.module()(image()), expected)
    whole = io.BytesIO()
    torch.save(fused.module, whole)
    whole.seek(0)
    assert torch.equal(torch.load(whole, weights_only=False)(image()), expected)


def test_it_can_be_fused_again(fused: Fused) -> None:
    again = fuse_module(fused.module, SHAPE)
    assert torch.equal(again.module(image()), fused.module(image()))


def test_modules_can_be_left_out(model: nn.Module) -> None:
    left = fuse_module(model, SHAPE, exclude=("a", "b")).module
    assert operator_counts(cast("Program", left))["batch_norm"] == 2
    only = fuse_module(model, SHAPE, only=("head",)).module
    assert operator_counts(cast("Program", only))["batch_norm"] == 2


def test_a_wrong_fold_is_a_parity_error(model: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    original = rewrite.Rewriter

    def tamper(program: Program, region: Region) -> RegionCertificate:
        found = certify(program, region)
        value = constant(program, region.new.args[1])
        if value is not None and value.ndim == 4:
            value[0] *= 1.01
        return found

    monkeypatch.setattr(rewrite, "Rewriter", functools.partial(original, certify=tamper))
    with pytest.raises(ParityError, match="Pass 'fuse' changed the network"):
        fuse_module(model, SHAPE)


class Branching(nn.Module):
    """Chooses its path by whether a buffer was seen, which tracing fixes."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = conv(c_in=3)
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        y: Tensor = self.conv(x)
        return y if self.calls != 1 else y + 1.0


def test_a_model_that_tracing_changes_is_a_parity_error() -> None:
    with pytest.raises(ParityError, match="Capture changed the network"):
        fuse_module(Branching().eval(), SHAPE)


def test_what_cannot_be_proved_is_refused(model: nn.Module) -> None:
    with pytest.raises(ModelError, match=r"is in training mode"):
        fuse_module(copy.deepcopy(model).train(), SHAPE)
    with pytest.raises(ModelError, match=r"three\.weight is float16 on cpu; .* Call model\.float\(\)\.cpu\(\) first"):
        fuse_module(copy.deepcopy(model).half(), SHAPE)
    broken = copy.deepcopy(model)
    nn.init.constant_(broken.get_parameter("head.bias"), float("nan"))
    with pytest.raises(ParityError, match="The original model itself returns NaN"):
        fuse_module(broken, SHAPE)


def test_importing_edgekit_loads_no_torch() -> None:
    code = "import sys, edgekit; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[1], check=True)
