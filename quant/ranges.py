"""Ranges of activations: the values that an int8 grid reaches from and to, found on calibration inputs.

    minmax       from the least to the largest value: nothing is clipped
    percentile   all but one value in ten thousand at either end
    mse          the ends with the least mean squared error: what is clipped weighed against the width of the steps

Nothing depends on the order of the inputs, and memory does not grow with their number: they are run through once for
the least and largest values and, where values are clipped, once more for a histogram of each tensor between these. Of a
large map a histogram counts one value in every few, evenly spread.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgekit.quant.base import Observed
from edgekit.quant.recipe import Ranges

BINS = 2048
STEPS = 255
"""Between the ends of an 8-bit grid."""

COUNTED = 1 << 16
"""Values of a tensor that a histogram counts in one run, about; larger ones are counted in part."""

TAIL = 1e-4
"""The share of a tensor's values that a percentile leaves out at either end."""

Range = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Histogram:
    """How often the values of a tensor fall into bins of equal width.

    Attributes:
        counts: Of each bin.
        ends: Of the first and the last bin; 0 is between them.
        zeros: How many values are exactly 0, which every grid has; they are in `counts` too.
    """

    counts: NDArray[np.float64]
    ends: Range
    zeros: float = 0.0

    @property
    def edges(self) -> NDArray[np.float64]:
        """The ends of all bins."""
        return np.linspace(*self.ends, len(self.counts) + 1)


def find_ranges(observations: Callable[[], Iterable[Observed]], method: Ranges) -> dict[str, Range]:
    """The range of every tensor; 0, which every grid has to hold, is in all of them.

    Args:
        observations: Runs through the calibration inputs anew, and gives the tensors of one after another.
        method: How the ends are chosen.
    """
    extremes = find_extremes(observations())
    if method == "minmax":
        return extremes
    choose = percentile if method == "percentile" else least_error
    return {name: choose(histogram) for name, histogram in count(observations(), extremes).items()}


def find_extremes(runs: Iterable[Observed]) -> dict[str, Range]:
    """The least and the largest value of every tensor, or 0."""
    found: dict[str, Range] = {}
    for tensors in runs:
        for name, values in tensors.items():
            low, high = found.get(name, (0.0, 0.0))
            found[name] = min(low, float(values.min())), max(high, float(values.max()))
    return found


def count(runs: Iterable[Observed], extremes: Mapping[str, Range]) -> dict[str, Histogram]:
    """The histogram of every tensor, between ends that hold all of its values."""
    counts = {name: np.zeros(BINS) for name in extremes}
    zeros = dict.fromkeys(extremes, 0.0)
    for tensors in runs:
        for name, values in tensors.items():
            some = values.ravel()[:: values.size // COUNTED | 1]  # odd: channels come in even numbers
            counts[name] += np.histogram(some, BINS, extremes[name])[0]
            zeros[name] += some.size - np.count_nonzero(some)
    return {name: Histogram(counts[name], extremes[name], zeros[name]) for name in extremes}


def percentile(histogram: Histogram, tail: float = TAIL) -> Range:
    """The narrowest range of whole bins, and 0, that leaves out no more than a share of the values at either end."""
    below = np.cumsum(histogram.counts) / max(histogram.counts.sum(), 1.0)
    first = int(np.searchsorted(below, tail, side="right"))
    last = int(np.searchsorted(below, 1.0 - tail, side="left"))
    edges = histogram.edges
    return min(float(edges[min(first, BINS - 1)]), 0.0), max(float(edges[min(last, BINS - 1) + 1]), 0.0)


def least_error(histogram: Histogram) -> Range:
    """The range between edges of bins whose grid has the least squared error.

    A value inside is off by step^2 / 12 on average, one outside by its distance from the end (Banner, Nahshan, Soudry,
    "Post training 4-bit quantization of convolutional networks for rapid-deployment", NeurIPS 2019, equation 3). Zeros
    are off by nothing. The two ends are clipped apart from each other, so all pairs cost no more than a table.
    """
    edges, counts = histogram.edges, histogram.counts
    lows, highs = np.append(edges[edges < 0.0], 0.0), np.append(0.0, edges[edges > 0.0])
    centres = (edges[:-1] + edges[1:]) / 2
    clipped = _beyond(-lows, -centres[::-1], counts[::-1])[:, None] + _beyond(highs, centres, counts)[None, :]
    steps = (highs[None, :] - lows[:, None]) / STEPS
    error = clipped + (counts.sum() - histogram.zeros) * steps**2 / 12
    low, high = np.unravel_index(int(np.argmin(error)), error.shape)
    return float(lows[low]), float(highs[high])


def _beyond(ends: NDArray[np.float64], values: NDArray[np.float64], counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """For each end the sum of (value - end)^2 over the values, in rising order, that are larger."""
    sums = [np.append(np.cumsum((counts * values**power)[::-1])[::-1], 0.0) for power in range(3)]
    first = np.searchsorted(values, ends, side="right")
    number, linear, square = (each[first] for each in sums)
    lost: NDArray[np.float64] = square - 2 * ends * linear + ends**2 * number
    return lost
