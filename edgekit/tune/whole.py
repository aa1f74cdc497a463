"""The whole network, in the forms that won and in others: do the groups' gains add up?"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from edgekit.artifact import Parity
from edgekit.errors import ArtifactError, EnvironmentProblemError
from edgekit.exporters import Exporter
from edgekit.exporters.base import ExportSpec
from edgekit.kernel_group import DEPTHWISE
from edgekit.network import Lowered, Network, lower
from edgekit.numerics import compare_sampled
from edgekit.plan import Plan
from edgekit.quant.base import Feed
from edgekit.quiet import silenced
from edgekit.tune.artifacts import Contest
from edgekit.tune.measure import Bench
from edgekit.tune.race import typical
from edgekit.tuning.choose import Choose
from edgekit.tuning.tables import Entry
from edgekit.verify import ReferenceCase

SLOWER = 1.02
"""A network this many times slower than another is slower; less is noise."""

CASE = "natural"
"""The input a whole network is timed on."""

AS_TRAINED, BEFORE, TUNED = "as trained", "before tuning", "tuned"
"""The variants: every group as it is; what an export chose until now; what it will choose."""


class Variant(Struct, frozen=True, kw_only=True):
    """A whole network with its groups in certain forms.

    Attributes:
        cost: Of an inference, in the unit of the place.
        saved: How much cheaper it is than as trained.
        predicted: The same from the groups alone: the cost as trained less that of the form, for each of its places.
        forms: Name of each group to its form.
        bytes: Size of the file.
        parity: Against the original model in float64, on one input.
    """

    name: str
    cost: float
    saved: float
    predicted: float
    forms: dict[str, str]
    bytes: int
    parity: Parity
    gate_db: float


def compare_whole(
    network: Network,
    plan: Plan,
    exporter: Exporter,
    bench: Bench,
    choosers: Mapping[str, Choose],
    entries: Sequence[Entry],
    folder: Path,
    seconds: float,
) -> tuple[Variant, ...]:
    """Writes a network once for every chooser that chooses differently, and measures these against each other.

    Args:
        network: The network.
        plan: What it came from.
        exporter: The format.
        bench: Where it is measured.
        choosers: Name of each variant to what chooses for it; the first is as trained.
        entries: What was measured of the groups.
        folder: A scratch folder.
        seconds: How long to measure.

    Raises:
        ConverterError: The converter failed.
        ParityError: A lowering changed the network.
        ArtifactError: The network does not run where it is to be measured.
        EnvironmentProblemError: Something disturbed the measurement.
    """
    made = {name: lower(network, exporter.runtime, plan.request.precision, choose) for name, choose in choosers.items()}
    kept, trained = distinct(made), next(iter(made.values()))
    files = write_whole(network, plan, exporter, kept, folder)
    case, inputs = timed_case(network, plan)
    costs, outputs = measure_files(files, inputs, exporter, bench, seconds)
    base = costs[next(name for name, lowered in kept.items() if forms_of(lowered) == forms_of(trained))]
    return tuple(
        Variant(
            name=name,
            cost=costs[name],
            saved=base - costs[name],
            predicted=predicted(lowered, entries),
            forms={choice.group: choice.form for choice in lowered.choices},
            bytes=sum(file.stat().st_size for file in files[name]),
            parity=compare_sampled(case.outputs[0].values, outputs[name]),
            gate_db=network.reference.gate_db(case, 0),
        )
        for name, lowered in kept.items()
    )


def timed_case(network: Network, plan: Plan) -> tuple[ReferenceCase, Feed]:
    """What a whole network is timed on: the reference's case, and its inputs by name."""
    case = next(each for each in network.reference.cases if each.name == CASE)
    return case, {spec.name: image for spec, image in zip(plan.inputs, case.inputs, strict=True)}


def measure_files(
    files: Mapping[str, tuple[Path, ...]], inputs: Feed, exporter: Exporter, bench: Bench, seconds: float
) -> tuple[dict[str, float], Mapping[str, NDArray[np.float32]]]:
    """What an inference of each variant costs, and what it answers.

    Raises:
        ArtifactError: A variant does not run where it is to be measured.
        EnvironmentProblemError: Something disturbed the measurement.
    """
    measured = bench.measure(Contest(files, inputs, {}), exporter.runtime, seconds)
    if measured.disturbance is not None:
        raise EnvironmentProblemError(f"The network was not measured. {measured.disturbance}")
    for name, reason in measured.failures.items():
        raise ArtifactError(f"The {exporter.format} artifact, {name}, does not run there: {reason}")
    return {name: typical(taken) for name, taken in measured.costs.items()}, measured.outputs


def distinct(made: Mapping[str, Lowered]) -> dict[str, Lowered]:
    """The variants that differ; of those that agree, the last."""
    last = {forms_of(each): name for name, each in made.items()}
    return {name: each for name, each in made.items() if name in last.values()}


def forms_of(lowered: Lowered) -> frozenset[tuple[str, str, str]]:
    """Which group has which form, and where."""
    return frozenset((choice.group, site, choice.form) for choice in lowered.choices for site in choice.sites)


def write_whole(
    network: Network, plan: Plan, exporter: Exporter, variants: Mapping[str, Lowered], folder: Path
) -> dict[str, tuple[Path, ...]]:
    """The files of every variant."""
    spec = ExportSpec(plan.inputs, network.reference.outputs, plan.metadata)
    with silenced():
        return {
            name: exporter.load()(lowered.program, spec, folder, f"whole{index}")[0].files
            for index, (name, lowered) in enumerate(variants.items())
        }


def predicted(lowered: Lowered, entries: Sequence[Entry]) -> float:
    """What the groups alone let expect that a network is cheaper by than as trained."""
    costs = {str(entry.group): {form.form: form.cost for form in entry.forms} for entry in entries}
    saved = 0.0
    for choice in lowered.choices:
        known = costs.get(choice.group, {})
        if choice.form in known and DEPTHWISE in known:
            saved += len(choice.sites) * (known[DEPTHWISE] - known[choice.form])
    return saved
