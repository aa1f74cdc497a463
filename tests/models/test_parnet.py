"""ParNet against the released key names, the published sizes, and a second implementation written out by hand."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from edgekit.errors import MisuseError, UnknownNameError, WeightsError
from edgekit.models.cards import card
from edgekit.models.parnet import (
    CONFIGS,
    Activation,
    Branches,
    Layout,
    ParNet,
    ParNetConfig,
    build,
    detect_activation,
)

OFFICIAL_KEYS = Path(__file__).parent.parent / "data" / "official_keys"

SIZES = [  # name, parameters, MACs at 224 x 224, parameters once the branches are merged
    ("parnet_s", 20_983_848, 5_373_907_136, 19_177_032),
    ("parnet_s92", 20_930_936, 5_259_501_056, 19_128_980),
    ("parnet_m", 38_953_256, 9_534_824_640, 35_576_616),
    ("parnet_l", 60_180_008, 14_803_691_712, 54_914_824),
    ("parnet_xl", 93_176_168, 23_016_065_472, 84_962_784),
]

TINY = ParNetConfig(widths=(8, 12, 20), last_width=24, depths=(2, 1, 3), num_classes=7)


def on_meta(name: str) -> nn.Module:
    """A model without storage, for counting."""
    with torch.device("meta"):
        return build(name).eval()


def count_parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def count_fused(model: nn.Module) -> int:
    """Parameters when every pair of convolutions, and every convolution before a batch norm, is one with a bias."""
    merged = count_parameters(model)
    for module in model.modules():
        if isinstance(module, Branches):
            norm_bias = module.rbr_dense.get_parameter("bn.bias")
            merged -= count_parameters(module.rbr_1x1) + norm_bias.numel()
    return merged


def randomise(model: nn.Module, bias: float = 0.5) -> nn.Module:
    """Gives every tensor, the batch norms' statistics too, a value that shows in the output; in float64."""
    generator = torch.Generator().manual_seed(0)
    model = model.double().eval()
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if name.endswith("running_var"):
                value.uniform_(0.5, 2.0, generator=generator)
            elif value.dim() == 1:
                value.normal_(1.0 if name.endswith("weight") else 0.0, bias, generator=generator)
            elif value.dim() > 1:
                value.normal_(0.0, (2 / value[0].numel()) ** 0.5, generator=generator)
    return model


def image(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


class ByHand:
    """The network of the paper and the released code, from its tensors and elementary operations.

    Args:
        tensors: A state dict.
        activation: Applied after every block.
        wrong: One of the details to get wrong: "gate", "gate input", "interleave" or "shuffle".
    """

    def __init__(self, tensors: dict[str, Tensor], activation: Callable[[Tensor], Tensor], wrong: str = "") -> None:
        self.tensors, self.activation, self.wrong = tensors, activation, wrong

    def norm(self, x: Tensor, key: str) -> Tensor:
        mean, var, weight, bias = (
            self.tensors[f"{key}.{leaf}"].view(-1, 1, 1) for leaf in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / torch.sqrt(var + 1e-5) * weight + bias

    def conv(self, x: Tensor, key: str, stride: int = 1, groups: int = 1) -> Tensor:
        kernel = self.tensors[f"{key}.weight"]
        return nn.functional.conv2d(x, kernel, None, stride, kernel.shape[-1] // 2, 1, groups)

    def gate(self, x: Tensor, key: str, groups: int) -> Tensor:
        average = x.flatten(2).mean(2)[:, :, None, None]
        return 1 / (1 + torch.exp(-self.conv(average, f"{key}.se.cvsig.conv", groups=groups)))

    def shuffle(self, x: Tensor) -> Tensor:
        half = x.shape[1] // 2
        return x if self.wrong == "shuffle" else x[:, [i // 2 + half * (i % 2) for i in range(2 * half)]]

    def block(self, x: Tensor, key: str, stride: int = 1, groups: int = 1) -> Tensor:
        key = f"{key}.block"
        point, pooled = (f"{key}.rbr_1x1", x)
        if stride == 2:
            point += ".1"
            pooled = (x[..., ::2, ::2] + x[..., 1::2, ::2] + x[..., ::2, 1::2] + x[..., 1::2, 1::2]) / 4
        y = self.norm(self.conv(x, f"{key}.rbr_dense.conv", stride, groups), f"{key}.rbr_dense.bn")
        y = y + self.norm(self.conv(pooled, f"{point}.conv", 1, groups), f"{point}.bn")
        if f"{key}.rbr_identity.weight" in self.tensors:
            skip = self.norm(x, f"{key}.rbr_identity")
            y = y + skip * self.gate(x if self.wrong == "gate input" else skip, key, groups)
        else:
            y = y * self.gate(x, key, groups) * (1 if self.wrong == "gate" else 2)
        return self.activation(y) if groups == 1 else self.shuffle(self.activation(y))

    def fuse(self, stream: Tensor, fused: Tensor, key: str, stride: int) -> Tensor:
        first, second = self.norm(stream, f"{key}.0.b1"), self.norm(fused, f"{key}.0.b2")
        pair = [both[:, i] for i in range(first.shape[1]) for both in (first, second)]
        joined = torch.cat((first, second), 1) if self.wrong == "interleave" else torch.stack(pair, 1)
        return self.block(joined, f"{key}.2", stride, groups=2)

    def stream(self, x: Tensor, index: int, depth: int) -> Tensor:
        for block in range(depth):
            x = self.block(x, f"streams.{index}.{block}")
        return x

    def __call__(self, x: Tensor, depths: tuple[int, ...]) -> Tensor:
        x1 = self.block(self.block(x, "inits.0.0", 2), "inits.0.1", 2)
        x2 = self.block(x1, "inits.1", 2)
        x3 = self.block(x2, "inits.2", 2)
        y1, y2, y3 = (self.stream(x, i, depth) for i, (x, depth) in enumerate(zip((x1, x2, x3), depths, strict=True)))
        f1 = self.block(y1, "downsamples_2.0", 2)
        f2 = self.fuse(y2, f1, "downsamples_2.1", 2)
        f3 = self.fuse(y3, f2, "combine", 1)
        pooled = self.block(f3, "combine.3", 2).flatten(2).mean(2)
        return pooled @ self.tensors["head.fc.weight"].T + self.tensors["head.fc.bias"]


HAND_ACTIVATIONS: dict[Activation, Callable[[Tensor], Tensor]] = {
    Activation.SILU: lambda x: x / (1 + torch.exp(-x)),
    Activation.RELU: lambda x: x.clamp_min(0),
}


@pytest.mark.parametrize(("name", "parameters", "macs", "fused"), SIZES, ids=[row[0] for row in SIZES])
def test_sizes_are_the_published_ones(name: str, parameters: int, macs: int, fused: int) -> None:
    model = on_meta(name)
    assert count_parameters(model) == parameters
    assert (card(name).macs, card(name).input_shape) == (macs, (1, 3, 224, 224))  # the tests of the cards count them
    assert count_fused(model) == fused


@pytest.mark.parametrize(("width", "millions"), [(32, 1.28), (112, 15.61), (168, 35.10)])
def test_cifar_fit_has_the_size_its_docstring_tells(width: int, millions: float) -> None:
    last_norm = 8 * width  # the plain 1 x 1 convolution before the classifier takes a bias for its batch norm too
    model = on_meta(f"parnet_cifar_w{width}")
    assert round((count_fused(model) - last_norm) / 1e6, 2) == millions
    assert model(torch.empty(2, 3, 32, 32, device="meta")).shape == (2, 10)


def test_cifar_streams_run_at_full_half_and_quarter_size() -> None:
    model = on_meta("parnet_cifar_w32")
    assert stream_sides(model, 32) == [32, 16, 8]
    assert [len(stream) for stream in model.get_submodule("streams").children()] == [3, 4, 4]  # type: ignore[arg-type]


def test_keys_are_the_released_ones_in_order() -> None:
    official = (OFFICIAL_KEYS / "parnet_m.txt").read_text().splitlines()
    assert [f"{key} {tuple(value.shape)}" for key, value in on_meta("parnet_m").state_dict().items()] == official


@pytest.mark.parametrize("activation", list(Activation))
def test_network_equals_the_one_written_by_hand(activation: Activation) -> None:
    config = ParNetConfig(TINY.widths, TINY.last_width, TINY.depths, activation=activation, num_classes=7)
    model, x = randomise(ParNet(config)), image(2, 3, 64, 96)
    with torch.no_grad():
        expected = ByHand(model.state_dict(), HAND_ACTIVATIONS[activation])(x, TINY.depths)
        torch.testing.assert_close(model(x), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("wrong", ["gate", "gate input", "interleave", "shuffle"])
def test_a_wrong_detail_would_show(wrong: str) -> None:
    model, x = randomise(ParNet(TINY)), image(2, 3, 64, 96)
    with torch.no_grad():
        expected, found = ByHand(model.state_dict(), HAND_ACTIVATIONS[Activation.SILU], wrong)(x, TINY.depths), model(x)
    assert (found - expected).norm() > 1e-3 * expected.norm()


@pytest.mark.parametrize(("depths", "sides"), [((3,), [4]), ((2, 3), [8, 4]), ((1, 2, 3, 3), [32, 16, 8, 4])])
def test_other_numbers_of_streams_use_the_deepest_resolutions(depths: tuple[int, ...], sides: list[int]) -> None:
    widths = (6, 8, 12, 20) if len(depths) == 4 else (8, 12, 20)
    model = randomise(ParNet(ParNetConfig(widths, 24, depths, num_classes=7)))
    assert stream_sides(model, 64) == sides
    model(image(1, 3, 64, 64)).square().sum().backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    assert [name for name, gradient in gradients.items() if gradient is None or not gradient.any()] == []


def stream_sides(model: nn.Module, side: int) -> list[int]:
    """Height of the map that each stream gives for a square image."""
    found: list[int] = []
    for stream in model.get_submodule("streams").children():
        stream.register_forward_hook(lambda _module, _inputs, output: found.append(output.shape[2]))
    like = next(model.parameters())
    with torch.no_grad():
        model(torch.zeros(1, 3, side, side, device=like.device, dtype=like.dtype))
    return found


@pytest.mark.parametrize(
    ("name", "side"), [pytest.param("parnet_s", 224, marks=pytest.mark.slow), ("parnet_cifar_w32", 32)]
)
def test_exports_without_control_flow(name: str, side: int) -> None:
    model, x = randomise(build(name)).float(), image(1, 3, side, side).float()
    exported = torch.export.export(model, (torch.zeros_like(x),))
    with torch.no_grad():
        torch.testing.assert_close(exported.module()(x), model(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("height", "width"), [(225, 224), (224, 240), (232, 232)])
def test_sides_that_the_two_branches_round_differently_are_refused(height: int, width: int) -> None:
    with pytest.raises(MisuseError, match=f"multiples of 32, not {height} x {width}"):
        ParNet(TINY)(torch.zeros(1, 3, height, width))


def test_impossible_shapes_of_network_are_refused() -> None:
    with pytest.raises(MisuseError, match="3 to 4 widths, not 2"):
        ParNetConfig((8, 16), 32, (1, 1))
    with pytest.raises(MisuseError, match="cifar layout takes 3 to 3 widths, not 4"):
        ParNetConfig((8, 16, 24, 32), 32, layout=Layout.CIFAR)
    with pytest.raises(MisuseError, match="1 to 3 streams, not 4"):
        ParNetConfig((8, 16, 24), 32, (1, 1, 1, 1))


def test_unknown_name_lists_the_closest() -> None:
    with pytest.raises(UnknownNameError, match=r"Did you mean parnet_x?l"):
        build("parnet_xll")


def test_dropout_is_the_released_one() -> None:
    rates = {name: on_meta(name).get_submodule("head.dropout").p for name in CONFIGS}
    assert {name for name, rate in rates.items() if rate == 0.1} == {"parnet_l", "parnet_xl"}


@pytest.mark.parametrize("activation", list(Activation))
def test_activation_shows_in_running_means(activation: Activation) -> None:
    config = ParNetConfig(TINY.widths, TINY.last_width, TINY.depths, activation=activation)
    model = randomise(ParNet(config), bias=1.5)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
    model.train()
    with torch.no_grad():
        for _ in range(3):
            model(image(4, 3, 64, 64))
    assert detect_activation(model.state_dict()).activation is activation


def test_activation_reason_names_the_lowest_mean() -> None:
    mean_of_a_convolution = {"streams.0.0.block.rbr_dense.bn.running_mean": torch.tensor([-1.0])}
    found = detect_activation({"combine.0.b1.running_mean": torch.tensor([0.5, -0.2]), **mean_of_a_convolution})
    assert found.activation is Activation.SILU
    assert found.reason == "combine.0.b1.running_mean goes down to -0.2, which ReLU never makes"


def test_activation_of_untrained_weights_is_the_papers() -> None:
    found = detect_activation(ParNet(TINY).state_dict())
    assert found.activation is Activation.SILU
    assert "untrained" in found.reason


def test_activation_of_another_network_is_unknown() -> None:
    with pytest.raises(WeightsError, match="no unfused ParNet's"):
        detect_activation({"head.weight": torch.zeros(2, 2)})
