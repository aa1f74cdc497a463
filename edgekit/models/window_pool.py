"""Adaptive average pooling at a fixed size, written with operators that every runtime has.

`nn.AdaptiveAvgPool2d` has no counterpart in ONNX or TFLite unless its windows tile the map. But its windows are known
once the size of the map is: output i of n averages the elements from floor(i L / n) to before ceil((i + 1) L / n) of L.
When all have one length and one step, as with 6 of 18 or, overlapping, 3 of 16, they are a plain average pooling;
otherwise, as with 6 of 16, they are slices and their means.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

HEIGHT, WIDTH = 2, 3
"""Axes of a channels-first map."""

Window = tuple[int, int]
"""First element and the one after the last."""


class WindowPool(nn.Module):
    """Equals `nn.AdaptiveAvgPool2d(size)`; has no weights and works at any size."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, size, size)."""
        if self.size == 1:
            return x.mean(dim=(HEIGHT, WIDTH), keepdim=True)
        rows, columns = (windows(x.shape[axis], self.size) for axis in (HEIGHT, WIDTH))
        if (row := uniform(rows)) and (column := uniform(columns)):
            (height, down), (width, right) = row, column
            return functional.avg_pool2d(x, (height, width), (down, right))
        return average(average(x, HEIGHT, rows), WIDTH, columns)


def windows(length: int, count: int) -> list[Window]:
    """The windows of adaptive pooling along one axis."""
    return [(index * length // count, -(-(index + 1) * length // count)) for index in range(count)]


def uniform(spans: list[Window]) -> tuple[int, int] | None:
    """The one length and step, above 0, of two or more windows; None when they have several."""
    lengths = {end - start for start, end in spans}
    steps = {after[0] - before[0] for before, after in pairwise(spans)}
    return (lengths.pop(), steps.pop()) if len(lengths) == len(steps) == 1 and min(steps) > 0 else None


def average(x: Tensor, axis: int, spans: list[Window]) -> Tensor:
    """Means of slices along one axis of (N, C, H, W), joined along it."""
    means = [x.narrow(axis, start, end - start).mean(dim=axis, keepdim=True) for start, end in spans]
    return torch.cat(means, dim=axis)
