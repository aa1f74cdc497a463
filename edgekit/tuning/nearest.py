"""The measurement that speaks for a group: its own, or the nearest there is.

For a group and an architecture the first of these that knows it decides:

1. a table measured here: same runtime and version, same CPU
2. a table measured on a sister device: same runtime and architecture
3. the rules that come with edgekit for this runtime and architecture: the group of the same structure that is nearest
   in channels, size and taps, each compared as a ratio; only what clearly saved time there is written otherwise here
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import log2, prod

from edgekit.kernel_group import DEPTHWISE, KernelGroup, KernelStep, Kind
from edgekit.tuning.tables import Entry, Table

LEAST_SAVED, MOST_NEEDED = 0.15, 0.75
"""Share of what a group adds as trained that another form has to save before groups like it are written so.

What a few percent decide for one size, they decide otherwise for the next: of times the least is asked for once more
with every doubling that lies between the groups, up to the most. Counted instructions grow more evenly.
"""


@dataclass(frozen=True, slots=True)
class Place:
    """Where artifacts will run: its architectures, the CPU, and the runtime's distributions with their versions.

    `dot_products` says whether the CPU adds up products of 8-bit integers in one instruction.
    """

    architectures: tuple[str, ...]
    cpu: str
    packages: frozenset[str]
    dot_products: bool = False

    @property
    def short_sums(self) -> bool:
        """Whether int8 kernels add products in pairs to 16 bits (`vpmaddubsw`), which weights of 8 bits overflow."""
        return "x86_64" in self.architectures and not self.dot_products


def place_of(table: Table) -> Place:
    """Where a table was measured."""
    return Place((table.architecture,), table.cpu, frozenset({table.package}), table.dot_products)


@dataclass(frozen=True, slots=True)
class Found:
    """An entry that speaks for a group, and why."""

    entry: Entry
    table: Table
    source: str

    def form_for(self, group: KernelGroup) -> str:
        """The form to use: what was chosen, or as trained where a group is only alike and little was saved."""
        entry = self.entry
        added = {form.form: form.cost - entry.empty for form in entry.forms}
        if entry.group == group or entry.chosen not in added or DEPTHWISE not in added:
            return entry.chosen
        trained, further = added[DEPTHWISE], 0.0 if self.table.emulated else distance(entry.group, group)
        needed = min(LEAST_SAVED * (1 + further), MOST_NEEDED)
        clear = added[entry.chosen] < (1 - needed) * trained
        return entry.chosen if clear else DEPTHWISE

    def costs(self, names: Iterable[str]) -> dict[str, float]:
        """Cost of each candidate that was measured."""
        return {form.form: form.cost for form in self.entry.forms if form.form in names}


def find(group: KernelGroup, runtime: str, place: Place, own: Sequence[Table], rules: Sequence[Table]) -> list[Found]:
    """The entry that decides for each of a place's architectures; none where nothing speaks for the group."""
    found = (_find(group, runtime, architecture, place, own, rules) for architecture in place.architectures)
    return [each for each in found if each is not None]


def _find(
    group: KernelGroup, runtime: str, architecture: str, place: Place, own: Sequence[Table], rules: Sequence[Table]
) -> Found | None:
    for what, table in in_order(runtime, architecture, place, own):
        for entry in table.entries:
            if entry.group == group:
                return Found(entry, table, f"{what}: {table.describe()}")
    for table in rules:
        if (table.runtime, table.architecture) == (runtime, architecture):
            closest = nearest(group, table.entries)
            if closest is not None:
                same = "" if closest.group == group else f", by {closest.group}"
                return Found(closest, table, f"rules: {table.describe()}{same}")
    return None


def in_order(runtime: str, architecture: str, place: Place, own: Sequence[Table]) -> Iterator[tuple[str, Table]]:
    """One's own tables for a runtime and architecture, those of the very place first, each with what it is."""
    fitting = [table for table in own if (table.runtime, table.architecture) == (runtime, architecture)]
    fitting.sort(key=lambda table: table.emulated)  # time on a real device says more than instructions do
    packages = {package.lower() for package in place.packages}  # a distribution's name has no case: MNN, mnn
    here = [table for table in fitting if table.cpu == place.cpu and table.package.lower() in packages]
    yield from (("measured here", table) for table in here)
    yield from (("measured on a sister device", table) for table in fitting)


def nearest(group: KernelGroup, entries: Iterable[Entry]) -> Entry | None:
    """The entry whose group has the same structure and is nearest in channels, size and taps."""
    alike = [entry for entry in entries if structure(entry.group) == structure(group)]
    return min(alike, key=lambda entry: (distance(entry.group, group), str(entry.group)), default=None)


def structure(group: KernelGroup) -> tuple[tuple[tuple[Kind, bool, bool], ...], ...]:
    """What two groups must have in common to be compared: chains of like convolutions, whichever axis comes first."""
    chains = (tuple(_likeness(step) for step in chain) for chain in group.chains)
    return tuple(sorted(chains))


def _likeness(step: KernelStep) -> tuple[Kind, bool, bool]:
    return step.kind, any(step.wrap), step.stride != (1, 1)


def distance(one: KernelGroup, other: KernelGroup) -> float:
    """How many doublings lie between two groups of the same structure."""
    sides = zip(measures(one), measures(other), strict=True)
    return sum(abs(log2(left / right)) for left, right in sides)


def measures(group: KernelGroup) -> list[int]:
    """Channels, height, width, and the taps of every convolution."""
    return [group.channels, *group.size, *sorted(prod(step.taps) for step in group.steps)]
