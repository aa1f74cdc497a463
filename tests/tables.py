"""Tables for tests: what was measured, written out."""

from collections.abc import Mapping
from typing import Any

from edgekit.dense_layer import parse
from edgekit.kernel_group import DEPTHWISE, KernelGroup
from edgekit.tuning.nearest import Place
from edgekit.tuning.tables import SCHEMA_VERSION, Entry, FormCost, LayerEntry, Table

HERE = Place(("x86_64",), "Zen 3", frozenset({"onnxruntime 1.31.1"}))
"""Where artifacts of these tests will run."""


def entry(group: KernelGroup, costs: Mapping[str, float], chosen: str | None = None, empty: float = 1.0) -> Entry:
    """A group measured; the cheapest form is chosen unless another one is named."""
    return Entry(
        group=group,
        empty=empty,
        forms=tuple(FormCost(form=form, cost=cost, low=cost, high=cost) for form, cost in costs.items()),
        chosen=chosen or min(costs, key=lambda form: costs[form]),
        why="fastest",
        rounds=12,
    )


def only(group: KernelGroup, form: str) -> Entry:
    """A group for which a form is twice as fast as trained."""
    return entry(group, {DEPTHWISE: 3.0, form: 1.5} if form != DEPTHWISE else {DEPTHWISE: 1.5})


def layer_entry(layer: str, fp32: float, int8: float) -> LayerEntry:
    """A layer measured, by its name, with an input whose range is found in every run."""
    faster = int8 < fp32
    return LayerEntry(
        layer=parse(layer),
        method="dynamic",
        fp32=fp32,
        int8=int8,
        precision="int8" if faster else "fp32",
        why="faster" if faster else "slower",
        rounds=12,
    )


def table(*entries: Entry, **changed: Any) -> Table:
    """A table measured here, unless something else is said."""
    key: dict[str, Any] = {
        "runtime": "onnxruntime",
        "package": "onnxruntime 1.31.1",
        "cpu": "Zen 3",
        "architecture": "x86_64",
        "threads": 1,
        "unit": "ms",
        "emulated": False,
        "measured": "2026-11-21",
    }
    return Table(schema_version=SCHEMA_VERSION, edgekit_version="0.1.0", entries=entries, **{**key, **changed})
