"""The images that a file is calibrated and compared with: which of a data set, and each as the network takes it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from edgekit.artifact import CalibrationRecord, Preprocessing, Shape, TensorSpec
from edgekit.data.dataset import Dataset
from edgekit.data.feed import feed
from edgekit.data.lint import lint
from edgekit.data.sources import open_dataset
from edgekit.errors import DataError, MisuseError
from edgekit.quant.base import Feed

DEFAULT_IMAGES = 128
HELD_OUT = 64
"""How many images outputs are compared on, where there are as many besides the calibration images."""

LABELLED = 2000
"""How many images right answers are counted on, at most."""


@dataclass(frozen=True, slots=True)
class Material:
    """The images that a file is calibrated and compared with.

    Attributes:
        calibration: Their set, and which of them.
        held_out: Likewise; none of them is calibrated with.
        labelled: Likewise, for counting right answers; more of them.
        warnings: What is odd about the calibration images.
    """

    source: TensorSpec
    preprocessing: Preprocessing
    calibration: tuple[Dataset, tuple[int, ...]]
    held_out: tuple[Dataset, tuple[int, ...]]
    labelled: tuple[Dataset, tuple[int, ...]]
    warnings: tuple[str, ...] = ()

    def calibrating(self) -> Iterator[Feed]:
        """The calibration inputs, one at a time."""
        return self._feeds(self.calibration)

    def comparing(self) -> Iterator[Feed]:
        """The held-out inputs, one at a time."""
        return self._feeds(self.held_out)

    def answering(self) -> Iterator[tuple[Feed, int]]:
        """Held-out inputs and the class of each, one at a time; images without a label are left out."""
        dataset, indices = self.labelled
        known = [(index, label) for index in indices if (label := dataset.label(index)) is not None]
        inputs = self._feeds((dataset, tuple(index for index, _ in known)))
        yield from zip(inputs, (label for _, label in known), strict=True)

    def _feeds(self, chosen: tuple[Dataset, tuple[int, ...]]) -> Iterator[Feed]:
        dataset, indices = chosen
        last = channels_last(self.source.shape)
        height, width = self.source.shape[1:3] if last else self.source.shape[2:]
        for tensor in feed(dataset, self.preprocessing, (height, width), indices):
            yield {self.source.name: np.ascontiguousarray(tensor.transpose(0, 2, 3, 1)) if last else tensor}

    @property
    def record(self) -> CalibrationRecord:
        """What is written down of the calibration images."""
        dataset, indices = self.calibration
        return CalibrationRecord(data=dataset.name, digest=dataset.digest, images=len(indices))

    @property
    def identity(self) -> tuple[object, ...]:
        """What decides every image, for a cache key."""
        sets = tuple((dataset.digest, indices) for dataset, indices in (self.calibration, self.held_out, self.labelled))
        return (*sets, self.preprocessing, self.source)


def gather(spec: str, preprocessing: Preprocessing, inputs: Sequence[TensorSpec], images: int) -> Material:
    """Opens the data and chooses the images: evenly spread over the set, so that every class of a folder has some.

    Args:
        spec: What the user wrote as `--data`.
        preprocessing: The model card's.
        inputs: Of the network.
        images: How many to calibrate with; where there are fewer, all but one in four.

    Raises:
        MisuseError: The network takes something else than one image.
        DataError: There is no such data, or there are too few images.
    """
    if len(inputs) != 1 or not is_one_image(inputs[0].shape):
        taken = ", ".join(f"{each.name} {'x'.join(map(str, each.shape))}" for each in inputs)
        raise MisuseError(
            f"Only networks that take one image, 1x3xHxW, can be quantized; this one takes {taken}. Leave --int8 out."
        )
    train, test = open_dataset(spec, split="train"), open_dataset(spec, split="test")
    same = len(train) == len(test) and train.digest == test.digest
    if len(train) < 2 or not len(test):
        raise DataError(f"{spec} has {len(train)} images; quantizing takes 100 or more to measure ranges on.")
    count = min(images, len(train) - len(train) // 4 if same else len(train))
    chosen = spread(range(len(train)), count)
    rest = sorted({*range(len(test))} - {*chosen}) if same else range(len(test))
    return Material(
        source=inputs[0],
        preprocessing=preprocessing,
        calibration=(train, chosen),
        held_out=(test, spread(rest, HELD_OUT)),
        labelled=(test, spread(rest, LABELLED)),
        warnings=lint(train, chosen, preprocessing),
    )


def is_one_image(shape: Shape) -> bool:
    """Whether an input is 1 x 3 x H x W or 1 x H x W x 3."""
    return len(shape) == 4 and shape[0] == 1 and 3 in (shape[1], shape[3])


def channels_last(shape: Shape) -> bool:
    """Whether an image's channels are its last axis."""
    return shape[1] != 3


def spread(indices: Sequence[int], count: int) -> tuple[int, ...]:
    """So many of the indices, evenly spaced; all where there are no more."""
    if count >= len(indices):
        return tuple(indices)
    return tuple(indices[position * len(indices) // count] for position in range(count))
