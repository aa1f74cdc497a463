"""What is said of odd calibration images, and that nothing is said of others."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edgekit.data.lint import lint
from edgekit.data.sources import open_dataset
from edgekit.models.cards import IMAGENET

Images = NDArray[np.uint8]


def photographs(count: int = 40) -> Images:
    """Noise that is a little red, as photographs are."""
    generator = np.random.default_rng(0)
    images: Images = (generator.integers(0, 200, (count, 8, 8, 3)) + np.array([40, 20, 0])).astype(np.uint8)
    return images


@pytest.mark.parametrize(
    ("spoil", "warning"),
    [
        (lambda images: images, None),
        (lambda images: images[..., ::-1], "in the order BGR?"),
        (lambda images: np.repeat(images[:20], 2, axis=0), "20 are copies of others"),
        (lambda images: images // 255, "No pixel of the calibration images is above"),
        (lambda images: images[:9], "Only 9 images to calibrate with"),
    ],
    ids=["sound", "channels", "copies", "scale", "few"],
)
def test_each_oddity_has_its_warning(spoil: Callable[[Images], Images], warning: str | None, tmp_path: Path) -> None:
    images = spoil(photographs())
    np.savez(tmp_path / "a.npz", images=images, labels=np.zeros(len(images), np.int64))
    dataset = open_dataset(str(tmp_path / "a.npz"))

    found = lint(dataset, range(len(dataset)), IMAGENET)

    matching = [text for text in found if warning is not None and warning in text]
    assert len(matching) == (warning is not None)
    if warning is None:
        assert found == ()


@pytest.mark.parametrize("name", ["digits", "patterns"])
def test_nothing_is_odd_about_the_embedded_sets(name: str) -> None:
    dataset = open_dataset(name, "train")
    assert lint(dataset, range(0, len(dataset), len(dataset) // 64), IMAGENET) == ()
