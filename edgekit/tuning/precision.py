"""From tables to int8 or float for every dense layer of a network.

The measurement that speaks for a layer is found as for a group of kernels (`edgekit.tuning.nearest`): measured here, on
a sister device, or the nearest of the rules that come with edgekit. Where nothing near it was measured, its structure
decides, and it becomes int8. A CPU that adds up products of 8-bit integers in one instruction says nothing about one
that does not.

A layer whose ranges are fixed beforehand shares a border with a neighbour of the same precision. So layers are not
chosen one by one: the cost of a network is

    sum of each layer's own cost in its precision  +  sum of each border's cost between two of different precision

and a layer reads one map, so borders make trees of the layers, on which the least of it is found from the leaves to the
roots, exactly. With a border of cost b, int8 saves `core - b` between float neighbours and `core + b` between int8
ones; both were measured.

A target with several architectures gets one file: a layer is int8 where it is in every one of them.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf, log2, prod
from typing import Literal

from edgekit.dense_layer import DenseLayer
from edgekit.tuning.nearest import Place, in_order
from edgekit.tuning.tables import LayerEntry, LayerMethod, Precision, Table

STRUCTURE = "structure"
"""What decides where nothing was measured."""

FURTHEST = 3.0
"""So many doublings away at most, a rule still speaks for a layer."""

Reason = Literal["", "slower", "wrong"]

FLOAT: Precision = "fp32"
INT8: Precision = "int8"


@dataclass(frozen=True, slots=True)
class LayerPlace:
    """Where a layer that may be int8 stands.

    Attributes:
        name: In its file.
        dense: What it is; None where the file does not tell.
        method: `static` or `dynamic`.
        reads: The layer of these whose result it reads as it is; None for anything else.
        float_readers: Whether anything but layers of these reads its result.
    """

    name: str
    dense: DenseLayer | None
    method: LayerMethod
    reads: str | None = None
    float_readers: bool = True


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of a layer.

    Attributes:
        reason: Why it stays float; empty where it does not.
        source: What decided.
        saved: What int8 saves in an inference, in `unit`; negative where it costs, None where nobody knows.
    """

    reason: Reason
    source: str = STRUCTURE
    saved: float | None = None
    unit: str = ""


@dataclass(frozen=True, slots=True)
class Known:
    """A measurement that speaks for a layer, why, and how many times the work of the measured one it has."""

    entry: LayerEntry
    table: Table
    source: str
    scale: float = 1.0

    @property
    def saved(self) -> float:
        """What int8 saves between float neighbours."""
        return self.scale * self.entry.saved

    @property
    def border(self) -> float:
        """What the borders on both of its sides cost together, where precisions differ."""
        if self.entry.between is None:
            return 0.0
        exact, rounded = self.entry.between
        return self.scale * max(exact - rounded - self.entry.saved, 0.0) / 2

    @property
    def core(self) -> float:
        """What int8 saves without any border."""
        return self.saved + self.border


@dataclass(frozen=True, slots=True)
class PrecisionChooser:
    """Chooses by what was measured for a runtime where artifacts will run.

    Attributes:
        smallest: Whether a layer is int8 even where that is slower; only one that would be wrong is not.
    """

    runtime: str
    place: Place
    own: tuple[Table, ...]
    rules: tuple[Table, ...]
    smallest: bool = False

    def __call__(self, layers: Sequence[LayerPlace]) -> dict[str, Verdict]:
        """What becomes of every layer, by its name, given all that may be int8 in the order of the file."""
        verdicts = [self._on(layers, architecture) for architecture in self.place.architectures]
        found = {layer.name: together([each[layer.name] for each in verdicts]) for layer in layers}
        if self.smallest:
            return {name: replace(each, reason="") if each.reason == "slower" else each for name, each in found.items()}
        return found

    def _on(self, layers: Sequence[LayerPlace], architecture: str) -> dict[str, Verdict]:
        """The same for one architecture."""
        known = {layer.name: self.find(layer, architecture) for layer in layers}
        chosen = cheapest(layers, known)
        return {name: verdict(known[name], precision) for name, precision in chosen.items()}

    def find(self, layer: LayerPlace, architecture: str) -> Known | None:
        """The measurement that speaks for a layer; None where there is none near it."""
        if layer.dense is None:
            return None
        own, rules = (self._alike(tables) for tables in (self.own, self.rules))
        for what, table in in_order(self.runtime, architecture, self.place, own):
            for entry in table.layers:
                if (entry.layer, entry.method) == (layer.dense, layer.method):
                    return Known(entry, table, f"{what}: {table.describe()}")
        for table in rules:
            if (table.runtime, table.architecture) == (self.runtime, architecture):
                known = by_rule(layer.dense, layer.method, table)
                if known is not None:
                    return known
        return None

    def _alike(self, tables: Sequence[Table]) -> list[Table]:
        """The tables measured on a CPU that multiplies integers as the one does that artifacts will run on."""
        return [table for table in tables if table.dot_products == self.place.dot_products]


def by_rule(layer: DenseLayer, method: str, table: Table) -> Known | None:
    """The nearest layer of the same structure in a table of rules."""
    alike = [each for each in table.layers if (structure(each.layer), each.method) == (structure(layer), method)]
    closest = min(alike, key=lambda each: (distance(each.layer, layer), str(each.layer)), default=None)
    if closest is None or distance(closest.layer, layer) > FURTHEST:
        return None
    same = "" if closest.layer == layer else f", by {closest.layer}"
    return Known(closest, table, f"rules: {table.describe()}{same}", layer.macs / closest.layer.macs)


def structure(layer: DenseLayer) -> tuple[object, ...]:
    """What two layers must have in common to be compared."""
    return layer.kind, prod(layer.taps) > 1, prod(layer.stride) > 1, prod(layer.dilation) > 1


def distance(one: DenseLayer, other: DenseLayer) -> float:
    """How many doublings lie between two layers: in channels, positions and taps."""
    sides = ((each.inputs, each.outputs, prod(each.result), prod(each.taps)) for each in (one, other))
    return sum(abs(log2(left / right)) for left, right in zip(*sides, strict=True))


def cheapest(layers: Sequence[LayerPlace], known: Mapping[str, Known | None]) -> dict[str, Precision]:
    """The precisions with which all layers and borders together cost least; float where that costs the same.

    Costs are against a network that is float throughout. What was not measured is int8, and its borders are free.
    """
    there = {layer.name for layer in layers}
    costs = {layer.name: own_costs(layer, known[layer.name]) for layer in layers}
    for layer in reversed(layers):
        if layer.reads in there:
            for precision, cost in costs[layer.reads].items():
                costs[layer.reads][precision] = cost + min(with_border(layer, known, costs, precision).values())
    chosen: dict[str, Precision] = {}
    for layer in layers:
        before = chosen[layer.reads] if layer.reads in there else FLOAT
        each = with_border(layer, known, costs, before)
        chosen[layer.name] = INT8 if each[INT8] < each[FLOAT] else FLOAT
    return chosen


def saving(layers: Sequence[LayerPlace], known: Mapping[str, Known | None], chosen: Collection[str]) -> float:
    """What a network saves with some of its layers in int8, borders included; what was not measured counts nothing."""
    saved = 0.0
    for layer in layers:
        found, own = known[layer.name], layer.name in chosen
        if found is None or found.entry.why == "wrong":
            continue
        before, behind = sides(found)
        saved += found.core if own else 0.0
        saved -= before if own != (layer.reads in chosen) else 0.0
        saved -= behind if own and layer.float_readers else 0.0
    return saved


def own_costs(layer: LayerPlace, known: Known | None) -> dict[Precision, float]:
    """What a layer costs in each precision, with the border behind it where something float reads its result."""
    if known is None:
        return {FLOAT: inf, INT8: 0.0}
    if known.entry.why in ("wrong", "whole network"):
        return {FLOAT: 0.0, INT8: inf} if known.entry.precision == FLOAT else {FLOAT: inf, INT8: 0.0}
    core = known.core if known.entry.why != "equal" else known.border  # int8 saves nothing between float neighbours
    return {FLOAT: 0.0, INT8: -core + (sides(known)[1] if layer.float_readers else 0.0)}


def with_border(
    layer: LayerPlace,
    known: Mapping[str, Known | None],
    costs: Mapping[str, Mapping[Precision, float]],
    before: Precision,
) -> dict[Precision, float]:
    """What a layer and all behind it costs in each precision, where what it reads comes in another one or the same."""
    found = known[layer.name]
    border = sides(found)[0] if found is not None else 0.0
    return {own: cost + (border if own != before else 0.0) for own, cost in costs[layer.name].items()}


def sides(known: Known) -> tuple[float, float]:
    """What the borders before and behind a layer cost: they are shared by the sizes of the two maps."""
    layer = known.entry.layer
    share = layer.read / (layer.read + layer.given)
    return known.border * share, known.border * (1 - share)


def verdict(known: Known | None, precision: Precision) -> Verdict:
    """What is told of a layer."""
    if known is None:
        return Verdict("")
    wrong = known.entry.why == "wrong"
    reason: Reason = "" if precision == INT8 else "wrong" if wrong else "slower"
    return Verdict(reason, known.source, None if wrong else known.saved, known.table.unit)


def together(verdicts: Sequence[Verdict]) -> Verdict:
    """The verdict for several architectures: float where one of them says so, else that of one that knows."""
    against = next((each for each in verdicts if each.reason), None)
    return against or next((each for each in verdicts if each.source != STRUCTURE), verdicts[0])
