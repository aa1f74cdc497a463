"""The generated patterns: the same bytes everywhere, and no two splits or images alike."""

import hashlib
from collections import Counter

import numpy as np
import pytest

from edgekit.data.pattern_classes import CLASSES, SHAPES, TEXTURES
from edgekit.data.patterns import GRID, Draw, Patterns, pattern
from edgekit.errors import DataError

HASHES = {"test": "fc457670db1cb237", "train": "8c7a52cff231d7c6"}


@pytest.mark.parametrize("split", HASHES)
def test_the_first_forty_images_are_these_on_every_machine(split: str) -> None:
    """Two images of each class; a change here has to raise `patterns.VERSION`, and the demo models are trained anew."""
    patterns = Patterns("train" if split == "train" else "test", 40)
    digest = hashlib.sha256(b"".join(patterns.image(index).tobytes() for index in range(40)))
    assert digest.hexdigest()[:16] == HASHES[split]


def test_an_image_depends_on_its_index_alone() -> None:
    few, many = Patterns("test", 100), Patterns("test", 1_000_000)

    later = many.image(999_999)

    assert len(many) == 1_000_000
    assert np.array_equal(few.image(73), many.image(73))
    assert not np.array_equal(later, many.image(999_998))
    assert few.digest != many.digest


def test_the_splits_have_no_image_in_common() -> None:
    images = [{Patterns(split).image(index).tobytes() for index in range(60)} for split in ("train", "test")]
    assert len(images[0] | images[1]) == 120
    assert Patterns("train").digest != Patterns("test").digest


def test_every_twenty_images_have_every_class_once() -> None:
    patterns = Patterns("test", 400)
    labels = [patterns.label(index) for index in range(400)]
    for start in range(0, 400, 20):
        assert sorted(labels[start : start + 20]) == list(range(20))
    assert len(set(labels[::20])) == 20  # a stride meets all of them too


def test_there_are_twenty_classes_of_two_kinds() -> None:
    patterns = Patterns("test", 1)
    assert patterns.classes == CLASSES == (*TEXTURES, *SHAPES)
    assert len(set(CLASSES)) == 20


@pytest.mark.parametrize("name", CLASSES)
def test_every_class_leaves_ink_and_paper(name: str) -> None:
    for index in range(8):
        ink = pattern(Draw("test", index), name)
        assert ink.shape == GRID.x.shape
        assert 0 <= float(ink.min()) < 0.1
        assert 0.9 < float(ink.max()) <= 1
        assert 0.01 < float(ink.mean()) < 0.6


def test_numbers_are_uniform() -> None:
    values = Draw("train", 3).array(100_000)
    shares = Counter((values * 10).astype(int).tolist())
    assert set(shares) == set(range(10))
    assert max(abs(count - 10_000) for count in shares.values()) < 500
    assert 2 <= Draw("train", 4).between(2, 3) < 3


@pytest.mark.parametrize("count", [0, -1, 10_000_001])
def test_numbers_of_images_that_cannot_be_are_refused(count: int) -> None:
    with pytest.raises(DataError, match=r"Give 1 to 10,000,000 images\."):
        Patterns("test", count)


def test_an_index_outside_is_refused() -> None:
    with pytest.raises(IndexError, match="image 5 of 5"):
        Patterns("test", 5).image(5)
