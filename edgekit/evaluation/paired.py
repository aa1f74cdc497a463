"""Two artifacts that answered the same images, in evaluations of their own: what the second lost, image by image."""

import base64
from collections.abc import Iterator, Sequence
from itertools import product

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from edgekit.evaluation.record import Data, Evaluation, Step
from edgekit.evaluation.statistics import drop_interval, points


class PairedDrop(Struct, frozen=True, kw_only=True):
    """Top-1 of two artifacts on the same labelled images, in percent, and their difference.

    `drop` and `interval`, with 95 % confidence, are points that the second lost; `lost` and `gained` count images.
    """

    data: str
    images: int
    top1: tuple[float, float]
    lost: int
    gained: int
    drop: float
    interval: tuple[float, float]


def paired_drop(
    first: Sequence[Evaluation], second: Sequence[Evaluation], sha256: tuple[str, str]
) -> PairedDrop | None:
    """The latest pair of evaluations on the same images with labels; None where there is none.

    Args:
        first: The evaluations of the first's bundle, the latest first.
        second: Those of the second's.
        sha256: Which artifact of each.
    """
    sides = (_steps(runs, wanted) for runs, wanted in zip((first, second), sha256, strict=True))
    pairs = ((data, one, other) for (data, one), (same, other) in product(*map(list, sides)) if data == same)
    for data, one, other in pairs:
        if data.labelled:
            before, after = _right(one), _right(other)
            lost, gained = int(np.sum(before > after)), int(np.sum(after > before))
            return PairedDrop(
                data=data.name,
                images=data.labelled,
                top1=(100 * int(before.sum()) / data.labelled, 100 * int(after.sum()) / data.labelled),
                lost=lost,
                gained=gained,
                drop=points(lost, gained, data.labelled),
                interval=drop_interval(lost, gained, data.labelled),
            )
    return None


def _steps(evaluations: Sequence[Evaluation], sha256: str) -> Iterator[tuple[Data, Step]]:
    for each in evaluations:
        yield from ((each.data, step) for step in each.steps if step.sha256 == sha256)


def _right(step: Step) -> NDArray[np.uint8]:
    """A flag for each image, and zeros up to a whole byte."""
    return np.unpackbits(np.frombuffer(base64.b64decode(step.right), np.uint8))
