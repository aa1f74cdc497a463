"""ParC-ConvNeXt and ParC-Net against the released key names, the true sizes, and sums over explicit indices."""

from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from edgekit.errors import MisuseError, UnknownNameError, WeightsError
from edgekit.models import parc_convnext, parc_net
from edgekit.models.cards import card
from edgekit.models.parc_convnext import ParCConvNeXt, ParCConvNeXtConfig
from edgekit.models.parc_net import LayerConfig, ParCBlock, ParCNet, ParCNetConfig
from edgekit.models.parc_op import HEIGHT, WIDTH, circular_conv, resize_axis
from edgekit.models.weights import load_weights

OFFICIAL_KEYS = Path(__file__).parent.parent / "data" / "official_keys"

SIZES = [  # module, name, input side, parameters, MACs
    (parc_convnext, "parc_convnext_xt", 224, 7_412_824, 1_139_222_400),
    (parc_convnext, "convnext_xt", 224, 7_438_360, 1_143_964_032),
    (parc_net, "parc_net_s", 256, 5_037_088, 1_657_347_584),
    (parc_net, "parc_net_xs", 256, 2_646_184, 1_081_445_888),
    (parc_net, "parc_net_h", 256, 20_403_940, 8_544_418_656),
]

TINY = ParCNetConfig(
    widths=(4, 8, 8),
    layers=(LayerConfig(12, 24, 32, 2, 8), LayerConfig(16, 32, 48, 1, 4), LayerConfig(20, 32, 48, 2, 2)),
    num_classes=7,
)


def on_meta(family: ModuleType, name: str) -> nn.Module:
    """A model without storage, for counting."""
    with torch.device("meta"):
        model: nn.Module = family.build(name)
    return model.eval()


def count(model: nn.Module, side: int) -> tuple[int, int]:
    """Parameters, and MACs for one square image."""
    with FlopCounterMode(display=False) as counter:
        model(torch.empty(1, 3, side, side, device="meta"))
    return sum(parameter.numel() for parameter in model.parameters()), counter.get_total_flops() // 2


def listed(model: nn.Module) -> list[str]:
    return [f"{key} {tuple(value.shape)}" for key, value in model.state_dict().items()]


def randomise(model: nn.Module) -> nn.Module:
    """Gives every tensor, the batch norms' statistics too, a value that shows in the output; in float64."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, value in model.double().eval().state_dict().items():
            if name.endswith("running_var"):
                value.uniform_(0.5, 2.0, generator=generator)
            elif value.dim() == 1:
                value.normal_(1.0 if name.endswith(("weight", "gamma")) else 0.0, 0.5, generator=generator)
            elif value.dim() > 1:
                scale = 0.5 if ".pe" in name or "meta_pe" in name else (2 / value[0].numel()) ** 0.5
                value.normal_(0.0, scale, generator=generator)
    return model


def image(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def circular_sum(x: Tensor, taps: Tensor, dim: int) -> Tensor:
    """out[i] = sum over j of taps[j] * x[(i + j) mod n], for taps of shape (C, n)."""
    length = x.shape[dim]
    rolled = [x.index_select(dim, (torch.arange(length) + j) % length) * taps[:, j, None, None] for j in range(length)]
    return torch.stack(rolled).sum(0)


@pytest.mark.parametrize(("family", "name", "side", "parameters", "macs"), SIZES, ids=[row[1] for row in SIZES])
def test_sizes_are_the_true_ones(family: ModuleType, name: str, side: int, parameters: int, macs: int) -> None:
    model = on_meta(family, name)
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters
    assert (card(name).macs, card(name).input_shape) == (macs, (1, 3, side, side))  # the tests of the cards count them


def test_size_of_the_wide_parc_convnext() -> None:
    config = ParCConvNeXtConfig((96, 192, 384, 768), depths=(3, 3, 9, 3), parc_from=(3, 3, 6, 2))
    with torch.device("meta"):
        model = ParCConvNeXt(config).eval()
    assert count(model, 224) == (28_538_056, 4_446_048_000)


def test_keys_of_parc_convnext_are_the_released_ones_in_order() -> None:
    official = (OFFICIAL_KEYS / "parc_convnext_xt.txt").read_text().splitlines()
    assert listed(on_meta(parc_convnext, "parc_convnext_xt")) == official


def test_keys_of_parc_net_are_the_released_ones() -> None:
    official = (OFFICIAL_KEYS / "parcnet_s.txt").read_text().splitlines()
    keys = listed(on_meta(parc_net, "parc_net_s"))
    assert sorted(keys) == sorted(official)
    assert [key for key in keys if "residual" not in key] == [key for key in official if "residual" not in key]


@pytest.mark.parametrize(("dim", "shape"), [(HEIGHT, (2, 3, 7, 4)), (WIDTH, (2, 3, 4, 7)), (HEIGHT, (2, 3, 1, 4))])
def test_circular_conv_is_the_sum_over_wrapped_indices(dim: int, shape: tuple[int, ...]) -> None:
    x, taps = image(*shape), image(3, shape[dim]) + 1
    kernel = taps[:, None, :, None] if dim == HEIGHT else taps[:, None, None, :]
    expected = circular_sum(x, taps, dim)
    torch.testing.assert_close(circular_conv(x, kernel, dim), expected)
    torch.testing.assert_close(circular_conv(x, kernel, dim, torch.ones(3, dtype=x.dtype)), expected + 1)


def test_resized_taps_are_read_off_straight_lines_between_the_stored_ones() -> None:
    stored = image(3, 5)
    lines = [stored[:, :1], (stored[:, :1] + stored[:, 1:2]) / 2, stored[:, 1:2]]  # 9 taps from 5: every half step
    for dim, kernel in ((HEIGHT, stored[:, None, :, None]), (WIDTH, stored[:, None, None, :])):
        resized = resize_axis(kernel, 9, dim).flatten(1)
        torch.testing.assert_close(resized[:, :3], torch.cat(lines, 1))
        torch.testing.assert_close(resized[:, ::2], stored)
        assert resize_axis(kernel, 5, dim) is kernel


def test_parc_convnext_block_equals_the_one_written_by_hand() -> None:
    config = ParCConvNeXtConfig((4, 4, 6, 8), depths=(1, 1, 3, 1), parc_from=(1, 1, 1, 0), trained_maps=(24, 12, 6, 3))
    block = randomise(ParCConvNeXt(config)).get_submodule("stages.2.1")
    tensors, x = block.state_dict(), image(2, 6, 6, 6)
    first = circular_sum(x[:, :3] + tensors["gcc_H.pe"], tensors["gcc_H.gcc_conv.weight"].flatten(1), HEIGHT)
    second = circular_sum(x[:, 3:] + tensors["gcc_W.pe"], tensors["gcc_W.gcc_conv.weight"].flatten(1), WIDTH)
    bias = torch.cat((tensors["gcc_H.gcc_conv.bias"], tensors["gcc_W.gcc_conv.bias"]))
    y = torch.cat((first, second), 1).movedim(1, 3) + bias
    centred = y - y.mean(3, keepdim=True)
    y = centred / torch.sqrt(centred.square().mean(3, keepdim=True) + 1e-6)
    y = (y * tensors["norm.weight"] + tensors["norm.bias"]) @ tensors["pwconv1.weight"].T + tensors["pwconv1.bias"]
    y = y * 0.5 * (1 + torch.erf(y / 2**0.5))
    y = tensors["gamma"] * (y @ tensors["pwconv2.weight"].T + tensors["pwconv2.bias"])
    with torch.no_grad():
        torch.testing.assert_close(block(x), x + y.movedim(3, 1), rtol=1e-9, atol=1e-9)


def test_parc_blocks_are_the_last_ones_of_the_last_two_stages() -> None:
    names = [name for name, module in on_meta(parc_convnext, "parc_convnext_xt").named_modules() if "gcc_H" in name]
    assert {name.split(".gcc_H")[0] for name in names} == {"stages.2.6", "stages.2.7", "stages.2.8", "stages.3.2"}


def norm_by_hand(x: Tensor, tensors: dict[str, Tensor], key: str) -> Tensor:
    leaves = ("running_mean", "running_var", "weight", "bias")
    mean, var, weight, bias = (tensors[f"{key}.{leaf}"].view(-1, 1, 1) for leaf in leaves)
    return (x - mean) / torch.sqrt(var + 1e-5) * weight + bias


def parc_by_hand(tensors: dict[str, Tensor], x: Tensor) -> Tensor:
    """The spatial half of a ParC-Net block with position embeddings, at the size of its kernels."""
    half = x.shape[1] // 2
    pe = {name[8:]: value for name, value in tensors.items() if name.startswith("meta_pe_")}
    taps = {name[12:]: value.flatten(1) for name, value in tensors.items() if name.startswith("meta_kernel_")}
    a = norm_by_hand(x[:, :half] + pe["1_H"], tensors, "pre_Norm_1")
    b = norm_by_hand(x[:, half:] + pe["1_W"], tensors, "pre_Norm_2")
    a, b = circular_sum(a, taps["1_H"], HEIGHT), circular_sum(b, taps["1_W"], WIDTH)
    a, b = circular_sum(a + pe["2_W"], taps["2_W"], WIDTH), circular_sum(b + pe["2_H"], taps["2_H"], HEIGHT)
    return x + torch.cat((a, b), 1)


def test_parc_net_block_equals_the_one_written_by_hand() -> None:
    block = randomise(ParCBlock(LayerConfig(16, 32, 24, 1, 6), embeds_position=True))
    tensors, x = block.state_dict(), image(2, 32, 6, 6)

    def point(x: Tensor, key: str) -> Tensor:
        y = torch.einsum("oc,nchw->nohw", tensors[f"{key}.weight"].flatten(1), x)
        return y + tensors[f"{key}.bias"].view(-1, 1, 1) if f"{key}.bias" in tensors else y

    def hardsigmoid(x: Tensor) -> Tensor:
        return (x / 6 + 0.5).clamp(0, 1)

    mixed = parc_by_hand(tensors, x)
    y = point(norm_by_hand(mixed, tensors, "ffn.0"), "ffn.1")
    y = point(y * hardsigmoid(y), "ffn.4")
    gate = norm_by_hand(point(y.mean((2, 3), keepdim=True), "ca.fc.0"), tensors, "ca.fc.1")
    gate = norm_by_hand(point(gate * hardsigmoid(gate), "ca.fc.3"), tensors, "ca.fc.4")
    with torch.no_grad():
        torch.testing.assert_close(block(x), mixed + y * hardsigmoid(gate), rtol=1e-9, atol=1e-9)


def test_parc_net_fuses_new_features_first() -> None:
    frame = randomise(ParCNet(TINY)).get_submodule("layer_3.1")
    x, new = image(1, 12, 8, 8), []
    frame.get_submodule("channel_adaptive").register_forward_hook(lambda _m, _i, output: new.append(output))
    with torch.no_grad():
        found = frame(x)
        fusion = frame.get_submodule("local_global_fusion")
        torch.testing.assert_close(found, fusion(torch.cat((new[0], x), 1)))


def test_inverted_residual_skips_only_where_the_shape_stays() -> None:
    model = randomise(ParCNet(TINY))
    x = image(1, 8, 8, 8)
    stays, narrows = model.get_submodule("layer_2.1"), model.get_submodule("layer_2.0")
    with torch.no_grad():
        torch.testing.assert_close(stays(x), x + stays.get_submodule("block")(x))
        torch.testing.assert_close(narrows(x), narrows.get_submodule("block")(x))


def test_parc_net_zooms_kernels_and_embeddings_to_the_map() -> None:
    model, x = randomise(ParCNet(TINY)), image(1, 3, 96, 96)  # trained for 64, so maps of 12, 6, 3
    baked = randomise(ParCNet(TINY))
    with torch.no_grad():
        for name, parameter in list(baked.named_parameters()):
            owner, _, leaf = name.rpartition(".")
            if leaf.startswith("meta_"):
                dim = HEIGHT if leaf.endswith("H") else WIDTH
                length = parameter.shape[dim] * 96 // 64
                setattr(baked.get_submodule(owner), leaf, nn.Parameter(resize_axis(parameter, length, dim)))
        torch.testing.assert_close(model(x), baked(x))


def test_alias_loads_and_counts_once(tmp_path: Path) -> None:
    trained, fresh = randomise(ParCNet(TINY)), ParCNet(TINY).double()
    tensors = trained.state_dict()
    assert any(key.startswith("residual.") for key in tensors)
    assert not any(key.startswith("residual.") for key, _ in trained.named_parameters())
    fresh.load_state_dict(tensors, strict=True)
    fresh.load_state_dict({key: value for key, value in tensors.items() if "residual" not in key}, strict=True)
    torch.save(tensors, tmp_path / "released.pth")
    load_weights(fresh, tmp_path / "released.pth")
    x = image(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(fresh.eval()(x), trained(x))


def test_alias_with_other_values_is_refused() -> None:
    model, tensors = ParCNet(TINY), ParCNet(TINY).state_dict()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    changed = "residual.block.exp_1x1.block.norm.weight"
    tensors[changed] = tensors[changed] + 1
    with pytest.raises(WeightsError, match=f"{changed} is another name of layer_5.0"):
        model.load_state_dict(tensors, strict=True)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("family", "name", "side"),
    [
        (parc_convnext, "parc_convnext_xt", 224),
        (parc_convnext, "convnext_xt", 96),
        pytest.param(parc_net, "parc_net_xs", 256, marks=pytest.mark.slow),
    ],
)
def test_exports_without_control_flow(family: ModuleType, name: str, side: int) -> None:
    model, x = randomise(family.build(name)).float(), image(1, 3, side, side).float()
    exported = torch.export.export(model, (torch.zeros_like(x),))
    with torch.no_grad():
        torch.testing.assert_close(exported.module()(x), model(x), rtol=1e-4, atol=1e-4)


def test_export_at_another_size_resizes_at_run_time() -> None:
    model, x = randomise(ParCNet(TINY)), image(1, 3, 96, 96)
    exported = torch.export.export(model, (torch.zeros_like(x),))
    with torch.no_grad():
        torch.testing.assert_close(exported.module()(x), model(x))


def test_other_sizes_of_parc_convnext_are_refused() -> None:
    with pytest.raises(MisuseError, match="14 taps meets a feature map of 16: ParC-ConvNeXt takes 224 x 224"):
        on_meta(parc_convnext, "parc_convnext_xt")(torch.empty(1, 3, 256, 256, device="meta"))


def test_oblong_images_of_parc_net_are_refused() -> None:
    with pytest.raises(MisuseError, match="square images, not 64 x 96"):
        ParCNet(TINY)(torch.zeros(1, 3, 64, 96))


@pytest.mark.parametrize("family", [parc_convnext, parc_net])
def test_unknown_name_lists_the_closest(family: ModuleType) -> None:
    known = next(iter(family.CONFIGS))
    with pytest.raises(UnknownNameError, match=f"Did you mean .*{known}"):
        family.build(f"{known}s")
