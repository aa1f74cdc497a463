"""Streams a dataset into a network, one prepared image at a time."""

from collections.abc import Iterable, Iterator

from edgekit.artifact import Preprocessing
from edgekit.data.dataset import Dataset
from edgekit.data.preprocess import Size, Tensor, prepare


def feed(dataset: Dataset, preprocessing: Preprocessing, size: Size, indices: Iterable[int]) -> Iterator[Tensor]:
    """Prepared images in the order of the indices, float32, 1 x 3 x H x W; one is in memory at a time.

    Raises:
        DataError: An image cannot be read.
    """
    for index in indices:
        yield prepare(dataset.image(index), preprocessing, size)[None]
