"""Ablated networks: their sizes, and that each equals the whole network with its component made to do nothing."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from edgekit.errors import MisuseError, UnknownNameError
from edgekit.models import convnext_oversized, parc_convnext, parcnetv2, parnet
from edgekit.models.cards import card
from edgekit.models.convnext_oversized import OversizedConfig, OversizedConvNeXt
from edgekit.models.parc_convnext import ParCConvNeXt, ParCConvNeXtConfig
from edgekit.models.parcnetv2 import EARLY, LATE, NONE, ParCNetV2, ParCNetV2Config
from edgekit.models.parcnetv2_mixers import KernelPolicy
from edgekit.models.weights import random_weights
from tests.models.test_parnet import count_fused

Build = Callable[[str], nn.Module]

SIZES: list[tuple[Build, str, int, int]] = [  # builder, name, parameters, MACs at 224 x 224
    (parcnetv2.build, "parcnetv2_xt", 7_427_720, 1_553_449_088),
    (parcnetv2.build, "parcnetv2_t", 24_935_144, 4_269_260_288),
    (parcnetv2.build, "parcnetv2_s", 39_436_520, 7_780_626_944),
    (parcnetv2.build, "parcnetv2_b", 56_368_360, 12_491_869_248),
    (parcnetv2.build, "parcnetv2_xt_no_oc", 7_254_120, 1_409_255_808),
    (parcnetv2.build, "parcnetv2_xt_no_sbgu", 6_853_784, 1_435_033_728),
    (parcnetv2.build, "parcnetv2_xt_no_cbgu", 7_710_488, 1_612_656_768),
    (parcnetv2.build, "parcnetv2_xt_no_uniform", 7_248_040, 1_410_227_968),
    (convnext_oversized.build, "convnext_t_oc", 28_962_952, 4_745_222_400),
    (convnext_oversized.build, "convnext_t_oc_bgu", 28_958_536, 4_745_222_400),
    (parnet.build, "parnet_m_streams1", 37_566_056, 4_870_571_712),
    (parnet.build, "parnet_m_streams2", 37_866_792, 7_222_616_256),
    (parnet.build, "parnet_m_streams4", 39_226_152, 11_846_959_296),
]

TINY = ParCNetV2Config(widths=(8, 12, 16, 24), depths=(1, 1, 2, 1), num_classes=7)
TINY_CONVNEXT = ParCConvNeXtConfig((12, 18, 24, 30), depths=(1, 1, 2, 1), parc_from=(1, 1, 2, 1), num_classes=7)

ABLATED = {
    "no_oc": replace(TINY, oversized=NONE),
    "no_sbgu": replace(TINY, spatial_gate=False),
    "no_cbgu": replace(TINY, channel_gate=False, mlp_ratio=2.5),  # half of 5, for it has no gate
    "no_uniform": replace(TINY, local=EARLY, oversized=LATE),
}


def randomised(model: nn.Module) -> nn.Module:
    """Seeded weights, in float64."""
    random_weights(model, 0)
    return model.double().eval()


def image(side: int = 64) -> Tensor:
    return torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def logits(model: nn.Module, side: int = 64) -> Tensor:
    with torch.no_grad():
        result: Tensor = model(image(side))
    return result


def with_gate_of_one(weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """Rows of a gate that is 1 everywhere, before the rows of the value."""
    return torch.cat([torch.zeros_like(weight), weight]), torch.cat([torch.ones_like(bias), bias])


def whole(ablated: dict[str, Tensor]) -> dict[str, Tensor]:
    """An ablated network's tensors as those of a whole one: gates of 1, and kernels of 0 where there is none."""
    filled = {name: torch.zeros_like(tensor) for name, tensor in ParCNetV2(TINY).double().state_dict().items()}
    tensors = {**filled, **ablated}
    for name, tensor in ablated.items():
        if name.endswith(("pwconv1.weight", "fc1.weight")) and tensor.shape != filled[name].shape:
            bias = name.removesuffix("weight") + "bias"
            tensors[name], tensors[bias] = with_gate_of_one(tensor, ablated[bias])
    return tensors


@pytest.mark.parametrize(("make", "name", "parameters", "macs"), SIZES, ids=[row[1] for row in SIZES])
def test_sizes(make: Build, name: str, parameters: int, macs: int) -> None:
    """The card's MACs are those of the network, which the tests of the cards count."""
    with torch.device("meta"):
        model = make(name).eval()
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters
    assert (card(name).macs, card(name).input_shape) == (macs, (1, 3, 224, 224))


@pytest.mark.parametrize("name", ABLATED)
def test_an_ablated_network_is_the_whole_one_with_the_component_doing_nothing(name: str) -> None:
    ablated, full = randomised(ParCNetV2(ABLATED[name])), ParCNetV2(TINY).double().eval()
    full.load_state_dict(whole(ablated.state_dict()), strict=True)
    torch.testing.assert_close(logits(ablated), logits(full), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ABLATED)
def test_an_ablated_network_is_not_the_whole_one(name: str) -> None:
    ablated, full = randomised(ParCNetV2(ABLATED[name])), ParCNetV2(TINY).double().eval()
    tensors = whole(ablated.state_dict())
    rng = torch.Generator().manual_seed(2)
    for key, tensor in tensors.items():
        if key not in ablated.state_dict() or tensor.shape != ablated.state_dict()[key].shape:
            tensor.add_(torch.randn(tensor.shape, generator=rng, dtype=torch.float64), alpha=0.1)
    full.load_state_dict(tensors, strict=True)
    assert (logits(ablated) - logits(full)).norm() > 1e-2 * logits(full).norm()


@pytest.mark.parametrize(
    ("name", "oversized", "local"),
    [("parcnetv2_xt_no_oc", [], [0, 1, 2, 3]), ("parcnetv2_xt_no_uniform", [2, 3], [0, 1])],
)
def test_stages_that_keep_each_convolution(name: str, oversized: list[int], local: list[int]) -> None:
    with torch.device("meta"):
        keys = parcnetv2.build(name).state_dict()
    found = {
        layer: sorted({int(key.split(".")[1]) for key in keys if f".token_mixer.{layer}." in key})
        for layer in ("dwconv1", "dwconv2")
    }
    assert found == {"dwconv1": oversized, "dwconv2": local}


def test_a_stage_without_any_convolution_is_refused() -> None:
    with pytest.raises(MisuseError, match="Stage 2 has neither an oversized nor a local convolution"):
        replace(TINY, oversized=EARLY, local=EARLY)


def test_convnext_t_is_the_published_one() -> None:
    with torch.device("meta"):
        model = ParCConvNeXt(convnext_oversized.CONVNEXT_T)
    assert sum(parameter.numel() for parameter in model.parameters()) == 28_589_128


def test_convnext_with_oversized_kernels_of_zero_is_plain() -> None:
    oversized = randomised(OversizedConvNeXt(OversizedConfig(TINY_CONVNEXT, gated=False)))
    plain = ParCConvNeXt(TINY_CONVNEXT).double().eval()
    tensors = oversized.state_dict()
    kernels = [name for name in tensors if ".oversized." in name]
    plain.load_state_dict({name: tensors[name] for name in tensors if name not in kernels}, strict=True)
    assert (logits(oversized) - logits(plain)).norm() > 1e-2 * logits(plain).norm()
    with torch.no_grad():
        for name in kernels:
            tensors[name].zero_()
    torch.testing.assert_close(logits(oversized), logits(plain), rtol=1e-9, atol=1e-9)


def gated_by_hand(x: Tensor, tensors: dict[str, Tensor], side: int) -> Tensor:
    """A gated block on (N, H, W, C), from its tensors: kernels have 2 * side - 1 taps on a map of that side."""
    gate, value = (x @ tensors["token_mixer.pwconv1.weight"].flatten(1).T + tensors["token_mixer.pwconv1.bias"]).chunk(
        2, dim=-1
    )
    value = nn.functional.gelu(value).permute(0, 3, 1, 2)
    along_h, along_w = (tensors[f"token_mixer.dwconv1.conv_{axis}.weight"].flatten(1) for axis in "hw")
    offset = side - 1 + torch.arange(side)[None, :] - torch.arange(side)[:, None]  # [out, in] to tap
    wide = torch.einsum("cij,cxy,ncjy->ncix", along_h[:, offset], along_w[:, offset], value)
    local = nn.functional.conv2d(value, tensors["token_mixer.dwconv2.weight"], padding=3, groups=value.shape[1])
    mixed = gate * (wide + local).permute(0, 2, 3, 1)
    mixed = mixed @ tensors["token_mixer.pwconv2.weight"].flatten(1).T
    spread = (mixed - mixed.mean(-1, keepdim=True)) / (mixed.var(-1, correction=0, keepdim=True) + 1e-6).sqrt()
    hidden = (spread * tensors["norm.weight"] + tensors["norm.bias"]) @ tensors["mlp.fc1.weight"].T
    first, second = (hidden + tensors["mlp.fc1.bias"]).chunk(2, dim=-1)
    return x + tensors["gamma"] * ((first * nn.functional.gelu(second)) @ tensors["mlp.fc2.weight"].T)


def test_gated_convnext_block_equals_the_one_written_by_hand() -> None:
    model = randomised(OversizedConvNeXt(OversizedConfig(TINY_CONVNEXT, gated=True)))
    block, x = model.get_submodule("stages.3.0"), image(7).repeat(1, 10, 1, 1)
    with torch.no_grad():
        expected = gated_by_hand(x.permute(0, 2, 3, 1), block.state_dict(), side=7).permute(0, 3, 1, 2)
        torch.testing.assert_close(block(x), expected, rtol=1e-9, atol=1e-9)
    assert logits(model).shape == (2, 7)


@pytest.mark.parametrize("gated", [False, True], ids=["oc", "oc_bgu"])
def test_kernel_policies_of_convnext_agree_at_224_only(gated: bool) -> None:
    config = OversizedConfig(replace(TINY_CONVNEXT, trained_maps=(16, 8, 4, 2)), gated=gated)
    models = [randomised(OversizedConvNeXt(replace(config, kernel_policy=policy))) for policy in KernelPolicy]
    same, other = ([logits(model, side) for model in models] for side in (64, 96))
    torch.testing.assert_close(*same, rtol=1e-9, atol=1e-9)
    assert (other[0] - other[1]).norm() > 1e-3 * other[0].norm()


@pytest.mark.parametrize(("streams", "millions"), [(1, 34.34), (2, 34.59), (4, 35.82)])
def test_streams_have_the_parameters_of_parnet_m_when_fused(streams: int, millions: float) -> None:
    with torch.device("meta"):
        model = parnet.build(f"parnet_m_streams{streams}")
    assert len(list(model.get_submodule("streams").children())) == streams
    assert round(count_fused(model) / 1e6, 2) == millions
    assert abs(count_fused(model) / 35_576_616 - 1) < 0.04


@pytest.mark.parametrize("make", [parcnetv2.build, convnext_oversized.build, parc_convnext.build])
def test_unknown_names_are_refused(make: Build) -> None:
    with pytest.raises(UnknownNameError, match="There is no model named 'parcnetv2_xxt'"):
        make("parcnetv2_xxt")


@pytest.mark.slow
def test_ablated_networks_export() -> None:
    for config in ABLATED.values():
        model, x = randomised(ParCNetV2(config)).float(), image().float()
        exported = torch.export.export(model, (torch.zeros_like(x),))
        with torch.no_grad():
            torch.testing.assert_close(exported.module()(x), model(x), rtol=1e-5, atol=1e-5)
