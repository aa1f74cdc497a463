"""Bias correction: the mean error that a quantized layer makes in each output channel is taken out of its bias.

Nagel, van Baalen, Blankevoort, Welling, "Data-Free Quantization Through Weight Equalization and Bias Correction", ICCV
2019, section 4.2, with means measured on the calibration inputs. A layer is linear, so the mean of what it gives needs
no run of it: with W its weights, x the means of what each tap of its kernel meets in the float network, and W', x' the
same after rounding, its bias grows by W x - W' x'. Padding is met like any other value. All layers are measured at
once and each for itself, so that none makes up for what another one already has. Layer by layer, with what the layers
before have lost, takes the inputs as often as there are layers, and gave 0.2 dB more on one network and 0.1 less on
another.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgekit.quant.base import Observed

Pair = tuple[int, int]
"""Down and across."""


@dataclass(frozen=True, slots=True)
class Window:
    """How the kernel of a convolution goes over a map."""

    strides: Pair = (1, 1)
    dilations: Pair = (1, 1)
    before: Pair = (0, 0)
    after: Pair = (0, 0)


@dataclass(frozen=True, slots=True)
class Grid:
    """The values that a quantized activation can take: multiples of a step between two ends, which are some."""

    step: float
    low: float
    high: float

    def rounded(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """The nearest that it can take."""
        step = np.float32(self.step)
        found: NDArray[np.float32] = np.clip(step * np.rint(values / step), self.low, self.high)
        return found


@dataclass(frozen=True, slots=True)
class Rounded:
    """A layer before and after it was quantized; I are the input channels of a group, O the output channels.

    Attributes:
        tensor: The name of its input.
        axis: Where that has its channels.
        exact: The weights, O x I x rows x columns; rows and columns are 1 in a linear layer.
        stored: What the quantized file has in their place.
        window: None for a linear layer.
        grid: Of its input; None where that stays float or has its range found in every run.
    """

    tensor: str
    axis: int
    exact: NDArray[np.float32]
    stored: NDArray[np.float32]
    window: Window = Window()
    grid: Grid | None = None


def corrections(layers: Mapping[str, Rounded], runs: Iterable[Observed]) -> dict[str, NDArray[np.float32]]:
    """What to add to the bias of each layer, one value for each output channel, by the names of the layers."""
    totals: dict[str, NDArray[np.float64]] = {}
    images = 0
    for tensors in runs:
        images += 1
        for name, layer in layers.items():
            totals[name] = totals.get(name, np.zeros(())) + _means(layer, tensors[layer.tensor])
    return {name: _correction(layers[name], total / images) for name, total in totals.items()}


def _means(layer: Rounded, values: NDArray[np.float32]) -> NDArray[np.float64]:
    """What each tap meets on average, exactly and rounded: 2 x rows x columns x channels."""
    maps = np.moveaxis(values, layer.axis, -1)
    maps = maps if maps.ndim == 4 else maps.reshape(1, 1, -1, maps.shape[-1])
    exact = tap_means(maps, layer.exact.shape[2:], layer.window)
    if layer.grid is None:
        return np.stack([exact, exact])
    return np.stack([exact, tap_means(layer.grid.rounded(maps), layer.exact.shape[2:], layer.window)])


def tap_means(maps: NDArray[np.float32], kernel: Sequence[int], window: Window) -> NDArray[np.float64]:
    """The mean of what each tap of a kernel meets: N x H x W x C to rows x columns x C."""
    pads = [(0, 0), *zip(window.before, window.after, strict=True), (0, 0)]
    padded = np.pad(maps, pads)
    reaches = [(size - 1) * dilation for size, dilation in zip(kernel, window.dilations, strict=True)]
    stops = [side - reach for side, reach in zip(padded.shape[1:3], reaches, strict=True)]
    found = np.empty((*kernel, maps.shape[-1]))
    for row, column in np.ndindex(*kernel):
        down, across = row * window.dilations[0], column * window.dilations[1]
        met = padded[:, down : down + stops[0] : window.strides[0], across : across + stops[1] : window.strides[1]]
        found[row, column] = met.mean((0, 1, 2), dtype=np.float64)
    return found


def _correction(layer: Rounded, means: NDArray[np.float64]) -> NDArray[np.float32]:
    """W x - W' x', for each output channel."""
    outputs, inputs = layer.exact.shape[:2]
    groups = means.shape[-1] // inputs
    met = np.moveaxis(means, -1, 1).reshape(2, groups, 1, inputs, *layer.exact.shape[2:])
    exact, stored = (
        (weight.reshape(groups, -1, *weight.shape[1:]) * each).sum((2, 3, 4))
        for weight, each in zip((layer.exact, layer.stored), met, strict=True)
    )
    change: NDArray[np.float32] = (exact - stored).reshape(outputs).astype(np.float32)
    return change
