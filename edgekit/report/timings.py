"""Where the time of each artifact goes, module by module, and how far each operator is from the machine's ceiling.

The roofline model (Williams et al. 2009): an operator with few MACs for each byte it moves cannot be faster than the
memory, one with many not faster than the arithmetic.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from edgekit.bench.ceiling_record import Ceiling
from edgekit.bench.profile import OUTSIDE, SumRow, by_kind, by_module
from edgekit.bench.profile_record import ArtifactProfile, OperatorRow
from edgekit.report import charts
from edgekit.report.document import Block, Cell, Chart, Fold, Missing, Section, Table, Text
from edgekit.report.drawing import chart
from edgekit.report.gather import Facts, Profiled
from edgekit.report.wording import NONE, milliseconds, number, plural, table

LEAST_MS = 0.01
"""Below ten times the resolution of the runtimes' clocks a rate means nothing."""

MODULES = 14
"""Modules a chart shows, those that take longest."""

DOTS = 60
"""Operators a roofline shows, those that take longest."""

KINDS = 5
"""Kinds of kernel with a colour of their own; all others share one."""

OTHERS = "others"


def section(facts: Facts) -> Section:
    """The section, or what to run for it; the fastest artifact is open, the others fold out."""
    found = facts.profiled
    missing = [
        Missing(f"No profile of {bundle.name} yet.", f"edgekit profile {bundle.folder}")
        for bundle in facts.bundles
        if all(one.entry.bundle != bundle.name for one in found)
    ]
    if not found:
        return Section("time", "Where the time goes", "", tuple(missing))
    lead = (
        "Each runtime measured itself; operators are tied to the modules of the network. The ceiling is what this "
        "machine can do at best, measured in the same minute: a large matrix product, or memory, whichever is slower."
    )
    first, *rest = found
    folds = [Fold(_heading(one), _blocks(one)) for one in rest]
    return Section("time", "Where the time goes", lead, (Text(_heading(first)), *_blocks(first), *folds, *missing))


def _heading(one: Profiled) -> str:
    profile, ceiling = one.profile, one.profile.ceiling
    emulated = " EMULATED, so no figure of a board." if one.run.machine.emulated else ""
    return (
        f"{one.entry.label}, {plural(ceiling.threads, 'thread')}: {milliseconds(profile.latency_ms)} a run, of which "
        f"operators take {profile.inside:.0%}.{emulated}"
    )


def _blocks(one: Profiled) -> tuple[Block, ...]:
    depth = _depth(one.profile.operators)
    rows = by_module(one.profile.operators, depth)
    return (
        *_modules(one, rows),
        *_roofline(one),
        _table(f"{one.entry.label}, by module", "module", one.profile, rows),
        Fold(
            f"{one.entry.label}, by kind of kernel",
            (_table(f"{one.entry.label}, by kind of kernel", "kernel", one.profile, by_kind(one.profile.operators)),),
        ),
    )


def _depth(rows: Sequence[OperatorRow]) -> int:
    """As many parts of a path as leave at most `MODULES` modules, at least one."""
    fitting = [depth for depth in (1, 2, 3) if len(by_module(rows, depth)) <= MODULES]
    return max(fitting, default=1)


def _modules(one: Profiled, rows: Sequence[SumRow]) -> Iterator[Chart]:
    longest = sorted(rows, key=lambda row: -row.ms)[:MODULES]
    bars = [
        {
            "name": row.name,
            "value": row.ms,
            "best": min(row.fastest_ms, row.ms),
            "text": f"{milliseconds(row.ms)}, {_share(row.fastest_ms, row.ms)}",
            "said": f"{row.name}: {milliseconds(row.ms)}; at the ceiling {milliseconds(row.fastest_ms)}",
        }
        for row in longest
        if row.ms > 0
    ]
    if bars:
        text = "; ".join(str(bar["said"]) for bar in bars)
        title = f"{one.entry.label}: time by module, and the part of it that the ceiling explains"
        yield chart(title, f"Bars: {text}.", lambda width: charts.against(bars, "ms", width))


def _share(fastest: float, taken: float) -> str:
    return f"{fastest / taken:.0%}" if taken >= LEAST_MS else "–"


def _roofline(one: Profiled) -> Iterator[Chart]:
    known = [row for row in one.profile.operators if row.macs > 0 and row.bytes > 0 and row.ms >= LEAST_MS]
    rows = sorted(known, key=lambda row: -row.ms)[:DOTS]
    if not rows:
        return
    kinds = [row.name for row in by_kind(rows)]
    named = kinds if len(kinds) <= KINDS + 1 else [*kinds[:KINDS], OTHERS]
    dots = [_dot(row, named) for row in rows]
    roofs = list(_roofs(one.profile.ceiling, [dot["x"] for dot in dots]))
    share = sum(row.ms for row in rows) / one.profile.operators_ms
    text = (
        f"The fastest of them reaches {max(dot['y'] for dot in dots):.1f} of the "
        f"{one.profile.ceiling.gmacs('fp32'):.1f} · 10⁹ MACs per second that a large float32 product reaches"
    )
    title = f"{one.entry.label}: roofline of {plural(len(rows), 'operator')}, {share:.0%} of the operators' time"
    yield chart(title, f"{text}.", lambda width: charts.roofline(dots, roofs, named, width))


def _dot(row: OperatorRow, kinds: Sequence[str]) -> dict[str, Any]:
    return {
        "x": row.macs / row.bytes,
        "y": 1e-6 * row.macs / row.ms,
        "ms": row.ms,
        "kind": row.kind if row.kind in kinds else OTHERS,
        "said": f"{row.module}, {row.kind}: {milliseconds(row.ms)}, {_share(row.fastest_ms, row.ms)} of the ceiling",
    }


def _roofs(ceiling: Ceiling, intensities: Sequence[float]) -> Iterator[dict[str, Any]]:
    """The ends and the knee of each roof: of the arithmetic, below the fastest and the slowest memory."""
    low, high = 0.5 * min(intensities), 2.0 * max(intensities)
    peak = ceiling.gmacs("fp32")
    rates = {each.size: each.gbytes for each in ceiling.bandwidths}
    for name, size in (("cache", min(rates)), ("memory", max(rates))):
        knee = min(max(peak / rates[size], low), high)
        for x in sorted({low, knee, high}):
            label = {"text": f"{name} {rates[size]:.0f} GB/s", "side": "below"} if x == low else {}
            yield {"roof": name, "x": x, "y": min(peak, x * rates[size]), **label}
    yield {"roof": "peak", "x": high, "y": peak, "text": f"float32 product {peak:.0f}", "side": "above"}


def _table(title: str, first: str, profile: ArtifactProfile, rows: Sequence[SumRow]) -> Table:
    whole = profile.operators_ms + profile.outside_ms
    headings = [first, ">operators", ">ms", ">share", ">MACs", ">10⁹ MACs/s", ">of the ceiling"]
    outside = [
        Cell(OUTSIDE),
        NONE,
        number(profile.outside_ms, ".2f"),
        number(100 * profile.outside_ms / whole, ".1f", " %"),
    ]
    return table(title, headings, [*(_row(row, whole) for row in rows), [*outside, NONE, NONE, NONE]])


def _row(row: SumRow, whole: float) -> list[Cell]:
    timed = row.ms >= LEAST_MS
    return [
        Cell(row.name),
        number(row.operators),
        Cell(f"{row.ms:.2f}" if timed or not row.ms else f"<{LEAST_MS}", row.ms),
        number(100 * row.ms / whole, ".1f", " %") if whole else NONE,
        number(row.macs) if row.macs else NONE,
        number(1e-6 * row.macs / row.ms, ".1f") if row.macs and timed else NONE,
        number(100 * row.fastest_ms / row.ms, ".0f", " %") if timed else NONE,
    ]
