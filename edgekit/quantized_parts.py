"""A quantized network in parts: what is int8 in the whole artifact is int8 in its parts, and nothing else.

Each part is quantized by itself, with ranges from what the float parts before it give for the calibration images.
"""

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import cast

from msgspec import structs

from edgekit.artifact import OperatorPrecision, PartsDescription, QuantRecord
from edgekit.bundle import Member
from edgekit.clock import Clock
from edgekit.exporters import Exporter
from edgekit.files import hash_files
from edgekit.material import Material
from edgekit.network import Network
from edgekit.partitioned import write_parts
from edgekit.plan import Plan
from edgekit.quant import Quantizer
from edgekit.quant.base import Feed, Job, Layer
from edgekit.quant.recipe import Ranges
from edgekit.quantize import Choice, check, compare, describe
from edgekit.quantized import finite_cases
from edgekit.runners import load
from edgekit.runners.base import Runner
from edgekit.runners.parts import read_description


def quantize_parts(
    plan: Plan,
    exporter: Exporter,
    quantizer: Quantizer,
    material: Material,
    whole: Member,
    folder: Path,
    clock: Clock,
    network: Network,
) -> Member:
    """Writes the float parts, and quantizes in them what is quantized in the whole artifact.

    Args:
        plan: Of the float files that are quantized, see `Plan.quantized`; it names the branches to cut at.
        exporter: Of the format.
        quantizer: Likewise.
        material: Images.
        whole: The whole artifact, quantized.
        folder: Where to write.
        clock: Who watches.
        network: The network.

    Raises:
        MisuseError: The pattern names no branches.
        ConverterError: A part cannot be had in the format, or not quantized.
        ParityError: The parts are not the network together, in float or in int8.
    """
    pattern, record = plan.partition, whole.quantization
    if pattern is None or record is None:
        raise ValueError("there is nothing to cut, or nothing quantized")
    with tempfile.TemporaryDirectory() as scratch:
        exact = write_parts(plan, pattern, exporter, Path(scratch), clock, network)
        source = Path(scratch) / exact.artifact.files[0].name
        with clock.stage(f"quantize {exporter.format} parts"):
            target = folder / source.name
            place = plan.precision_chooser(exporter).place
            there = place.architectures, place.short_sums
            files, operators = _quantized(source, target, exporter.runtime, quantizer, material, record, there)
            held_out = compare(exporter.runtime, source, target, material)
            check(target.name, held_out, operators, quantizer.recipe(record.recipe))
    with clock.stage(f"verify {exporter.format} {plan.request.precision} parts"):
        cases = finite_cases(exporter.runtime, target, network.reference)
    notes = (*exact.artifact.notes, f"recipe {record.recipe}")
    record = structs.replace(record, operators=operators, held_out=held_out, max_drop=None, trials=())
    return structs.replace(
        exact,
        artifact=structs.replace(exact.artifact, files=hash_files(files), notes=notes),
        parity=cases,
        quantization=record,
    )


def _quantized(
    source: Path,
    target: Path,
    runtime: str,
    quantizer: Quantizer,
    material: Material,
    whole: QuantRecord,
    there: tuple[tuple[str, ...], bool],
) -> tuple[list[Path], tuple[OperatorPrecision, ...]]:
    """Writes every part under its name, and the description; gives back all files and what became of the layers."""
    module, recipe, described = quantizer.load(), quantizer.recipe(whole.recipe), read_description(source)
    files, operators = [target], list[OperatorPrecision]()
    ranges = cast("Ranges", whole.ranges) if whole.ranges else quantizer.ranges
    with ExitStack() as opened:
        runners = [opened.enter_context(load(runtime, source.with_name(part.files[0]))) for part in described.parts]
        for number, part in enumerate(described.parts):
            exact, written = source.with_name(part.files[0]), target.with_name(part.files[0])
            layers = module.layers(exact)
            why = _float_there(layers, whole.operators)
            chosen = frozenset(layer.name for layer in layers if layer.name not in why)
            calibration = partial(_feeds, material, described, runners, number)
            if chosen:
                job = Job(recipe, chosen, calibration, whole.calibration.images, ranges, *there)
                files += module.quantize(exact, job, written)
            else:
                files += [Path(shutil.copyfile(source.with_name(name), target.with_name(name))) for name in part.files]
            operators += describe(Choice(layers, why), module.quantized(written), recipe)
    shutil.copyfile(source, target)  # which names the files, and they have the same names
    return files, tuple(operators)


def _float_there(layers: Sequence[Layer], operators: Sequence[OperatorPrecision]) -> dict[str, str]:
    """Why layers of a part stay float, by their names: the reason of the same layer in the whole artifact.

    Names differ from file to file; the same layer is of the same module and kind, and as large.
    """
    reasons = {(each.module, each.kind, each.macs): each.reason for each in operators if each.precision == "fp32"}
    kept = ((layer.name, reasons.get((layer.module, layer.kind, layer.macs))) for layer in layers)
    return {name: reason for name, reason in kept if reason is not None}


def _feeds(material: Material, described: PartsDescription, runners: Sequence[Runner], number: int) -> Iterator[Feed]:
    """What one part takes in each calibration run, from the float parts before it."""
    for images in material.calibrating():
        values = dict(images)
        for part, runner in zip(described.parts[:number], runners, strict=False):
            values |= runner.run({name: values[name] for name in part.inputs})
        yield {name: values[name] for name in described.parts[number].inputs}
