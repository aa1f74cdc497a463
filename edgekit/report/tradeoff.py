"""What speed costs: each artifact's latency beside its size, and which of them no other beats in both."""

from collections.abc import Iterator, Sequence
from typing import Any

from edgekit.report import charts
from edgekit.report.document import Block, Cell, Chart, Missing, Section
from edgekit.report.drawing import chart
from edgekit.report.gather import Facts, Figure
from edgekit.report.latency import COLOURS, TONES
from edgekit.report.wording import grouped, mebibytes, milliseconds, size, table


def section(facts: Facts) -> Section:
    """The section; what is INVALID or emulated is not compared with anything."""
    places = grouped((figure for figure in facts.figures if figure.comparable), lambda figure: figure.place)
    if not places:
        bundle = facts.bundles[0]
        wanted = Missing("No latency to set against the sizes yet.", f"edgekit bench {bundle.folder}")
        return Section("trade-off", "Trade-offs", "", (wanted,))
    blocks: list[Block] = [block for place, figures in places.items() for block in _charts(place, figures)]
    rows = [row for place, figures in places.items() for row in _rows(place, figures)]
    headings = ["artifact", "where", ">latency", ">size", "on the frontier"]
    listing = table("Latency and size of each artifact", headings, rows)
    lead = "Left and below is better. The dashed line is the frontier: nothing here is both faster and smaller."
    return Section("trade-off", "Trade-offs", lead, (*blocks, listing))


def frontier(figures: Sequence[Figure]) -> list[Figure]:
    """Those that no other is both faster and smaller than, the fastest first."""
    best: list[Figure] = []
    for figure in sorted(figures, key=lambda each: (each.median_ms, each.entry.size)):
        if not best or figure.entry.size < best[-1].entry.size:
            best.append(figure)
    return best


def _charts(place: str, figures: Sequence[Figure]) -> Iterator[Chart]:
    dots = [_dot(figure) for figure in sorted(figures, key=lambda each: each.median_ms)]
    line = [_dot(figure) for figure in frontier(figures)]
    text = "; ".join(dot["said"] for dot in dots)
    yield chart(
        f"Latency and size with {place}",
        f"Dots: {text}.",
        lambda width: charts.trade_off(dots, line, ("ms", "MiB"), width),
    )


def _dot(figure: Figure) -> dict[str, Any]:
    return {
        "name": figure.label,
        "x": figure.median_ms,
        "y": figure.entry.size / (1 << 20),
        "colour": COLOURS[TONES[figure.side.measurement.verdict.level]],
        "said": f"{figure.label}: {milliseconds(figure.median_ms)}, {mebibytes(figure.entry.size)}",
    }


def _rows(place: str, figures: Sequence[Figure]) -> Iterator[list[Cell]]:
    best = frontier(figures)
    for figure in sorted(figures, key=lambda each: each.median_ms):
        yes = figure in best
        yield [
            Cell(figure.label),
            Cell(place),
            Cell(milliseconds(figure.median_ms), figure.median_ms),
            size(figure.entry.size),
            Cell("yes" if yes else "no", tone="good" if yes else ""),
        ]
