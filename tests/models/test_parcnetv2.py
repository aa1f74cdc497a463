"""ParCNetV2 against the released key names, the published sizes, and the paper's equations written out by hand."""

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from torch import Tensor, nn

from edgekit.errors import UnknownNameError
from edgekit.models.build import build as build_by_name
from edgekit.models.cards import CARDS
from edgekit.models.parcnetv2 import CONFIGS, ParCNetV2, ParCNetV2Config, build
from edgekit.models.parcnetv2_mixers import KernelPolicy, OversizedConv, zoom
from edgekit.models.weights import random_weights
from edgekit.numerics import compare_one

OFFICIAL_KEYS = Path(__file__).parent.parent / "data" / "official_keys"

Array = NDArray[np.float64]

TINY = ParCNetV2Config(
    widths=(4, 6, 8, 10), depths=(1, 1, 2, 1), num_classes=7, local_kernel=3, trained_maps=(8, 4, 2, 1)
)
"""Oversized kernels of 15, 7, 3 and 1 taps, made for 32 x 32."""

PARAMETERS = {
    "parcnetv2_xt": 7_427_720,
    "parcnetv2_t": 24_935_144,
    "parcnetv2_s": 39_436_520,
    "parcnetv2_b": 56_368_360,
}


def filled(model: nn.Module, seed: int = 0) -> nn.Module:
    random_weights(model, seed)
    return model.eval()


def image(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def configured(policy: KernelPolicy) -> ParCNetV2Config:
    return replace(TINY, kernel_policy=policy)


# -- the equations, on channels-first numpy arrays in float64 ---------------------------------------------------------


def gelu(x: Array) -> Array:
    return np.asarray(0.5 * x * (1.0 + np.vectorize(math.erf)(x / math.sqrt(2.0))))


def l2norm(x: Array, weight: Array) -> Array:
    """W * (x - mean) / |x - mean| over the channels, the released code's norm."""
    for_channels = (slice(None), None, None)
    deviation = x - x.sum(0) / len(x)
    return np.asarray(deviation / np.sqrt((deviation**2).sum(0)) * weight[for_channels])


def convolve(x: Array, weight: Array, bias: Array | None = None, stride: int = 1, padding: int = 0) -> Array:
    """A dense convolution with the same padding on all four sides."""
    padded = np.pad(x, ((0, 0), (padding, padding), (padding, padding)))
    windows = sliding_window_view(padded, weight.shape[2:], axis=(1, 2))[:, ::stride, ::stride]
    result = np.einsum("ihwuv,oiuv->ohw", windows, weight)
    return np.asarray(result if bias is None else result + bias[:, None, None])


def stretch(taps: Array, count: int) -> Array:
    """Each row of taps, drawn as a line through its points, read at `count` places from end to end."""
    places = np.linspace(0.0, taps.shape[1] - 1.0, count)
    return np.stack([np.interp(places, np.arange(taps.shape[1]), row) for row in taps])


def oversized(x: Array, taps: Array, policy: KernelPolicy) -> Array:
    """Equation 4 along the last axis: y[i] = sum over j of w[centre + j - i] x[j], zero beyond the ends."""
    length = x.shape[-1]
    if policy is KernelPolicy.INTERPOLATE:
        taps = stretch(taps, 2 * length - 1)
    centre = taps.shape[1] // 2
    result = np.zeros_like(x)
    for i in range(length):
        for j in range(length):
            if 0 <= centre + j - i < taps.shape[1]:
                result[..., i] += taps[:, None, centre + j - i] * x[..., j]
    return result


def depthwise(x: Array, weight: Array) -> Array:
    """A square depthwise convolution that keeps the size."""
    reach = weight.shape[-1] // 2
    padded = np.pad(x, ((0, 0), (reach, reach), (reach, reach)))
    height, width = x.shape[1:]
    result = np.zeros_like(x)
    for u in range(weight.shape[2]):
        for v in range(weight.shape[3]):
            result += weight[:, 0, u, v, None, None] * padded[:, u : u + height, v : v + width]
    return result


def block(x: Array, tensors: Mapping[str, Array], policy: KernelPolicy) -> Array:
    """Equations 6 and 7 between norms and skips: (C, H, W) -> (C, H, W)."""
    skip1, skip2 = (tensors.get(f"res_scale{number}.scale", np.ones(len(x)))[:, None, None] for number in (1, 2))

    spread = convolve(l2norm(x, tensors["norm1.weight"]), tensors["token_mixer.pwconv1.weight"])
    spread += tensors["token_mixer.pwconv1.bias"][:, None, None]
    gate, value = spread[: len(x)], gelu(spread[len(x) :])
    along_h = oversized(value.transpose(0, 2, 1), tensors["token_mixer.dwconv1.conv_h.weight"][:, 0, :, 0], policy)
    along_w = oversized(along_h.transpose(0, 2, 1), tensors["token_mixer.dwconv1.conv_w.weight"][:, 0, 0, :], policy)
    near = depthwise(value, tensors["token_mixer.dwconv2.weight"])
    mixed = skip1 * x + convolve(gate * (along_w + near), tensors["token_mixer.pwconv2.weight"])

    hidden = np.einsum("chw,kc->khw", l2norm(mixed, tensors["norm2.weight"]), tensors["mlp.fc1.weight"])
    hidden += tensors["mlp.fc1.bias"][:, None, None]
    half = len(hidden) // 2
    gated = hidden[:half] * gelu(hidden[half:])
    return np.asarray(skip2 * mixed + np.einsum("khw,ck->chw", gated, tensors["mlp.fc2.weight"]))


def by_hand(x: Array, tensors: Mapping[str, Array], config: ParCNetV2Config) -> Array:
    """The whole network: (3, H, W) -> logits."""
    for stage, depth in enumerate(config.depths):
        down = under(tensors, f"downsample_layers.{stage}.")
        if stage == 0:
            x = l2norm(
                convolve(x, down["conv.weight"], down["conv.bias"], stride=4, padding=2), down["post_norm.weight"]
            )
        else:
            normed = l2norm(x, down["pre_norm.weight"])
            x = convolve(normed, down["conv.weight"], down["conv.bias"], stride=2, padding=1)
        for index in range(depth):
            x = block(x, under(tensors, f"stages.{stage}.{index}."), config.kernel_policy)
    pooled = x.mean((1, 2))
    normed = (pooled - pooled.mean()) / math.sqrt(pooled.var() + 1e-6) * tensors["norm.weight"] + tensors["norm.bias"]
    return np.asarray(tensors["head.weight"] @ normed + tensors["head.bias"])


def under(tensors: Mapping[str, Array], prefix: str) -> dict[str, Array]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def arrays(model: nn.Module) -> dict[str, Array]:
    return {name: value.double().numpy() for name, value in model.state_dict().items()}


SIZES = [(32, 32), (48, 32), (28, 44)]
SIZE_IDS = ["trained", "landscape-smaller", "odd-maps"]


@pytest.mark.parametrize("policy", KernelPolicy, ids=str)
@pytest.mark.parametrize("side", [(8, 8), (11, 8), (5, 13)], ids=["trained", "taller", "odd"])
@pytest.mark.parametrize("stage", [0, 2], ids=["plain-skip", "scaled-skip"])
def test_a_block_is_the_papers_equations(policy: KernelPolicy, side: tuple[int, int], stage: int) -> None:
    model = filled(ParCNetV2(configured(policy)))
    module = model.get_submodule(f"stages.{stage}.0")
    source = image(1, *side, TINY.widths[stage]).double()
    with torch.no_grad():
        found = module.double()(source)[0].permute(2, 0, 1).numpy()
    expected = block(source[0].permute(2, 0, 1).numpy(), arrays(module), policy)
    assert compare_one(expected, found).snr_db > 280.0


@pytest.mark.parametrize("policy", KernelPolicy, ids=str)
@pytest.mark.parametrize("size", SIZES, ids=SIZE_IDS)
def test_the_whole_network_is_the_papers_equations(policy: KernelPolicy, size: tuple[int, int]) -> None:
    config = configured(policy)
    model, source = filled(ParCNetV2(config)), image(1, 3, *size).double()
    with torch.no_grad():
        found = model.double()(source)[0].numpy()
    assert compare_one(by_hand(source[0].numpy(), arrays(model), config), found).snr_db > 260.0


def test_the_equations_see_one_wrong_tap() -> None:
    model = filled(ParCNetV2(TINY)).double()
    source, tensors = image(1, 3, 32, 32).double(), arrays(model)
    tensors["stages.0.0.token_mixer.dwconv1.conv_h.weight"] = tensors[
        "stages.0.0.token_mixer.dwconv1.conv_h.weight"
    ].copy()
    tensors["stages.0.0.token_mixer.dwconv1.conv_h.weight"][1, 0, 3, 0] *= 1.01
    with torch.no_grad():
        found = model(source)[0].numpy()
    assert compare_one(by_hand(source[0].numpy(), tensors, TINY), found).snr_db < 120.0


def test_the_key_names_are_those_of_the_release_in_order() -> None:
    official = (OFFICIAL_KEYS / "parcnetv2_xt.txt").read_text().splitlines()
    with torch.device("meta"):
        own = build("parcnetv2_xt").state_dict()
    assert [f"{name} {tuple(value.shape)}" for name, value in own.items()] == official


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_card_agrees_with_the_network_it_describes(name: str) -> None:
    with torch.device("meta"):
        model = build(name)
    card = CARDS[name]
    assert sum(parameter.numel() for parameter in model.parameters()) == card.parameters == PARAMETERS[name]
    assert model.head.out_features == card.classes
    assert model.get_parameter("downsample_layers.0.conv.weight").shape[1] == card.input_shape[1]
    assert card.kernel_policies == tuple(KernelPolicy) == ("interpolate", "keep")


def test_every_card_of_the_family_has_a_network() -> None:
    cards = {name for name, card in CARDS.items() if card.family == "parcnetv2"}
    assert set(PARAMETERS) <= cards <= set(CONFIGS)


@pytest.fixture(scope="module")
def both() -> tuple[nn.Module, nn.Module]:
    """The smallest published network under both kernel policies, with one set of weights."""
    interpolating, keeping = (filled(build("parcnetv2_xt", policy)) for policy in ("interpolate", "keep"))
    assert all(value.equal(keeping.state_dict()[name]) for name, value in interpolating.state_dict().items())
    return interpolating, keeping


def test_at_the_trained_size_the_kernel_policies_are_one_network(both: tuple[nn.Module, nn.Module]) -> None:
    with torch.no_grad():
        first, second = (model(image(1, 3, 224, 224)) for model in both)
    assert first.equal(second)


def test_at_another_size_the_kernel_policies_are_two_networks(both: tuple[nn.Module, nn.Module]) -> None:
    with torch.no_grad():
        first, second = (model(image(1, 3, 256, 256)) for model in both)
    assert compare_one(first, second).snr_db < 40.0


@pytest.mark.parametrize("size", [(64, 96), (33, 47), (3, 3)], ids=["landscape", "odd", "smallest"])
@pytest.mark.parametrize("policy", KernelPolicy, ids=str)
def test_any_input_size_the_card_allows_works(policy: KernelPolicy, size: tuple[int, int]) -> None:
    rule = CARDS["parcnetv2_xt"].size_rule
    assert all(rule.allows(side) for side in size)
    with torch.no_grad():
        logits = filled(ParCNetV2(configured(policy)))(image(2, 3, *size))
    assert logits.shape == (2, 7)
    assert bool(torch.isfinite(logits).all())


def test_below_the_smallest_size_of_the_card_the_network_cannot_run() -> None:
    assert not CARDS["parcnetv2_xt"].size_rule.allows(2)
    with pytest.raises(RuntimeError, match="Kernel size"):
        filled(ParCNetV2(TINY))(image(1, 3, 2, 2))


@pytest.mark.parametrize("count", [5, 9, 21, 111, 223], ids=lambda count: f"{count}-taps")
def test_zooming_keeps_the_end_taps_and_the_centre_tap(count: int) -> None:
    kernel = image(3, 1, 11, 1).double()
    zoomed = zoom(kernel, (count, 1))
    assert zoomed.shape == (3, 1, count, 1)
    for place in (0, -1):
        torch.testing.assert_close(zoomed[:, :, place], kernel[:, :, place], rtol=1e-14, atol=0)
    torch.testing.assert_close(zoomed[:, :, count // 2], kernel[:, :, 5], rtol=1e-14, atol=1e-15)
    expected = stretch(kernel[:, 0, :, 0].numpy(), count)
    torch.testing.assert_close(zoomed[:, 0, :, 0], torch.from_numpy(expected), rtol=1e-13, atol=1e-14)


def test_zooming_to_its_own_size_gives_the_kernel_itself() -> None:
    kernel = image(3, 1, 11, 1)
    assert zoom(kernel, (11, 1)) is kernel


@pytest.mark.parametrize("policy", KernelPolicy, ids=str)
def test_every_output_of_an_oversized_convolution_sees_the_whole_map(policy: KernelPolicy) -> None:
    layer = OversizedConv(1, 11, policy).double()
    nn.init.constant_(layer.conv_h.weight, 0.5)
    nn.init.constant_(layer.conv_w.weight, 2.0)
    source = image(1, 1, 6, 6).double()
    with torch.no_grad():
        found = layer(source)
    torch.testing.assert_close(found, source.sum().expand(1, 1, 6, 6), rtol=1e-12, atol=1e-12)


def test_building_by_name() -> None:
    model = build_by_name("parcnetv2_xt", "keep")
    assert isinstance(model, ParCNetV2)
    assert not model.training
    assert {module.policy for module in model.modules() if isinstance(module, OversizedConv)} == {KernelPolicy.KEEP}
    with pytest.raises(UnknownNameError, match=r"no model named 'parcnetv2_xs'\. Did you mean parcnetv2_\w+"):
        build_by_name("parcnetv2_xs", None)
