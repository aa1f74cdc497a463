"""Bias correction against convolutions computed by torch: the mean error per channel goes, for every kind of layer."""

from collections.abc import Mapping

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.nn import functional

from edgekit.quant.base import Observed
from edgekit.quant.bias import Grid, Rounded, Window, corrections

IMAGES = 3


def maps() -> list[NDArray[np.float32]]:
    generator = np.random.default_rng(0)
    return [generator.random((1, 6, 9, 8), np.float32) + np.float32(0.5) for _ in range(IMAGES)]


def layer(groups: int, window: Window, *, last: bool = False, grid: Grid | None = None) -> Rounded:
    """A 3 x 2 convolution of 6 to 12 channels, with coarsely rounded weights."""
    weight = np.random.default_rng(1).standard_normal((12, 6 // groups, 3, 2)).astype(np.float32)
    stored = (np.round(weight * 2) / 2).astype(np.float32)
    return Rounded("x", -1 if last else 1, weight, stored, window, grid)


def error(of: Rounded, groups: int) -> NDArray[np.float64]:
    """The mean, over images and places, of what the layer gives less what its rounded self gives."""
    window, differences = of.window, []
    for values in maps():
        rounded = values if of.grid is None else of.grid.rounded(values)
        results = []
        for each, weight in ((values, of.exact), (rounded, of.stored)):
            sides = (window.before[1], window.after[1], window.before[0], window.after[0])
            padded = functional.pad(torch.from_numpy(each).double(), sides)
            strides, dilations = window.strides, window.dilations
            kernel = torch.from_numpy(weight).double()
            results.append(functional.conv2d(padded, kernel, None, strides, 0, dilations, groups))
        differences.append((results[0] - results[1]).mean((0, 2, 3)).numpy())
    mean: NDArray[np.float64] = np.mean(differences, axis=0)
    return mean


WINDOWS = {
    "plain": Window(),
    "padded": Window(before=(1, 0), after=(2, 1)),
    "strided": Window(strides=(2, 3), before=(1, 1), after=(1, 1)),
    "dilated": Window(dilations=(2, 3), before=(2, 1), after=(2, 1)),
}


@pytest.mark.parametrize("groups", [1, 2, 6])
@pytest.mark.parametrize("window", WINDOWS.values(), ids=WINDOWS)
def test_the_mean_error_of_a_convolution_goes(window: Window, groups: int) -> None:
    of = layer(groups, window)
    found = corrections({"layer": of}, ({"x": values} for values in maps()))["layer"]
    np.testing.assert_allclose(found, error(of, groups), rtol=1e-5, atol=1e-6)
    assert np.abs(found).max() > 0.1  # there is something to correct


def test_channels_may_come_last() -> None:
    runs: list[Observed] = [{"x": values.transpose(0, 2, 3, 1)} for values in maps()]
    found = corrections({"layer": layer(1, Window(), last=True)}, runs)["layer"]
    np.testing.assert_allclose(found, error(layer(1, Window()), 1), rtol=1e-5, atol=1e-6)


def test_what_the_grid_of_the_input_clips_is_made_up_for() -> None:
    of = layer(1, Window(), grid=Grid(step=0.01, low=0.0, high=1.0))
    found = corrections({"layer": of}, ({"x": values} for values in maps()))["layer"]
    np.testing.assert_allclose(found, error(of, 1), rtol=1e-5, atol=1e-6)
    assert np.abs(found - error(layer(1, Window()), 1)).max() > 0.1  # the clipped half of 0.5..1.5 is most of it


@pytest.mark.parametrize("shape", [(1, 6), (1, 4, 6), (1, 3, 5, 6)])
def test_a_linear_layer_takes_any_rank(shape: tuple[int, ...]) -> None:
    generator = np.random.default_rng(2)
    weight = generator.standard_normal((5, 6, 1, 1)).astype(np.float32)
    stored, values = np.round(weight), generator.random(shape, np.float32)
    of: Mapping[str, Rounded] = {"layer": Rounded("x", -1, weight, stored)}
    expected = (values.reshape(-1, 6) @ (weight - stored)[:, :, 0, 0].T).mean(0)
    np.testing.assert_allclose(corrections(of, [{"x": values}])["layer"], expected, rtol=1e-4)


def test_nothing_was_rounded_and_nothing_is_corrected() -> None:
    weight = layer(1, Window()).exact
    found = corrections({"layer": Rounded("x", 1, weight, weight)}, ({"x": values} for values in maps()))["layer"]
    np.testing.assert_array_equal(found, np.zeros(12, np.float32))
