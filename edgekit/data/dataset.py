"""What every source of images can do."""

from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

Split = Literal["test", "train"]
"""Which of two sets without a common image; only the embedded sets have two."""

Pixels = NDArray[np.uint8]
"""An image, H x W x 3, RGB."""


class Dataset(Protocol):
    """Images that are made or read when they are asked for, so that any number of them takes no memory.

    Attributes:
        name: What it is called in reports, such as `digits` or a folder's name.
        classes: Name of each class, by label.
        digest: Hex digest of what the set holds; cheap to compute, so a folder's covers names and sizes only.
    """

    @property
    def name(self) -> str: ...
    @property
    def classes(self) -> tuple[str, ...]: ...
    @property
    def digest(self) -> str: ...

    def __len__(self) -> int: ...

    def image(self, index: int) -> Pixels:
        """One image, H x W x 3, RGB; sizes may differ from image to image.

        Raises:
            DataError: It cannot be read.
        """
        ...

    def label(self, index: int) -> int | None:
        """The image's class; None where the set has no labels."""
        ...

    def title(self, index: int) -> str:
        """What to call the image, such as its file's name or `digits/17`."""
        ...
