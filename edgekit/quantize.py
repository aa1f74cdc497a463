"""A float file becomes a quantized one, with the proof of what that cost.

    images -> calibration -> [ layers -> reasons -> quantize -> read back -> compare ] per file

A quantized file is another network, so the gate of float32 does not apply. In its place stands a comparison with the
float file, in the same runtime, on images that were not calibrated with: the SNR of all outputs, and how often the
decision is the same. A file below `FLOOR_DB` is no quantization but a defect, such as a wrong scale, and is refused.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgekit.artifact import OperatorPrecision, Parity, QuantRecord
from edgekit.errors import MisuseError, NoGainError, ParityError
from edgekit.filegraph import read_graph
from edgekit.material import Material
from edgekit.numerics import compare_one, sampled, worst
from edgekit.quant import Quantizer
from edgekit.quant.base import Job, Layer
from edgekit.quant.choose import links, reasons
from edgekit.quant.half import half_reasons, halved
from edgekit.quant.recipe import Ranges, Recipe
from edgekit.runners import load
from edgekit.tuning.precision import LayerPlace, PrecisionChooser, Verdict
from edgekit.tuning.words import rules_of

FLOOR_DB = 5.0
"""Lowest SNR of the outputs on images that were not calibrated with.

Half of an output's energy is gone below 3 dB; the worst sound recipe on the most sensitive network leaves 9.
"""

HALF_FLOOR_DB = 40.0
"""The same where half floats are all that was changed: the network that loses most, ParNet-S, is left with 53."""


@dataclass(frozen=True, slots=True)
class Made:
    """A quantized file, the loadable one first, and what is known about it."""

    files: tuple[Path, ...]
    record: QuantRecord


def make(
    source: Path,
    target: Path,
    quantizer: Quantizer,
    recipe: Recipe,
    material: Material,
    keep: Sequence[str] = (),
    decide: PrecisionChooser | None = None,
    ranges: Ranges | None = None,
) -> Made:
    """Quantizes a float file.

    Args:
        source: The float file, which its runtime loads.
        target: Where to write.
        quantizer: Of the file's format.
        recipe: How.
        material: Images.
        keep: Patterns of module paths and names of operators that stay float, `stages.0.*`.
        decide: Chooses by what was measured; None leaves it to structure.
        ranges: How the ranges of static activations are chosen; None for what was best in the format.

    Raises:
        MisuseError: There is nothing to quantize, or a pattern matches nothing.
        NoGainError: Nothing is faster in int8.
        ConverterError: The quantizer failed.
        ParityError: The outputs are not the network's any more; the file is removed.
    """
    choice = choose(source, quantizer, recipe, keep, decide)
    return carry_out(source, target, quantizer, recipe, material, choice, ranges)


@dataclass(frozen=True, slots=True)
class Choice:
    """The layers of a file, and the reason of each that stays float.

    Attributes:
        places: Those that structure and the user's wish leave to int8, and what stands beside them.
        verdicts: What was decided of these, by their names.
        architectures: Where the file will run; none is anywhere.
        short_sums: Whether kernels there add products in pairs to 16 bits.
    """

    layers: tuple[Layer, ...]
    why: Mapping[str, str]
    places: tuple[LayerPlace, ...] = ()
    verdicts: Mapping[str, Verdict] = field(default_factory=dict)
    architectures: tuple[str, ...] = ()
    short_sums: bool = False

    @property
    def chosen(self) -> tuple[str, ...]:
        """Names of the layers to quantize."""
        return tuple(layer.name for layer in self.layers if layer.name not in self.why)


def choose(
    source: Path,
    quantizer: Quantizer,
    recipe: Recipe,
    keep: Sequence[str] = (),
    decide: PrecisionChooser | None = None,
) -> Choice:
    """Which layers of a float file to quantize, by structure, by what is asked and by what was measured.

    Raises:
        MisuseError: There is none, or a pattern matches none.
        NoGainError: There is none that is faster in int8.
    """
    module = quantizer.load()
    layers = module.layers(source)
    asked = matching(layers, keep)
    graph = read_graph(quantizer.runtime, source)
    if recipe.half:
        why = half_reasons(layers, module.weights(source), asked)
    else:
        why = reasons(layers, graph, quantizer.kinds(recipe.method), asked)
    able = [layer for layer in layers if layer.name not in why]
    if not able:
        raise MisuseError(
            f"There is nothing in {source.name} that recipe {recipe.name} quantizes: of its {len(layers)} layers "
            f"{summary(why)}."
        )
    beside = links(able, graph)
    places = tuple(
        LayerPlace(
            name=layer.name,
            dense=layer.dense,
            method=recipe.method_of(layer.kind),
            reads=beside[layer.name].reads,
            float_readers=beside[layer.name].float_readers,
        )
        for layer in able
    )
    verdicts = decide(places) if decide is not None and not recipe.exact else {}
    measured = {name: each.reason for name, each in verdicts.items() if each.reason}
    there = ((), False) if decide is None else (decide.place.architectures, decide.place.short_sums)
    choice = Choice(layers, {**why, **measured}, places, verdicts, *there)
    if not choice.chosen:
        raise NoGainError(no_gain(source.name, verdicts))
    return choice


def no_gain(name: str, verdicts: Mapping[str, Verdict]) -> str:
    """What to say of a network that is faster in float."""
    sources = "; ".join(rules_of(each.source for each in verdicts.values()))
    return (
        f"Int8 does not pay here: of {len(verdicts)} layers in {name} that could be int8 none is faster in it "
        f"({sources}), so the float file is the fastest. For a smaller file use --recipe wi8_weightonly, or "
        "--smallest, which quantizes them all the same."
    )


def carry_out(
    source: Path,
    target: Path,
    quantizer: Quantizer,
    recipe: Recipe,
    material: Material,
    choice: Choice,
    ranges: Ranges | None = None,
    *,
    draft: bool = False,
) -> Made:
    """Quantizes what was chosen, and compares the result with the float file; a draft only ranks layers.

    Raises:
        ConverterError: The quantizer failed.
        ParityError: The outputs are not the network's any more; the file is removed.
    """
    module = quantizer.load()
    ranges = ranges or quantizer.ranges
    chosen, images = frozenset(choice.chosen), len(material.calibration[1])
    there = choice.architectures, choice.short_sums
    job = Job(recipe, chosen, material.calibrating, images, ranges, *there, draft=draft)
    files = module.quantize(source, job, target)
    operators = describe(choice, module.quantized(target), recipe)
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
        ranges=ranges if recipe.calibrated else None,
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


def describe(choice: Choice, quantized: frozenset[str], recipe: Recipe) -> tuple[OperatorPrecision, ...]:
    """What became of every layer, by what is in the file."""
    able = {place.name for place in choice.places}
    found = []
    for layer in choice.layers:
        verdict = choice.verdicts.get(layer.name, Verdict(""))
        found.append(
            OperatorPrecision(
                name=layer.name,
                module=layer.module,
                kind=layer.kind,
                macs=layer.macs,
                precision=recipe.precision if layer.name in quantized else "fp32",
                reason="" if layer.name in quantized else choice.why.get(layer.name, "runtime"),
                layer=str(layer.dense or ""),
                source=verdict.source if layer.name in able else "",
                saved=verdict.saved,
                unit=verdict.unit,
            )
        )
    return tuple(found)


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
