"""A float file becomes a quantized one, with the proof of what that cost.

    images -> calibration -> [ layers -> reasons -> quantize -> read back -> compare ] per file

A quantized file is another network, so the gate of float32 does not apply. In its place stands a comparison with the
float file, in the same runtime, on images that were not calibrated with: the SNR of all outputs, and how often the
decision is the same. A file below `FLOOR_DB` is no quantization but a defect, such as a wrong scale, and is refused.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgekit.artifact import CalibrationRecord, OperatorPrecision, Parity, Preprocessing, QuantRecord, Shape, TensorSpec
from edgekit.data.dataset import Dataset
from edgekit.data.feed import feed
from edgekit.data.lint import lint
from edgekit.data.sources import open_dataset
from edgekit.errors import DataError, MisuseError, ParityError
from edgekit.filegraph import read_graph
from edgekit.numerics import compare_one, sampled, worst
from edgekit.quant import Quantizer
from edgekit.quant.base import Feed, Job, Layer
from edgekit.quant.choose import reasons
from edgekit.quant.half import half_reasons, halved
from edgekit.quant.recipe import Recipe
from edgekit.runners import load

FLOOR_DB = 5.0
"""Lowest SNR of the outputs on images that were not calibrated with.

Half of an output's energy is gone below 3 dB; the worst sound recipe on the most sensitive network leaves 9.
"""

HALF_FLOOR_DB = 40.0
"""The same where half floats are all that was changed: the network that loses most, ParNet-S, is left with 53."""

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


@dataclass(frozen=True, slots=True)
class Made:
    """A quantized file, the loadable one first, and what is known about it."""

    files: tuple[Path, ...]
    record: QuantRecord


def make(
    source: Path, target: Path, quantizer: Quantizer, recipe: Recipe, material: Material, keep: Sequence[str] = ()
) -> Made:
    """Quantizes a float file.

    Args:
        source: The float file, which its runtime loads.
        target: Where to write.
        quantizer: Of the file's format.
        recipe: How.
        material: Images.
        keep: Patterns of module paths and names of operators that stay float, `stages.0.*`.

    Raises:
        MisuseError: There is nothing to quantize, or a pattern matches nothing.
        ConverterError: The quantizer failed.
        ParityError: The outputs are not the network's any more; the file is removed.
    """
    return carry_out(source, target, quantizer, recipe, material, choose(source, quantizer, recipe, keep))


@dataclass(frozen=True, slots=True)
class Choice:
    """The layers of a file, and the reason of each that stays float."""

    layers: tuple[Layer, ...]
    why: Mapping[str, str]

    @property
    def chosen(self) -> tuple[str, ...]:
        """Names of the layers to quantize."""
        return tuple(layer.name for layer in self.layers if layer.name not in self.why)


def choose(source: Path, quantizer: Quantizer, recipe: Recipe, keep: Sequence[str] = ()) -> Choice:
    """Which layers of a float file to quantize, by structure and by what is asked.

    Raises:
        MisuseError: There is none, or a pattern matches none.
    """
    module = quantizer.load()
    layers = module.layers(source)
    asked = matching(layers, keep)
    if recipe.half:
        why = half_reasons(layers, module.weights(source), asked)
    else:
        why = reasons(layers, read_graph(quantizer.runtime, source), quantizer.kinds(recipe.method), asked)
    choice = Choice(layers, why)
    if not choice.chosen:
        raise MisuseError(
            f"There is nothing in {source.name} that recipe {recipe.name} quantizes: of its {len(layers)} layers "
            f"{summary(why)}."
        )
    return choice


def carry_out(
    source: Path,
    target: Path,
    quantizer: Quantizer,
    recipe: Recipe,
    material: Material,
    choice: Choice,
    *,
    draft: bool = False,
) -> Made:
    """Quantizes what was chosen, and compares the result with the float file; a draft only ranks layers.

    Raises:
        ConverterError: The quantizer failed.
        ParityError: The outputs are not the network's any more; the file is removed.
    """
    module = quantizer.load()
    job = Job(recipe, frozenset(choice.chosen), material.calibrating, len(material.calibration[1]), draft)
    files = module.quantize(source, job, target)
    operators = describe(choice.layers, choice.why, module.quantized(target), recipe)
    try:
        if recipe.half:
            check_halves(target.name, module.weights(source), module.halves(target))
        held_out = compare(quantizer.runtime, source, target, material)
        check(target.name, held_out, operators, recipe)
    except BaseException:
        for file in files:
            file.unlink()
        raise
    record = QuantRecord(
        recipe=recipe.name,
        calibration=material.record,
        operators=operators,
        held_out_images=len(material.held_out[1]),
        held_out=held_out,
        floor_db=floor_db(recipe),
        warnings=material.warnings,
    )
    return Made(files, record)


def matching(layers: Sequence[Layer], patterns: Sequence[str]) -> frozenset[str]:
    """The names of the layers that patterns match, by module or by name.

    Raises:
        MisuseError: A pattern matches none.
    """
    found: set[str] = set()
    for pattern in patterns:
        names = {
            layer.name
            for layer in layers
            if fnmatchcase(layer.module or "", pattern) or fnmatchcase(layer.name, pattern)
        }
        if not names:
            known = ", ".join(dict.fromkeys(layer.module or layer.name for layer in layers[:3]))
            raise MisuseError(f"No layer is called {pattern!r}. Layers are called {known} and so on; * stands for any.")
        found |= names
    return frozenset(found)


def summary(why: Mapping[str, str]) -> str:
    """How many layers stay float for each reason."""
    counts = Counter(why.values())
    return ", ".join(f"{number} stay float ({reason})" for reason, number in counts.items()) or "there is none"


def describe(
    layers: Sequence[Layer], why: Mapping[str, str], quantized: frozenset[str], recipe: Recipe
) -> tuple[OperatorPrecision, ...]:
    """What became of every layer, by what is in the file."""
    return tuple(
        OperatorPrecision(
            name=layer.name,
            module=layer.module,
            kind=layer.kind,
            macs=layer.macs,
            precision=recipe.precision if layer.name in quantized else "fp32",
            reason="" if layer.name in quantized else why.get(layer.name, "runtime"),
        )
        for layer in layers
    )


def compare(runtime: str, source: Path, target: Path, material: Material) -> Parity:
    """A quantized file against its float file on the held-out images; of several outputs the worst figures.

    Of a dense map only some places are kept, so that memory does not grow with it.
    """
    with load(runtime, source, 1) as exact, load(runtime, target, 1) as rounded:
        names = [spec.name for spec in exact.outputs]
        outputs: list[list[list[NDArray[np.generic]]]] = [[[], []] for _ in names]
        for images in material.comparing():
            for side, runner in enumerate((exact, rounded)):
                found = runner.run(images)
                for index, name in enumerate(names):
                    outputs[index][side].append(sampled(np.array(found[name])))
    return worst([compare_one(*(np.concatenate(side) for side in sides)) for sides in outputs])


def check_halves(
    name: str,
    weights: Iterable[tuple[str, NDArray[np.float32]]],
    halves: Iterable[tuple[str, NDArray[np.float16]]],
) -> None:
    """Compares what a file has in half floats with the weights it was made of; no SNR tells every wrong one.

    Raises:
        ParityError: One is not the nearest to its weight.
    """
    expected = {layer: halved(values).ravel() for layer, values in weights}
    for layer, values in halves:
        if not np.array_equal(values.ravel(), expected[layer]):
            raise ParityError(
                f"{name} has other weights in {layer} than the float file, rounded to half floats. Nothing was "
                "published. Keep that layer float with --float."
            )


def floor_db(recipe: Recipe) -> float:
    """The SNR below which a recipe was not carried out as it should have been."""
    return HALF_FLOOR_DB if recipe.half else FLOOR_DB


def check(name: str, held_out: Parity, operators: Sequence[OperatorPrecision], recipe: Recipe) -> None:
    """Refuses what is no quantization of its network.

    Raises:
        ParityError: An output is not finite or below the floor, or nothing was quantized.
    """
    if not any(each.precision == recipe.precision for each in operators):
        raise ParityError(f"{name} was to be quantized, and every operator in it is float. Nothing was published.")
    if held_out.nonfinite:
        raise ParityError(f"{name} gives {held_out.nonfinite} NaN or infinite values. Nothing was published.")
    if held_out.snr_db < floor_db(recipe):
        more = ", or calibrate with more images" if recipe.calibrated else ""
        raise ParityError(
            f"{name} is not the network any more: {held_out.snr_db:.1f} dB against the float file on images it was not "
            f"calibrated with, {floor_db(recipe):.0f} dB required. Keep the worst operators float with --float, try "
            f"another --recipe{more}. Nothing was published."
        )
