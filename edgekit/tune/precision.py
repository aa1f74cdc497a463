"""Float or int8 for every dense layer of a network, measured: each distinct layer once, then the network as a whole.

    float file, lowered for int8 -> layers that structure allows -> test networks -> table -> whole networks

What is measured is in the network: layers are read from the file that an export would quantize, and the layer in the
file of a test network has to be the same one.
"""

import dataclasses
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from edgekit.dense_layer import DenseLayer
from edgekit.errors import ConverterError
from edgekit.network import StageClock, prepare
from edgekit.plan import Plan
from edgekit.tune.artifacts import Contest
from edgekit.tune.entries import why_wrong
from edgekit.tune.layer_probe import FLOAT, INT8, precision_contests
from edgekit.tune.measure import Bench, Measured, measure_in_turn
from edgekit.tune.race import cost, typical
from edgekit.tune.run import WHOLE_SHARE, new_table, nothing_measured
from edgekit.tune.subject import Subject, write_subject
from edgekit.tune.whole_precision import WholePrecision, compare_precisions, faster_than_measured, settled
from edgekit.tuning.tables import LayerEntry, LayerMethod, Table

RIGHT_DB = 20.0
"""A test network of three layers in int8 that is further from float64 than this computes something else."""

SCATTER = 0.0005
"""Counts of one program differ by less than this from one process to the next, as a share."""


class WrongLayer(Struct, frozen=True, kw_only=True):
    """A layer that was not measured in int8, or that its runtime does not compute in it, with the reason."""

    layer: str
    reason: str


class TunedPrecision(Struct, frozen=True, kw_only=True):
    """What measuring the layers for one runtime came to.

    Attributes:
        recipe: Its full name.
        places: Name of each layer to how often it stands in the network.
        unmeasured: Layers the time did not suffice for.
        variants: The whole network; empty where it was left out.
    """

    runtime: str
    recipe: str
    table: Table
    places: dict[str, int]
    wrong: tuple[WrongLayer, ...]
    unmeasured: tuple[str, ...]
    variants: tuple[WholePrecision, ...]


def tune_precision(
    plan: Plan,
    asked: str,
    bench: Bench,
    seconds: float,
    stage: StageClock,
    note: Callable[[str], None],
    *,
    whole: bool = True,
) -> tuple[TunedPrecision, ...]:
    """Measures every layer of a network in float and in int8, with each runtime of the plan that has a quantizer.

    Args:
        plan: The network and its formats.
        asked: A recipe's name, or the alias.
        bench: Where to measure.
        seconds: How long to measure for each runtime; writing the files comes on top of that.
        stage: Times the stages.
        note: Is told what is worth a line.
        whole: Whether to measure the network as a whole, too.

    Raises:
        MisuseError: A format does not have the recipe, or nothing in the network may be int8.
        EnvironmentProblemError: Nothing could be measured.
        ConverterError: A converter failed.
        ParityError: A lowering changed the network.
    """
    network, results = prepare(plan, stage), []
    for exporter in plan.exporters:
        with tempfile.TemporaryDirectory() as folder:
            with stage(f"write for {exporter.runtime}"):
                subject = write_subject(network, plan, exporter, asked, bench.scene, Path(folder))
            with stage(f"layers in {exporter.runtime}"):
                tuned = tune_layers(subject, bench, seconds * (1 - WHOLE_SHARE if whole else 1.0), note)
            if whole:
                with stage(f"network in {exporter.runtime}"):
                    tuned = tune_network(tuned, subject, bench, Path(folder), seconds * WHOLE_SHARE, note)
        results.append(tuned)
    return tuple(results)


def tune_layers(subject: Subject, bench: Bench, seconds: float, note: Callable[[str], None]) -> TunedPrecision:
    """Measures every distinct layer.

    Raises:
        EnvironmentProblemError: Nothing was measured.
    """
    found: Counter[tuple[DenseLayer, LayerMethod]] = Counter(
        (each.dense, each.method) for each in subject.choice.places if each.dense is not None
    )
    with tempfile.TemporaryDirectory() as folder:
        written = {key: write_layer(*key, subject, Path(folder) / str(index)) for index, key in enumerate(found)}
        contests = [contest for each in written.values() if not isinstance(each, str) for contest in each]
        answers = measure_in_turn(bench, contests, subject.exporter.runtime, seconds)
        counted = bench.scene.unit == "instructions"
        results = {key: result(key, each, answers, counted=counted) for key, each in written.items()}
    for (layer, _), each in results.items():
        if each.disturbance:
            note(f"{layer} was not measured. {each.disturbance}")
    entries = tuple(each.entry for each in results.values() if each.entry is not None)
    if not entries:
        raise nothing_measured(subject.exporter)
    package = next(each.package for each in results.values() if each.package)
    return TunedPrecision(
        runtime=subject.exporter.runtime,
        recipe=subject.recipe.name,
        table=replace(new_table(bench.scene, subject.exporter.runtime, package, ()), layers=entries),
        places={str(layer): places for (layer, _), places in found.items()},
        wrong=tuple(WrongLayer(layer=str(key[0]), reason=each.reason) for key, each in results.items() if each.reason),
        unmeasured=tuple(str(key[0]) for key, each in results.items() if each.entry is None and not each.reason),
        variants=(),
    )


@dataclass(frozen=True, slots=True)
class LayerResult:
    """What measuring one layer gave: an entry, or why there is none; both where it is wrong in int8."""

    entry: LayerEntry | None = None
    package: str = ""
    reason: str = ""
    disturbance: str = ""


def write_layer(layer: DenseLayer, method: LayerMethod, subject: Subject, folder: Path) -> tuple[Contest, ...] | str:
    """The comparisons for a layer, or why there are none."""
    folder.mkdir()
    try:
        return precision_contests(layer, method, subject.exporter, subject.quantizer, folder)
    except ConverterError as error:
        return str(error)


def result(
    key: tuple[DenseLayer, LayerMethod],
    written: tuple[Contest, ...] | str,
    answers: Iterator[Measured | None],
    *,
    counted: bool,
) -> LayerResult:
    """What the next answers say of a layer."""
    if isinstance(written, str):
        return LayerResult(reason=written)
    found = [next(answers) for _ in written]
    measured = [each for each in found if each is not None]
    if len(measured) < len(written):
        return LayerResult()
    made = LayerResult(package=measured[0].package)
    if disturbed := next((each.disturbance for each in measured if each.disturbance), None):
        return dataclasses.replace(made, disturbance=disturbed)
    if FLOAT not in measured[0].costs:
        return dataclasses.replace(made, reason=f"It does not run: {measured[0].failures[FLOAT]}")
    faults = (fault(contest, each) for contest, each in zip(written, measured, strict=True))
    reason = next((each for each in faults if each), "")
    entry = layer_entry(*key, measured, counted=counted, wrong=bool(reason))
    return dataclasses.replace(made, entry=entry, reason=reason)


def fault(contest: Contest, measured: Measured) -> str | None:
    """Why a layer cannot be used in int8, None where it can."""
    for name in contest.files:
        if name in measured.failures:
            return f"It does not run: {measured.failures[name]}"
        if why := why_wrong(contest.expected[name], measured.outputs[name], RIGHT_DB):
            return f"It is wrong: {why}"
    return None


def layer_entry(
    layer: DenseLayer, method: LayerMethod, measured: Sequence[Measured], *, counted: bool = False, wrong: bool = False
) -> LayerEntry:
    """What the comparisons between float neighbours, and between int8 ones, say of a layer."""
    exact = typical(measured[0].costs[FLOAT])
    alone, *between = [(exact, exact)] if wrong else [both_costs(each) for each in measured]
    equal = abs(alone[0] - alone[1]) <= SCATTER * exact if counted else len(measured[0].fastest) > 1
    faster = not wrong and not equal and alone[1] < alone[0]
    return LayerEntry(
        layer=layer,
        method=method,
        fp32=alone[0],
        int8=alone[1],
        between=between[0] if between else None,
        precision="int8" if faster else "fp32",
        why="wrong" if wrong else "equal" if equal else "faster" if faster else "slower",
        rounds=max(len(each) for each in measured[0].costs.values()),
    )


def both_costs(measured: Measured) -> tuple[float, float]:
    """What the float file of a comparison costs, and the int8 one."""
    leader = measured.costs[measured.fastest[0]]
    exact, rounded = (round(cost(measured.costs[name], leader), 4) for name in (FLOAT, INT8))
    return exact, rounded


def tune_network(
    tuned: TunedPrecision,
    subject: Subject,
    bench: Bench,
    folder: Path,
    seconds: float,
    note: Callable[[str], None],
) -> TunedPrecision:
    """Measures the network as a whole; where it is faster otherwise than with what pays alone, its layers stay so.

    Raises:
        ArtifactError: It does not run where it is to be measured.
        EnvironmentProblemError: Something disturbed the measurement.
    """
    variants, table = compare_precisions(subject, bench, tuned.table, folder, seconds), tuned.table
    if (best := faster_than_measured(variants, table.unit)) is not None:
        note(f"{tuned.runtime}: the whole network is faster as {best.name}; its layers stay that way.")
        table = replace(table, layers=tuple(settled(each, best.name) for each in table.layers))
    return replace(tuned, table=table, variants=variants)
