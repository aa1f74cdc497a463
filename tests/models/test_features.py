"""Backbones: their maps are those inside the classifier, and a classifier's checkpoint loads into them strictly."""

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from edgekit.errors import MisuseError, UnknownNameError
from edgekit.models.features import ParCNetV2Features, ParNetFeatures, build, from_classifier, output_names
from edgekit.models.parcnetv2 import ParCNetV2, ParCNetV2Config
from edgekit.models.parnet import Layout, ParNet, ParNetConfig
from edgekit.models.weights import random_weights

PARCNETV2 = ParCNetV2Config(widths=(8, 12, 16, 24), depths=(1, 1, 2, 1), num_classes=7)
PARNET = ParNetConfig(widths=(8, 12, 20), last_width=24, depths=(2, 1, 3), num_classes=7)

SIZES = [  # name, height, width, parameters, MACs
    ("parcnetv2_xt", 512, 512, 7_106_736, 9_096_953_856),
    ("parcnetv2_t", 512, 512, 24_422_144, 23_731_765_248),
    ("parcnetv2_t", 512, 2048, 24_422_144, 110_177_550_336),
    ("parcnetv2_s", 512, 512, 38_923_520, 42_812_964_864),
    ("parcnetv2_b", 512, 512, 55_791_456, 68_334_206_976),
    ("parnet_m", 224, 224, 20_667_712, 7_989_895_360),
    ("parnet_m", 512, 512, 20_667_712, 41_735_200_960),
]
QUICK = (("parcnetv2_xt", 512), ("parcnetv2_t", 2048), ("parnet_m", 224))  # name, width
COUNTED = [row if (row[0], row[2]) in QUICK else pytest.param(*row, marks=pytest.mark.slow) for row in SIZES]


def randomised(model: nn.Module) -> nn.Module:
    """Seeded weights, in float64."""
    random_weights(model, 0)
    return model.double().eval()


def image(height: int, width: int) -> Tensor:
    return torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def outputs_inside(model: nn.Module, container: str, x: Tensor) -> list[Tensor]:
    """What each child of a module gives while the whole model runs."""
    found: list[Tensor] = []

    def keep(_module: nn.Module, _inputs: object, output: Tensor) -> None:
        found.append(output)

    for child in model.get_submodule(container).children():
        child.register_forward_hook(keep)
    with torch.no_grad():
        model(x)
    return found


@pytest.mark.parametrize(
    ("name", "height", "width", "parameters", "macs"), COUNTED, ids=[f"{row[0]}-{row[1]}x{row[2]}" for row in SIZES]
)
def test_sizes_and_shapes(name: str, height: int, width: int, parameters: int, macs: int) -> None:
    with torch.device("meta"):
        backbone = build(name).eval()
    with FlopCounterMode(display=False) as counter:
        maps = backbone(torch.empty(1, 3, height, width, device="meta"))
    assert sum(parameter.numel() for parameter in backbone.parameters()) == parameters
    assert counter.get_total_flops() == 2 * macs
    expected = [
        (1, channels, height // stride, width // stride)
        for channels, stride in zip(backbone.widths, backbone.strides, strict=True)
    ]
    assert [tuple(each.shape) for each in maps] == expected


@pytest.mark.parametrize(
    ("name", "names"),
    [
        ("parcnetv2_xt", ("stride4", "stride8", "stride16", "stride32")),
        ("parnet_s", ("stride4", "stride8", "stride16")),
        ("parnet_m_streams2", ("stride8", "stride16")),
        ("parnet_m_streams4", ("stride2", "stride4", "stride8", "stride16")),
        ("parnet_cifar_w32", ("stride1", "stride2", "stride4")),
    ],
)
def test_outputs_are_named_by_their_stride_which_is_true(name: str, names: tuple[str, ...]) -> None:
    with torch.device("meta"):
        backbone = build(name).eval()
    maps = backbone(torch.empty(1, 3, 64, 96, device="meta"))
    assert output_names(backbone) == names
    assert [f"stride{64 // each.shape[2]}" for each in maps] == list(names)
    assert [f"stride{96 // each.shape[3]}" for each in maps] == list(names)


def test_parcnetv2_maps_are_the_normed_stage_outputs_of_the_classifier() -> None:
    classifier = randomised(ParCNetV2(PARCNETV2))
    backbone = ParCNetV2Features(PARCNETV2).double().eval()
    for stage in range(4):
        nn.init.uniform_(backbone.get_parameter(f"norm{stage}.weight"), 0.5, 1.5, torch.Generator().manual_seed(stage))
    backbone.load_state_dict(from_classifier(backbone, classifier.state_dict()), strict=True)
    x = image(64, 96)
    with torch.no_grad():
        maps = backbone(x)
    for stage, (tokens, found) in enumerate(zip(outputs_inside(classifier, "stages", x), maps, strict=True)):
        centred = tokens - tokens.mean(-1, keepdim=True)
        expected = (
            centred / centred.square().sum(-1, keepdim=True).sqrt() * backbone.get_parameter(f"norm{stage}.weight")
        )
        torch.testing.assert_close(found, expected.permute(0, 3, 1, 2), rtol=1e-9, atol=1e-9)


def test_parnet_maps_are_the_stream_outputs_of_the_classifier() -> None:
    classifier, backbone, x = randomised(ParNet(PARNET)), ParNetFeatures(PARNET).double().eval(), image(64, 96)
    backbone.load_state_dict(from_classifier(backbone, classifier.state_dict()), strict=True)
    with torch.no_grad():
        maps = backbone(x)
    assert len(maps) == 3
    for expected, found in zip(outputs_inside(classifier, "streams", x), maps, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def test_keys_are_the_classifiers_and_the_norms() -> None:
    classifier, backbone = ParCNetV2(PARCNETV2).state_dict(), ParCNetV2Features(PARCNETV2).state_dict()
    norms = [f"norm{stage}.weight" for stage in range(4)]
    assert list(backbone) == [*(name for name in classifier if not name.startswith(("norm.", "head."))), *norms]
    assert [tuple(backbone[name].shape) for name in norms] == [(8,), (12,), (16,), (24,)]


def test_fresh_norms_fill_a_classifiers_checkpoint() -> None:
    backbone = ParCNetV2Features(PARCNETV2)
    given = from_classifier(backbone, ParCNetV2(PARCNETV2).state_dict())
    assert all(given[f"norm{stage}.weight"].equal(torch.ones(width)) for stage, width in enumerate(PARCNETV2.widths))


@pytest.mark.parametrize(
    "backbone", [ParCNetV2Features(PARCNETV2), ParNetFeatures(PARNET)], ids=["parcnetv2", "parnet"]
)
def test_a_backbones_own_checkpoint_stays_as_it_is(backbone: ParCNetV2Features | ParNetFeatures) -> None:
    tensors = {name: tensor + 1 for name, tensor in backbone.state_dict().items()}
    given = from_classifier(backbone, tensors)
    assert list(given) == list(tensors)
    assert all(given[name].equal(tensors[name]) for name in tensors)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensors: tensors.pop("stages.2.1.norm1.weight"), r"Missing key.*stages\.2\.1\.norm1\.weight"),
        (lambda tensors: tensors.update(extra=torch.ones(1)), r"Unexpected key.*extra"),
        (lambda tensors: tensors.update({"norm2.weight": torch.ones(16)}), r"Missing key.*norm0\.weight"),
    ],
    ids=["a block lacks", "a stranger", "one norm of four"],
)
def test_any_other_difference_fails_strict_loading(change: object, message: str) -> None:
    backbone, tensors = ParCNetV2Features(PARCNETV2), ParCNetV2(PARCNETV2).state_dict()
    change(tensors)  # type: ignore[operator]
    with pytest.raises(RuntimeError, match=f"(?s){message}"):
        backbone.load_state_dict(from_classifier(backbone, tensors), strict=True)


@pytest.mark.parametrize(("height", "width"), [(48, 80), (16, 16)])
def test_parnet_takes_multiples_of_16_without_its_classifier(height: int, width: int) -> None:
    maps = randomised(ParNetFeatures(PARNET))(image(height, width))
    assert [each.shape[2:] for each in maps] == [(height // s, width // s) for s in (4, 8, 16)]


def test_other_sides_are_refused() -> None:
    with pytest.raises(MisuseError, match="multiples of 16, not 64 x 72"):
        ParNetFeatures(PARNET)(torch.zeros(1, 3, 64, 72))
    cifar = ParNetConfig((8, 16, 32), 64, (1, 1, 1), num_classes=7, layout=Layout.CIFAR)
    with pytest.raises(MisuseError, match="multiples of 4, not 32 x 30"):
        ParNetFeatures(cifar)(torch.zeros(1, 3, 32, 30))


@pytest.mark.parametrize(
    "backbone", [ParCNetV2Features(PARCNETV2), ParNetFeatures(PARNET)], ids=["parcnetv2", "parnet"]
)
def test_exports_all_maps(backbone: nn.Module) -> None:
    random_weights(backbone.eval(), 0)
    x = image(64, 128).float()
    exported = torch.export.export(backbone, (torch.zeros_like(x),))
    with torch.no_grad():
        torch.testing.assert_close(exported.module()(x), backbone(x), rtol=1e-5, atol=1e-5)


def test_unknown_backbone_names_the_closest() -> None:
    with pytest.raises(UnknownNameError, match=r"There is no backbone named 'parcnetv2_x'.*parcnetv2_xt"):
        build("parcnetv2_x")
