"""What two classifiers that saw the same images can be said to differ by.

The images that only one of them gets right are the whole evidence: `lost` (the first right, the second wrong) and
`gained` (the other way round). The images they agree on say how many there were and nothing about which is better.
"""

import math
from typing import Literal

import numpy as np

Decision = Literal["within", "over", "undecided"]

CONFIDENCE = 0.95

RESAMPLES = 10_000
"""Resamplings of a bootstrap: its bounds move by less than a tenth of their width from seed to seed."""

SEED = 0

RESOLUTION_POINTS = 0.3
"""The drop that a data set should be able to tell from none."""

_NORMAL = 1.959964
"""The standard normal distribution stays within plus or minus this with 95 % probability."""


def points(lost: int, gained: int, images: int) -> float:
    """The drop of top-1 in points: what the second gets less, in percent of the images; negative where it gets more.

    Raises:
        ValueError: There are no images.
    """
    if images < 1:
        raise ValueError("nothing was compared")
    return 100 * (lost - gained) / images


def mcnemar(lost: int, gained: int) -> float:
    """McNemar's test, exact and two-sided: how often a fair coin splits `lost + gained` images at least as unevenly.

    McNemar, "Note on the sampling error of the difference between correlated proportions or percentages",
    Psychometrika 12, 1947; the exact form is the sign test on the discordant pairs. Whole numbers throughout, so that
    thousands of images lose nothing to rounding.
    """
    tosses, fewer = lost + gained, min(lost, gained)
    ways, tail = 1, 0  # ways: tosses over k
    for k in range(fewer + 1):
        tail += ways
        ways = ways * (tosses - k) // (k + 1)
    return min(1.0, 2 * tail / (1 << tosses))


def drop_interval(lost: int, gained: int, images: int, seed: int = SEED) -> tuple[float, float]:
    """Where the drop in points lies with 95 % confidence: a percentile bootstrap over the images.

    Drawing images with replacement is drawing the counts of lost, gained and unchanged ones from a multinomial
    distribution, all resamplings at once. One lost and one gained image are added before (Bonett and Price, "Adjusted
    Wald confidence interval for a difference of binomial proportions based on paired data", Journal of Educational and
    Behavioral Statistics 37, 2012): without them, no discordant image among a hundred would pass for certainty.

    Raises:
        ValueError: There are no images.
    """
    if images < 1:
        raise ValueError("nothing was compared")
    shares = _shares(lost, gained, images)
    counts = np.random.default_rng(seed).multinomial(images, [*shares, 1 - sum(shares)], size=RESAMPLES)
    drops = 100 / images * (counts[:, 0] - counts[:, 1])
    low, high = np.quantile(drops, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def _shares(lost: int, gained: int, images: int) -> tuple[float, float]:
    """The shares of lost and gained images, with one of each added."""
    return (lost + 1) / (images + 2), (gained + 1) / (images + 2)


def images_needed(lost: int, gained: int, images: int, resolution: float = RESOLUTION_POINTS) -> int:
    """How many images it takes until the interval reaches no further than `resolution` points to either side.

    From the variance of one image's difference, which is the discordant share less the square of the mean difference.
    Enough is counted as is: the result is at least one.

    Raises:
        ValueError: The resolution is not positive.
    """
    if resolution <= 0:
        raise ValueError("no number of images tells a drop from itself")
    shares = _shares(lost, gained, images)
    variance = sum(shares) - (shares[0] - shares[1]) ** 2
    return max(1, math.ceil(variance * (100 * _NORMAL / resolution) ** 2))


def decide(interval: tuple[float, float], max_drop: float) -> Decision:
    """Whether a drop keeps a budget: only where the whole interval lies on one side of it is that decided."""
    low, high = interval
    if low > max_drop:
        return "over"
    return "within" if high <= max_drop else "undecided"
