"""Preprocessing, against timm's own evaluation transform."""

import hashlib

import numpy as np
import pytest
from msgspec import structs
from numpy.typing import NDArray
from PIL import Image

from edgekit.artifact import Preprocessing
from edgekit.data.preprocess import golden, golden_image, prepare, scaled_size
from edgekit.models.cards import CARDS, IMAGENET
from tests.timm_beside_torch import import_timm

SMALL = structs.replace(IMAGENET, crop_fraction=1.0, interpolation="bilinear")


def timm_prepared(
    image: NDArray[np.generic], preprocessing: Preprocessing, size: tuple[int, int]
) -> NDArray[np.generic]:
    transform = import_timm().data.transforms_factory.transforms_imagenet_eval(
        img_size=size,
        crop_pct=preprocessing.crop_fraction,
        interpolation=preprocessing.interpolation,
        mean=preprocessing.mean,
        std=preprocessing.std,
    )
    result: NDArray[np.generic] = transform(Image.fromarray(image)).numpy()
    return result


@pytest.mark.parametrize("size", [(224, 224), (64, 64), (96, 160), (33, 32)], ids=str)
@pytest.mark.parametrize("shape", [(97, 131), (300, 200), (8, 8), (64, 64), (500, 333)], ids=str)
@pytest.mark.parametrize(
    "preprocessing", [IMAGENET, SMALL, structs.replace(IMAGENET, crop_fraction=0.95)], ids=("imagenet", "whole", "0.95")
)
def test_it_is_timms_evaluation_transform_to_the_bit(
    preprocessing: Preprocessing, shape: tuple[int, int], size: tuple[int, int]
) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)

    ours = prepare(image, preprocessing, size)

    assert ours.dtype == np.float32
    assert (ours.shape, ours.flags.c_contiguous) == ((3, *size), True)
    np.testing.assert_array_equal(ours, timm_prepared(image, preprocessing, size))


def test_an_image_of_the_networks_size_is_only_scaled_and_normalised() -> None:
    image = np.arange(8 * 8 * 3, dtype=np.uint8).reshape(8, 8, 3)
    wanted = (image.astype(np.float64) / 255 - SMALL.mean) / SMALL.std

    np.testing.assert_allclose(prepare(image, SMALL, (8, 8)), wanted.transpose(2, 0, 1), rtol=1e-6, atol=1e-7)


def test_channels_are_reversed_for_a_network_that_takes_bgr() -> None:
    plain = structs.replace(SMALL, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    image = np.random.default_rng(1).integers(0, 256, (8, 8, 3), dtype=np.uint8)

    bgr = prepare(image, structs.replace(plain, channel_order="BGR", mean=(0.5, 0.25, 0.0)), (8, 8))

    rgb = prepare(image, plain, (8, 8))
    np.testing.assert_allclose(bgr, rgb[::-1] - np.array((0.5, 0.25, 0.0), dtype=np.float32)[:, None, None], atol=1e-6)


@pytest.mark.parametrize(
    ("image", "size", "crop_fraction", "scaled"),
    [
        ((300, 400), (224, 224), 0.875, (256, 341)),
        ((400, 300), (224, 224), 0.875, (341, 256)),
        ((10, 500), (32, 32), 1.0, (32, 1600)),
        ((100, 100), (64, 128), 1.0, (128, 128)),
    ],
)
def test_the_short_side_sets_the_scale(
    image: tuple[int, int], size: tuple[int, int], crop_fraction: float, scaled: tuple[int, int]
) -> None:
    assert scaled_size(image, size, crop_fraction) == scaled


def test_the_golden_image_is_the_same_everywhere() -> None:
    assert hashlib.sha256(golden_image().tobytes()).hexdigest()[:16] == "d5f9b5d944ab2218"


def test_the_golden_hash_changes_with_every_setting() -> None:
    changes: list[dict[str, object]] = [
        {},
        {"interpolation": "bilinear"},
        {"crop_fraction": 0.9},
        {"channel_order": "BGR"},
        {"mean": (0.5, 0.5, 0.5)},
        {"std": (0.5, 0.5, 0.5)},
    ]
    hashes = [golden(structs.replace(IMAGENET, **change), (48, 48)) for change in changes]

    assert len({*hashes, golden(IMAGENET, (48, 40))}) == len(changes) + 1
    assert golden(IMAGENET, (48, 48)) == hashes[0]


def test_every_card_can_be_carried_out() -> None:
    for preprocessing in {card.preprocessing for card in CARDS.values()}:
        tensor = prepare(golden_image(), preprocessing, (32, 32))
        assert np.isfinite(tensor).all()
        assert float(tensor.std()) > 0.1
