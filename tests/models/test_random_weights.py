"""Random weights: the same for a seed, of a sensible size, and such that one wrong number shows in the output."""

import pytest
import torch
from torch import Tensor, nn

from edgekit.models.parcnetv2 import build
from edgekit.models.weights import random_weights


def net() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 6))


def filled(seed: int) -> dict[str, Tensor]:
    model = net()
    random_weights(model, seed)
    return dict(model.state_dict())


def snr_db(output: Tensor, reference: Tensor) -> float:
    return float(10 * torch.log10(reference.square().sum() / (output - reference).square().sum()))


def test_random_weights_depend_on_the_seed_alone() -> None:
    first, model = filled(7), net()
    before = torch.get_rng_state()
    source = random_weights(model, 7)
    assert torch.get_rng_state().equal(before)
    assert all(tensor.equal(first[name]) for name, tensor in model.state_dict().items())
    assert (source.kind, source.seed, source.file_name, source.sha256) == ("random", 7, None, None)
    same = [name for name, tensor in filled(8).items() if tensor.equal(first[name])]
    assert same == ["1.num_batches_tracked"]


def test_random_weights_are_the_same_as_ever() -> None:
    """A bundle names its seed; these numbers must not change with the machine, the library or this code."""
    firsts = {name: round(float(tensor.flatten()[0]), 6) for name, tensor in filled(0).items()}
    assert firsts == {
        "0.weight": -0.355711,
        "0.bias": -0.555896,
        "1.weight": 1.039556,
        "1.bias": -0.239286,
        "1.running_mean": -0.468686,
        "1.running_var": 1.475969,
        "1.num_batches_tracked": 0.0,
        "3.weight": 0.241263,
        "3.bias": -0.375809,
    }


class Norm(nn.Module):
    """A norm whose trained weight is near 20, a buffer that is saved, and two that a checkpoint does not set."""

    weight_scale = 20.0

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(4000))
        self.bias = nn.Parameter(torch.zeros(4000))
        self.position_embedding = nn.Parameter(torch.zeros(1, 40, 100))
        self.register_buffer("running_mean", torch.zeros(4000))
        self.register_buffer("running_var", torch.zeros(4000))
        self.register_buffer("index", torch.zeros(4, dtype=torch.int64))
        self.register_buffer("grid", torch.zeros(4), persistent=False)
        self.matrix = nn.Linear(500, 100).weight


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
def test_random_values_have_the_size_their_kind_needs(dtype: torch.dtype) -> None:
    norm = Norm().to(dtype)
    random_weights(norm, 0)
    state = {name: tensor.double() for name, tensor in norm.state_dict().items()}
    assert state["weight"].mean().item() == pytest.approx(20, rel=0.01)
    assert state["weight"].std().item() == pytest.approx(2, rel=0.05)
    for name in ("bias", "running_mean", "position_embedding"):
        assert state[name].abs().aminmax() == pytest.approx((0.2, 0.6), abs=0.001)
        assert abs(state[name].sign().mean().item()) < 0.05
    assert state["running_var"].aminmax() == pytest.approx((0.5, 1.5), abs=0.001)
    assert state["matrix"].std().item() == pytest.approx(0.8 / 500**0.5, rel=0.02)
    assert not state["index"].any()
    assert not norm.get_buffer("grid").any()


SAMPLE = (  # a tensor of every kind, at both ends of the network
    "downsample_layers.0.conv.weight",
    "downsample_layers.0.conv.bias",
    "downsample_layers.3.pre_norm.weight",
    "stages.0.0.norm1.weight",
    "stages.0.0.token_mixer.dwconv1.conv_h.weight",
    "stages.3.1.token_mixer.pwconv1.bias",
    "stages.3.1.token_mixer.dwconv1.conv_w.weight",
    "stages.3.1.token_mixer.dwconv2.weight",
    "stages.3.1.res_scale2.scale",
    "stages.3.1.mlp.fc2.weight",
    "norm.bias",
    "head.weight",
)


@pytest.mark.slow
@torch.no_grad()
def test_one_percent_in_one_channel_shows_through_all_of_parcnetv2() -> None:
    model = build("parcnetv2_xt").eval()
    random_weights(model, 0)
    image = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    in_float32 = model(image.float()).double()
    reference = model.double()(image)
    assert 0.3 < reference.std().item() < 3
    floor = snr_db(in_float32, reference)
    assert floor > 120
    for name in SAMPLE:
        channel = model.get_parameter(name)[0]
        kept = channel.clone()
        channel.mul_(1.01)
        assert snr_db(model(image), reference) < floor - 10, name
        channel.copy_(kept)
    assert model(image).equal(reference)
