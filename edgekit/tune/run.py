"""Tuning a network for a device: every group of depthwise kernels once, then the network as a whole."""

import dataclasses
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from edgekit.errors import EnvironmentProblemError
from edgekit.exporters import Exporter
from edgekit.kernel_group import DEPTHWISE, KernelGroup, candidates
from edgekit.network import Network, StageClock, prepare
from edgekit.passes.lower.kernel_sites import find_groups
from edgekit.plan import Plan
from edgekit.tune.artifacts import group_contest
from edgekit.tune.entries import entry, refused
from edgekit.tune.measure import Bench, Scene
from edgekit.tune.whole import AS_TRAINED, BEFORE, SLOWER, TUNED, Variant, compare_whole
from edgekit.tuning.choose import Choose, as_trained
from edgekit.tuning.nearest import place_of
from edgekit.tuning.tables import SCHEMA_VERSION, Entry, Table
from edgekit.version import __version__

WHOLE_SHARE = 0.3
"""Part of the time that is kept for the whole network."""


class RefusedForm(Struct, frozen=True, kw_only=True):
    """A form that a runtime does not run, or computes wrongly, and that is therefore never chosen."""

    group: str
    form: str
    reason: str


class Tuned(Struct, frozen=True, kw_only=True):
    """What tuning for one runtime came to.

    Attributes:
        table: The groups of this network.
        places: Name of each group to how often it stands in the network.
        unmeasured: Groups the time did not suffice for.
        variants: The whole network; empty where it was left out.
    """

    runtime: str
    table: Table
    places: dict[str, int]
    refused: tuple[RefusedForm, ...]
    unmeasured: tuple[str, ...]
    variants: tuple[Variant, ...]


def tune(
    plan: Plan, bench: Bench, seconds: float, stage: StageClock, note: Callable[[str], None], *, whole: bool = True
) -> tuple[Tuned, ...]:
    """Measures every group of a network in every form, with each runtime of the plan.

    Args:
        plan: The network and its formats.
        bench: Where to measure.
        seconds: How long to measure for each runtime; writing the files comes on top of that.
        stage: Times the stages.
        note: Is told what is worth a line.
        whole: Whether to measure the network as a whole, too.

    Raises:
        EnvironmentProblemError: Nothing could be measured.
        ConverterError: A converter failed.
        ParityError: A lowering changed the network.
    """
    network = prepare(plan, stage)
    found = Counter(site.group for site in find_groups(network.proven.program))
    groups = Counter({group: places for group, places in found.items() if len(candidates(group)) > 1})
    if not groups:
        note("There is nothing to choose: no depthwise kernel of the network can be written in another way.")
        return ()
    share = 1 - WHOLE_SHARE if whole else 1.0
    results = []
    for exporter in plan.exporters:
        with stage(f"groups in {exporter.runtime}"):
            tuned = tune_groups(groups, plan, exporter, bench, seconds * share, note)
        if whole:
            with stage(f"network in {exporter.runtime}"):
                tuned = tune_whole(tuned, network, plan, exporter, bench, seconds * WHOLE_SHARE, note)
        results.append(tuned)
    return tuple(results)


def tune_groups(
    groups: Counter[KernelGroup],
    plan: Plan,
    exporter: Exporter,
    bench: Bench,
    seconds: float,
    note: Callable[[str], None],
) -> Tuned:
    """Measures every group with one runtime."""
    entries, package, never = measure_groups(list(groups), plan, exporter, bench, seconds, note)
    if not entries:
        raise nothing_measured(exporter)
    measured = {each.group for each in entries}
    return Tuned(
        runtime=exporter.runtime,
        table=new_table(bench.scene, exporter.runtime, package, entries),
        places={str(group): places for group, places in groups.items()},
        refused=never,
        unmeasured=tuple(str(group) for group in groups if group not in measured),
        variants=(),
    )


def nothing_measured(exporter: Exporter) -> EnvironmentProblemError:
    """What to say where a runtime has no entry."""
    return EnvironmentProblemError(
        f"Nothing was measured in {exporter.runtime}. Leave the machine alone, or allow more with --budget."
    )


def tune_whole(
    tuned: Tuned,
    network: Network,
    plan: Plan,
    exporter: Exporter,
    bench: Bench,
    seconds: float,
    note: Callable[[str], None],
) -> Tuned:
    """Measures the network as a whole, and gives its groups other forms where it is slower with the fastest ones."""
    variants = measure_network(network, plan, exporter, bench, tuned.table, seconds)
    table = tuned.table
    if slower := slower_than(variants):
        note(f"{exporter.runtime}: the whole network is faster {slower.name}; its groups stay that way.")
        table = replace(table, entries=tuple(demoted(each, slower.forms) for each in table.entries))
    return replace(tuned, table=table, variants=variants)


def measure_groups(
    groups: Sequence[KernelGroup],
    plan: Plan,
    exporter: Exporter,
    bench: Bench,
    seconds: float,
    note: Callable[[str], None],
) -> tuple[list[Entry], str, tuple[RefusedForm, ...]]:
    """An entry for every group, as far as the time allows; the time a group leaves is there for the next ones.

    What was disturbed makes no entry. With the entries come the package they were measured with, and the forms that
    cannot be used.
    """
    entries: list[Entry] = []
    never: list[RefusedForm] = []
    package, left = "", seconds
    for index, group in enumerate(groups):
        if left <= 0:
            break
        with tempfile.TemporaryDirectory() as folder:
            contest = group_contest(group, exporter, plan.request.precision, Path(folder))
            started = time.monotonic()
            measured = bench.measure(contest, exporter.runtime, left / (len(groups) - index))
            left -= time.monotonic() - started
        if measured.disturbance is not None:
            note(f"{group} was not measured. {measured.disturbance}")
            continue
        reasons = refused(contest, measured)
        never += [RefusedForm(group=str(group), form=name, reason=reason) for name, reason in reasons.items()]
        made = entry(group, measured, reasons)
        entries += [made] if made is not None else []
        package = measured.package or package
    return entries, package, tuple(never)


def measure_network(
    network: Network, plan: Plan, exporter: Exporter, bench: Bench, table: Table, seconds: float
) -> tuple[Variant, ...]:
    """The whole network as trained, as it was exported until now, and as the new table has it."""
    before = dataclasses.replace(plan.chooser(exporter), place=place_of(table))
    tuned = dataclasses.replace(before, own=(table, *before.own))
    choosers: dict[str, Choose] = {AS_TRAINED: as_trained, BEFORE: before, TUNED: tuned}
    with tempfile.TemporaryDirectory() as folder:
        return compare_whole(network, plan, exporter, bench, choosers, table.entries, Path(folder), seconds)


def slower_than(variants: Sequence[Variant]) -> Variant | None:
    """The variant than which the tuned one is clearly slower, None where there is none."""
    tuned = next((variant for variant in variants if variant.name == TUNED), None)
    best = min(variants, key=lambda variant: variant.cost)
    return best if tuned is not None and tuned.cost > SLOWER * best.cost else None


def demoted(measured: Entry, forms: Mapping[str, str]) -> Entry:
    """An entry whose group gets the form it has where the whole network is faster."""
    form = forms.get(str(measured.group), DEPTHWISE)
    return measured if measured.chosen == form else replace(measured, chosen=form, why="whole network")


def new_table(scene: Scene, runtime: str, package: str, entries: Sequence[Entry]) -> Table:
    """A table of entries measured now."""
    return Table(
        schema_version=SCHEMA_VERSION,
        runtime=runtime,
        package=package,
        cpu=scene.cpu,
        architecture=scene.architecture,
        threads=scene.threads,
        unit=scene.unit,
        emulated=scene.emulated,
        measured=datetime.now(UTC).date().isoformat(),
        edgekit_version=__version__,
        entries=tuple(entries),
        dot_products=scene.dot_products,
    )
