"""The whole network in float, with everything in int8 that may be, and with what pays: do the layers' gains add up?"""

from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from edgekit.numerics import compare_sampled
from edgekit.quant.base import Job
from edgekit.quiet import silenced
from edgekit.tune.measure import Bench
from edgekit.tune.subject import Subject
from edgekit.tune.whole import SLOWER, measure_files
from edgekit.tuning.nearest import place_of
from edgekit.tuning.precision import PrecisionChooser, saving
from edgekit.tuning.tables import LayerEntry, Table

AS_FLOAT, LOWERED, STRUCTURE, MEASURED = "float", "float, lowered for int8", "int8 by structure", "int8 as measured"
"""The variants: the float artifact, the file that is quantized, all of it that may be int8, and what pays."""


class WholePrecision(Struct, frozen=True, kw_only=True):
    """A whole network in certain precisions.

    Attributes:
        cost: Of an inference, in the unit of the place.
        saved: How much cheaper it is than the float artifact.
        predicted: The same from the file that is quantized and the layers alone.
        layers: How many are int8.
        bytes: Size of the file.
        snr_db: Of its first output against the original model in float64, on one input.
    """

    name: str
    cost: float
    saved: float
    predicted: float
    layers: int
    bytes: int
    snr_db: float


def compare_precisions(
    subject: Subject, bench: Bench, table: Table, folder: Path, seconds: float
) -> tuple[WholePrecision, ...]:
    """Writes the network in every variant and measures these against each other; one without int8 is none.

    Raises:
        ConverterError: The quantizer failed.
        ArtifactError: The network does not run where it is to be measured.
        EnvironmentProblemError: Something disturbed the measurement.
    """
    chooser = PrecisionChooser(table.runtime, place_of(table), (table,), ())
    verdicts = chooser(subject.choice.places)
    sets = {
        MEASURED: frozenset(name for name, each in verdicts.items() if not each.reason),
        STRUCTURE: frozenset(subject.choice.chosen),
    }
    files = {AS_FLOAT: subject.exact, LOWERED: subject.source}
    for index, (name, chosen) in enumerate(sets.items()):
        if chosen and chosen not in list(sets.values())[:index]:
            files[name] = quantized(subject, chosen, folder / f"whole{index}{subject.quantizer.suffix}")
    costs, outputs = measure_files(files, subject.inputs, subject.exporter, bench, seconds)
    known = {each.name: chooser.find(each, table.architecture) for each in subject.choice.places}
    return tuple(
        WholePrecision(
            name=name,
            cost=costs[name],
            saved=costs[AS_FLOAT] - costs[name],
            predicted=0.0
            if name == AS_FLOAT
            else costs[AS_FLOAT] - costs[LOWERED] + saving(subject.choice.places, known, sets.get(name, frozenset())),
            layers=len(sets.get(name, ())),
            bytes=sum(file.stat().st_size for file in files[name]),
            snr_db=compare_sampled(subject.expected.values, outputs[name]).snr_db,
        )
        for name in files
    )


def quantized(subject: Subject, chosen: frozenset[str], target: Path) -> tuple[Path, ...]:
    """The network with these layers in int8, calibrated with the one input it is measured on."""
    job = Job(subject.recipe, chosen, lambda: iter([subject.inputs]), 1, draft=True)
    with silenced():
        return subject.quantizer.load().quantize(subject.source[0], job, target)


def faster_than_measured(variants: Sequence[WholePrecision], unit: str) -> WholePrecision | None:
    """The variant that is clearly faster than what pays alone, None where there is none.

    Where nothing pays alone that is float. Counted instructions are exact, so any difference is clear.
    """
    found = {each.name: each for each in variants}
    ours = found.get(MEASURED, found[AS_FLOAT])
    best = min((each for each in variants if each.name != LOWERED), key=lambda each: each.cost)
    return best if ours.cost > best.cost * (SLOWER if unit == "ms" else 1.0) else None


def settled(entry: LayerEntry, name: str) -> LayerEntry:
    """An entry whose layer has the precision it has where the whole network is faster; what is wrong stays so."""
    if entry.why == "wrong":
        return entry
    return replace(entry, precision="int8" if name == STRUCTURE else "fp32", why="whole network")
