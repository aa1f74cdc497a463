"""What is odd about calibration images: a quantizer takes any images, and wrong ones cost points silently."""

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edgekit.artifact import Preprocessing
from edgekit.data.dataset import Dataset

FEW = 32
"""Below this many images the least and the largest value of a map are a matter of luck."""

LOOKED_AT = 64
"""How many images are looked at, evenly spread."""

_DARK = 8
"""No pixel of 8 bits above this in any image: values from 0 to 1 that were not scaled to 0..255."""

_CLEAR = 4.0
"""Difference of red and blue, in 8-bit steps, from which an order of channels shows."""

_ERRORS = 3.0
"""How many standard errors of its mean it has to be."""


def lint(dataset: Dataset, indices: Sequence[int], preprocessing: Preprocessing) -> tuple[str, ...]:
    """Warnings about calibration images; none where nothing is odd.

    Args:
        dataset: Where they are from.
        indices: Which they are.
        preprocessing: The model card's, whose mean tells what the network was trained on.
    """
    looked = indices[:: max(1, len(indices) // LOOKED_AT)]
    images = (dataset.image(index) for index in looked)
    digests, means, brightest = set(), [], 0
    for image in images:
        digests.add(hashlib.sha256(np.ascontiguousarray(image).tobytes()).digest())
        means.append(image.reshape(-1, 3).mean(axis=0))
        brightest = max(brightest, int(image.max()))
    found = []
    if len(indices) < FEW:
        found.append(f"Only {len(indices)} images to calibrate with; ranges of activations settle with 100 or more.")
    if len(digests) < len(looked):
        found.append(
            f"Of {len(looked)} calibration images looked at, {len(looked) - len(digests)} are copies of others, which "
            "add nothing to the ranges."
        )
    if brightest <= _DARK:
        found.append(
            f"No pixel of the calibration images is above {brightest} of 255. Were values from 0 to 1 stored as whole "
            "numbers? Store 0 to 255."
        )
    elif _looks_reversed(means, preprocessing):
        found.append(
            "The calibration images are bluer than the images the network was trained on are red. Are their channels "
            "in the order BGR? edgekit takes RGB, and turns them round where the model card says so."
        )
    return tuple(found)


def _looks_reversed(means: Sequence[NDArray[np.float64]], preprocessing: Preprocessing) -> bool:
    """Whether red and blue differ, beyond what these few images leave to chance, the other way than in the card."""
    red, _, blue = preprocessing.mean if preprocessing.channel_order == "RGB" else preprocessing.mean[::-1]
    expected = 255 * (red - blue)
    differences = np.asarray([mean[0] - mean[2] for mean in means])
    found, error = float(differences.mean()), float(differences.std()) / len(means) ** 0.5
    return abs(expected) > _CLEAR and abs(found) > max(_CLEAR, _ERRORS * error) and expected * found < 0
