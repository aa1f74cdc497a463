"""Architectures of timm: small ones, random weights, small sizes."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from edgekit.capture import capture, output_specs
from edgekit.errors import MisuseError, ModelError
from edgekit.intake import resolve
from edgekit.intake.explain import explain_program
from edgekit.models.build import fit_backbone
from edgekit.models.weights import load_weights, random_weights
from edgekit.program import run, stats
from tests.timm_beside_torch import import_timm


@pytest.fixture(scope="module", autouse=True)
def timm() -> Any:
    return import_timm()


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("resnet10t", (1, 3, 64, 64)),
        pytest.param("mobilenetv3_small_050", (1, 3, 64, 96), marks=pytest.mark.slow),
        ("test_vit", (1, 3, 96, 96)),
        ("test_convnext", (1, 3, 64, 64)),
        pytest.param("ghostnet_050", (2, 3, 64, 64), marks=pytest.mark.slow),
    ],
)
def test_architecture_is_captured(name: str, shape: tuple[int, ...]) -> None:
    built = resolve(f"timm:{name}").build(shape)
    random_weights(built.original, 0)
    program = capture(built.model, shape)
    image = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(run(program, image)[0], built.model(image))
    assert explain_program(program, built.model) is None
    assert built.outputs == ("logits",)
    card = resolve(f"timm:{name}").card(shape)
    assert card.macs == stats(program).macs
    assert card.parameters == sum(value.numel() for value in built.model.parameters())


def test_card_is_the_pretrained_cfg(timm: Any) -> None:
    config = timm.get_pretrained_cfg("mobilenetv3_small_050")
    source = resolve("timm:mobilenetv3_small_050")
    card = source.card()
    assert card.input_shape == (1, *config.input_size)
    assert card.preprocessing.mean == config.mean
    assert card.preprocessing.std == config.std
    assert card.preprocessing.crop_fraction == config.crop_pct
    assert card.preprocessing.interpolation == config.interpolation
    assert (card.classes, card.weights_licence) == (config.num_classes, config.license)
    assert source.identity() == {"timm": timm.__version__, "name": "mobilenetv3_small_050"}
    assert source.weights == "seeded"


def test_fixed_size_is_built_for_another() -> None:
    built = resolve("timm:test_vit").build((1, 3, 96, 96))
    assert built.model(torch.zeros(1, 3, 96, 96)).shape == (1, 1000)


def test_size_it_cannot_be_built_for() -> None:
    with pytest.raises(ModelError, match=r"test_vit.+(97|16)"):
        resolve("timm:test_vit").build((1, 3, 97, 97))


def test_one_channel_is_built() -> None:
    assert resolve("timm:resnet10t").build((1, 1, 64, 64)).model(torch.zeros(1, 1, 64, 64)).shape == (1, 1000)


def test_unknown_architecture_names_the_closest() -> None:
    with pytest.raises(MisuseError, match=r"timm \d.+ has no architecture named 'resnet10x'. Did you mean resnet10t"):
        resolve("timm:resnet10x").card()


@pytest.mark.parametrize("text", ["resnet10t?pretrained", "hf-hub:someone/net"])
def test_downloads_are_refused(text: str) -> None:
    with pytest.raises(MisuseError, match=r"which edgekit does not fetch by itself. Write timm:NAME and give the file"):
        resolve(f"timm:{text}")


@pytest.mark.parametrize(
    ("name", "side", "channels"),
    [("resnet10t", 64, (64, 64, 128, 256, 512)), ("test_convnext", 64, (24, 32, 48, 64))],
)
def test_features_are_maps_named_by_their_stride(name: str, side: int, channels: tuple[int, ...]) -> None:
    source = resolve(f"timm:{name}", features=True)
    built = source.build((1, 3, side, side))
    specs = output_specs(capture(built.model, (1, 3, side, side)), built.outputs)
    assert source.name == f"{name}_features"
    assert [spec.shape[1] for spec in specs] == list(channels)
    assert [spec.name for spec in specs] == [f"stride{side // spec.shape[2]}" for spec in specs]
    identity = source.identity()
    assert identity is not None
    assert identity["name"] != (resolve(f"timm:{name}").identity() or {})["name"]


def test_a_card_of_features_has_no_classes() -> None:
    assert resolve("timm:resnet10t", features=True).card((1, 3, 64, 64)).classes == 0


@pytest.mark.parametrize("name", ["resnet10t", "mobilenetv3_small_050", "test_convnext", "ghostnet_050"])
def test_features_take_the_checkpoint_of_the_classifier(timm: Any, name: str, tmp_path: Path) -> None:
    classifier = timm.create_model(name, pretrained=False).eval()
    random_weights(classifier, 3)
    save_file(classifier.state_dict(), tmp_path / "classifier.safetensors")
    built = resolve(f"timm:{name}", features=True).build((1, 3, 64, 64))

    load_weights(built.original, tmp_path / "classifier.safetensors", fit=partial(fit_backbone, built.original))

    image = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = classifier.forward_intermediates(image, intermediates_only=True)
        for found, map_of_the_classifier in zip(built.model(image)[-2:], expected[-2:], strict=True):
            torch.testing.assert_close(found, map_of_the_classifier)
