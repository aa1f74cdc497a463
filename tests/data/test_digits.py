"""The handwritten digits: two splits of real images."""

import sys
from collections import Counter
from typing import get_args

import numpy as np
import pytest

from edgekit.data.dataset import Split
from edgekit.data.digits import Digits
from edgekit.errors import DataError, MissingExtraError


def pixels(digits: Digits) -> set[bytes]:
    return {digits.image(index).tobytes() for index in range(len(digits))}


def test_the_splits_share_no_image_and_together_are_the_collection() -> None:
    train, test = Digits("train"), Digits("test")

    assert (len(train), len(test)) == (901, 896)
    assert not pixels(train) & pixels(test)
    assert len(pixels(train) | pixels(test)) == 1797
    assert train.digest != test.digest


@pytest.mark.parametrize("split", get_args(Split))
def test_every_class_is_in_each_split_equally_often(split: Split) -> None:
    digits = Digits(split)
    counts = Counter(digits.label(index) for index in range(len(digits)))
    assert counts.keys() == set(range(len(digits.classes)))
    assert max(counts.values()) - min(counts.values()) <= 5


def test_images_are_the_collections_on_the_scale_of_bytes() -> None:
    datasets = pytest.importorskip("sklearn.datasets")
    found = datasets.load_digits()
    digits = Digits("train")

    image = digits.image(0)

    assert image.dtype == np.uint8
    assert (image.shape, digits.label(0), digits.title(0)) == ((8, 8, 3), 0, "digits/0")
    np.testing.assert_allclose(image[:, :, 1], found.images[0] * 255 / 16, atol=0.5)


def test_a_smaller_set_is_the_beginning_of_a_larger_one() -> None:
    few = Digits("test", 30)
    assert len(few) == 30
    assert few.image(29).tobytes() == Digits("test").image(29).tobytes()
    assert few.digest == Digits("test", 30).digest != Digits("test", 31).digest


def test_more_than_there_are_is_refused() -> None:
    with pytest.raises(DataError, match=r"896 test images, and 2000 were asked for\. Give at most digits:896"):
        Digits("test", 2000)


def test_without_scikit_learn_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(MissingExtraError, match=r"needs scikit-learn.*edgekit\[data\]"):
        Digits("test")
