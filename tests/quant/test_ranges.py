"""Ranges of activations: what each way finds, against brute force, and that nothing but a histogram is kept."""

from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from edgekit.quant.base import Observed
from edgekit.quant.ranges import BINS, STEPS, Histogram, Range, count, find_extremes, find_ranges, least_error
from edgekit.quant.recipe import RANGES

OUTLIER = 8.0


def runs() -> Iterator[Observed]:
    """Four runs: normal numbers with one outlier, the same behind a ReLU, and a tensor that is always 0."""
    generator = np.random.default_rng(0)
    for run in range(4):
        normal = generator.standard_normal((1, 16, 64, 64)).astype(np.float32)
        if run == 2:
            normal[0, 0, 0, 0] = OUTLIER
        yield {"normal": normal, "positive": np.maximum(normal, 0.0), "nothing": np.zeros((1, 4), np.float32)}


def values(name: str) -> NDArray[np.float64]:
    return np.concatenate([tensors[name].ravel() for tensors in runs()]).astype(np.float64)


def squared_error(numbers: NDArray[np.float64], ends: Range) -> float:
    """What an 8-bit grid between two ends makes of numbers, each rounded on its own."""
    step = (ends[1] - ends[0]) / STEPS
    rounded = np.clip(np.rint((numbers - ends[0]) / step), 0, STEPS) * step + ends[0]
    return float(np.sum(np.square(rounded - numbers)))


def test_the_extremes_of_all_runs_are_found() -> None:
    found = find_ranges(runs, "minmax")
    assert found["normal"] == (values("normal").min(), OUTLIER)
    assert found["positive"] == (0.0, OUTLIER)
    assert found["nothing"] == (0.0, 0.0)


@pytest.mark.parametrize("method", RANGES)
def test_zero_is_in_every_range(method: str) -> None:
    shifted = [{"above": np.full((2, 3), 5.0, np.float32), "below": np.full((2, 3), -5.0, np.float32)}]
    found = find_ranges(lambda: shifted, method)  # type: ignore[arg-type]
    assert found["above"] == (0.0, 5.0)
    assert found["below"] == (-5.0, 0.0)


def test_a_percentile_leaves_one_in_ten_thousand_out_at_either_end() -> None:
    low, high = find_ranges(runs, "percentile")["normal"]
    width = (OUTLIER - values("normal").min()) / BINS
    expected = np.quantile(values("normal"), [1e-4, 1 - 1e-4])
    np.testing.assert_allclose([low, high], expected, atol=4 * width)


@pytest.mark.parametrize("name", ["normal", "positive"])
def test_the_least_error_is_that_of_the_best_of_many_clips(name: str) -> None:
    numbers = values(name)
    found = find_ranges(runs, "mse")[name]
    lows = np.linspace(numbers.min(), numbers.min() / 1.5, 10) if name == "normal" else [0.0]
    best = min(squared_error(numbers, (low, high)) for low in lows for high in np.linspace(3.5, OUTLIER, 46))

    assert found[1] < OUTLIER
    assert squared_error(numbers, found) < 1.03 * best
    assert squared_error(numbers, found) < 0.9 * squared_error(numbers, find_ranges(runs, "minmax")[name])


def test_zeros_cost_no_range_its_values() -> None:
    """A million zeros beside them are exact on every grid, and no reason to clip less or more."""
    counts = np.zeros(BINS)
    counts[1::2] = 5.0
    few, many = counts.copy(), counts.copy()
    few[0], many[0] = 1.0, 1e6
    ends = [least_error(Histogram(each, (0.0, 1.0), zeros)) for each, zeros in ((few, 1.0), (many, 1e6))]
    assert ends[0] == ends[1]
    assert least_error(Histogram(many, (0.0, 1.0))) != ends[1]


@pytest.mark.parametrize("method", RANGES)
def test_the_order_of_the_runs_does_not_matter(method: str) -> None:
    turned = list(reversed(list(runs())))
    assert find_ranges(runs, method) == find_ranges(lambda: turned, method)  # type: ignore[arg-type]


def test_a_histogram_holds_every_value_once() -> None:
    extremes = find_extremes(runs())
    histograms = count(runs(), extremes)
    assert {name: len(histogram.counts) for name, histogram in histograms.items()} == dict.fromkeys(extremes, BINS)
    assert histograms["normal"].counts.sum() == values("normal").size
    assert histograms["positive"].zeros == np.sum(values("positive") == 0)
