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

from edgekit.exporters import Exporter
from edgekit.kernel_group import DEPTHWISE, KernelGroup
from edgekit.network import Network, StageClock, prepare
from edgekit.passes.lower.kernel_sites import find_groups
from edgekit.plan import Plan
from edgekit.tune.artifacts import group_contest
from edgekit.tune.entries import entry, wrong_forms
from edgekit.tune.measure import Device
from edgekit.tune.whole import AS_TRAINED, BEFORE, SLOWER, TUNED, Variant, compare_whole
from edgekit.tuning.choose import Choose, as_trained
from edgekit.tuning.nearest import Place
from edgekit.tuning.tables import SCHEMA_VERSION, Entry, Table
from edgekit.version import __version__

WHOLE_SHARE = 0.3
"""Part of the time that is kept for the whole network."""


class Wrong(Struct, frozen=True, kw_only=True):
    """A form that a runtime computes wrongly, and is therefore never chosen."""

    group: str
    form: str
    snr_db: float


class Tuned(Struct, frozen=True, kw_only=True):
    """What tuning for one runtime came to.

    Attributes:
        table: The groups of this network.
        places: Name of each group to how often it stands in the network.
        unmeasured: Groups the time did not suffice for.
        variants: The whole network; empty where every form stayed as it was.
    """

    runtime: str
    table: Table
    places: dict[str, int]
    wrong: tuple[Wrong, ...]
    unmeasured: tuple[str, ...]
    variants: tuple[Variant, ...]


def tune(
    plan: Plan, device: Device, seconds: float, stage: StageClock, note: Callable[[str], None]
) -> tuple[Tuned, ...]:
    """Measures every group of a network in every form, with each runtime of the plan.

    Args:
        plan: The network and its formats.
        device: Where to measure.
        seconds: How long to measure for each runtime; writing the files comes on top of that.
        stage: Times the stages.
        note: Is told what is worth a line.

    Raises:
        ConverterError: A converter failed.
        ParityError: A lowering changed the network.
    """
    network = prepare(plan, stage)
    groups = Counter(site.group for site in find_groups(network.proven.program))
    if not groups:
        note("There is nothing to choose: the network has no depthwise kernel of more than nine taps.")
        return ()
    return tuple(
        tune_runtime(network, plan, exporter, device, groups, seconds, stage, note) for exporter in plan.exporters
    )


def tune_runtime(
    network: Network,
    plan: Plan,
    exporter: Exporter,
    device: Device,
    groups: Counter[KernelGroup],
    seconds: float,
    stage: StageClock,
    note: Callable[[str], None],
) -> Tuned:
    """Measures the groups and the network with one runtime."""
    with stage(f"groups in {exporter.runtime}"):
        entries, wrong = measure_groups(list(groups), plan, exporter, device, seconds * (1 - WHOLE_SHARE))
    table = new_table(device, exporter.runtime, entries)
    with stage(f"network in {exporter.runtime}"):
        variants = measure_network(network, plan, exporter, device, table, seconds * WHOLE_SHARE)
    if slower := slower_than(variants):
        note(f"{exporter.runtime}: the whole network is faster {slower.name}; its groups stay that way.")
        table = replace(table, entries=tuple(demoted(each, slower.forms) for each in entries))
    measured = {each.group for each in entries}
    return Tuned(
        runtime=exporter.runtime,
        table=table,
        places={str(group): places for group, places in groups.items()},
        wrong=wrong,
        unmeasured=tuple(str(group) for group in groups if group not in measured),
        variants=variants,
    )


def measure_groups(
    groups: Sequence[KernelGroup], plan: Plan, exporter: Exporter, device: Device, seconds: float
) -> tuple[list[Entry], tuple[Wrong, ...]]:
    """An entry for every group, as far as the time allows; the time a group leaves is there for the next ones."""
    entries, wrong, left = [], [], seconds
    for index, group in enumerate(groups):
        if left <= 0:
            break
        with tempfile.TemporaryDirectory() as folder:
            contest = group_contest(group, exporter, plan.request.precision, Path(folder))
            started = time.monotonic()
            measured = device.measure(contest, exporter.runtime, left / (len(groups) - index))
            left -= time.monotonic() - started
        found = wrong_forms(contest, measured)
        wrong += [Wrong(group=str(group), form=name, snr_db=value) for name, value in found.items()]
        made = entry(group, measured, found)
        entries += [made] if made is not None else []
    return entries, tuple(wrong)


def measure_network(
    network: Network, plan: Plan, exporter: Exporter, device: Device, table: Table, seconds: float
) -> tuple[Variant, ...]:
    """The whole network as trained, as it was exported until now, and as the new table has it."""
    scene = device.scene
    place = Place((scene.architecture,), scene.cpu, frozenset({table.package}))
    before = dataclasses.replace(plan.chooser(exporter), place=place)
    tuned = dataclasses.replace(before, own=(table, *before.own))
    choosers: dict[str, Choose] = {AS_TRAINED: as_trained, BEFORE: before, TUNED: tuned}
    with tempfile.TemporaryDirectory() as folder:
        return compare_whole(network, plan, exporter, device, choosers, table.entries, Path(folder), seconds)


def slower_than(variants: Sequence[Variant]) -> Variant | None:
    """The variant than which the tuned one is clearly slower, None where there is none."""
    tuned = next((variant for variant in variants if variant.name == TUNED), None)
    best = min(variants, key=lambda variant: variant.cost)
    return best if tuned is not None and tuned.cost > SLOWER * best.cost else None


def demoted(measured: Entry, forms: Mapping[str, str]) -> Entry:
    """An entry whose group gets the form it has where the whole network is faster."""
    form = forms.get(str(measured.group), DEPTHWISE)
    return measured if measured.chosen == form else replace(measured, chosen=form, why="whole network")


def new_table(device: Device, runtime: str, entries: Sequence[Entry]) -> Table:
    """A table of entries measured now."""
    scene = device.scene
    return Table(
        schema_version=SCHEMA_VERSION,
        runtime=runtime,
        package=device.package(runtime),
        cpu=scene.cpu,
        architecture=scene.architecture,
        threads=scene.threads,
        unit=scene.unit,
        emulated=scene.emulated,
        measured=datetime.now(UTC).date().isoformat(),
        edgekit_version=__version__,
        entries=tuple(entries),
    )
