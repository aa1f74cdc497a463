"""scikit-learn's bundled handwritten digits: 1,797 real images, 8x8, grey, which need no download.

They are the test part of E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning
Repository, 1998. Within each class the images alternate between train and test, in the order of the collection, so
the splits have every writer and no image in common.
"""

import hashlib

import numpy as np
from numpy.typing import NDArray

from edgekit.data.dataset import Pixels, Split
from edgekit.errors import DataError, MissingExtraError

SIDE = 8

LEVELS = 16
"""Brightest value of a pixel in the collection."""

CLASSES = tuple("0123456789")


class Digits:
    """The first images of one split.

    Args:
        split: Train has 901 images, test 896.
        count: How many; None takes all.

    Raises:
        MissingExtraError: scikit-learn is not installed.
        DataError: There are not so many.
    """

    name = "digits"
    classes = CLASSES

    def __init__(self, split: Split, count: int | None = None) -> None:
        images, labels = collection()
        chosen = members(labels, split)
        if count is not None and count > len(chosen):
            raise DataError(
                f"digits has {len(chosen)} {split} images, and {count} were asked for. Give at most digits:"
                f"{len(chosen)}; patterns:{count} has as many as wanted."
            )
        self._images, self._labels = images[chosen][:count], labels[chosen][:count]

    @property
    def digest(self) -> str:
        return hashlib.sha256(self._images.tobytes() + self._labels.tobytes()).hexdigest()

    def __len__(self) -> int:
        return len(self._images)

    def image(self, index: int) -> Pixels:
        return np.repeat(self._images[index][:, :, None], 3, axis=2)

    def label(self, index: int) -> int:
        return int(self._labels[index])

    def title(self, index: int) -> str:
        return f"digits/{index}"


def collection() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """All images, N x 8 x 8, bright strokes on black, and their labels.

    Raises:
        MissingExtraError: scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise MissingExtraError("scikit-learn", "data", "The data set 'digits'") from error
    pixels, labels = load_digits(return_X_y=True)
    # 255 * value / 16, rounded half up in whole numbers.
    images = (pixels.reshape(-1, SIDE, SIDE).astype(np.int64) * 255 + LEVELS // 2) // LEVELS
    return images.astype(np.uint8), np.asarray(labels).astype(np.uint8)


def members(labels: NDArray[np.uint8], split: Split) -> NDArray[np.intp]:
    """Where a split's images are: of each class every other one, in order."""
    turn = ("train", "test").index(split)
    chosen = [np.flatnonzero(labels == label)[turn::2] for label in range(len(CLASSES))]
    return np.sort(np.concatenate(chosen))
