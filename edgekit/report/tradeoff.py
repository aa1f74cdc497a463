"""What speed costs: each artifact's latency beside its size and its accuracy, and which of them no other beats."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from edgekit.report import charts
from edgekit.report.document import Cell, Chart, Missing, Section
from edgekit.report.drawing import chart
from edgekit.report.gather import Facts, Figure
from edgekit.report.latency import COLOURS, TONES, opened
from edgekit.report.wording import NONE, grouped, mebibytes, milliseconds, number, size, table

Cost = Callable[[Figure], float]
"""What is better the lower it is."""


def section(facts: Facts) -> Section:
    """The section; what is INVALID or emulated is not compared with anything."""
    places = grouped((figure for figure in facts.figures if figure.comparable), lambda figure: figure.place)
    if not places:
        bundle = facts.bundles[0]
        wanted = Missing("No latency to set against the sizes yet.", f"edgekit bench {bundle.folder}")
        return Section("trade-off", "Trade-offs", "", (wanted,))
    charts_of = {place: tuple(_charts(place, figures)) for place, figures in places.items()}
    rows = [row for place, figures in places.items() for row in _rows(place, figures)]
    headings = ["artifact", "where", ">latency", ">size", ">top-1", "on the frontier"]
    lead = (
        "The dashed line is the frontier: nothing measured with the same threads is both faster and smaller, or both "
        "faster and more accurate."
    )
    listing = table("Latency, size and accuracy of each artifact", headings, rows)
    return Section("trade-off", "Trade-offs", lead, (*opened(charts_of, "Trade-offs with"), listing))


def frontier(figures: Sequence[Figure], cost: Cost) -> list[Figure]:
    """Those that no other is both faster and cheaper than, the fastest first."""
    best: list[Figure] = []
    for figure in sorted(figures, key=lambda each: (each.median_ms, cost(each))):
        if not best or cost(figure) < cost(best[-1]):
            best.append(figure)
    return best


def _bytes(figure: Figure) -> float:
    return figure.entry.size


def _errors(figure: Figure) -> float:
    return -(figure.entry.top1 or 0.0)


def _charts(place: str, figures: Sequence[Figure]) -> Iterator[Chart]:
    ranked = sorted(figures, key=lambda each: each.median_ms)
    dots = [_dot(each, each.entry.size / (1 << 20), mebibytes(each.entry.size)) for each in ranked]
    yield _chart(f"Latency and size with {place}", "MiB", dots, frontier(ranked, _bytes), from_zero=True)
    known = [each for each in ranked if each.entry.top1 is not None]
    if known:
        dots = [_dot(each, each.entry.top1 or 0.0, f"top-1 {each.entry.top1:.2f} %") for each in known]
        best = frontier(known, _errors)
        yield _chart(f"Latency and accuracy with {place}", "top-1 in %", dots, best, from_zero=False)


def _chart(title: str, unit: str, dots: list[dict[str, Any]], best: Sequence[Figure], *, from_zero: bool) -> Chart:
    names = {figure.label for figure in best}
    line = [dot for dot in dots if dot["name"] in names]
    text = "; ".join(dot["said"] for dot in dots)
    return chart(
        title,
        f"Dots: {text}.",
        lambda width: charts.trade_off(dots, line, ("ms", unit), width, from_zero=from_zero),
    )


def _dot(figure: Figure, value: float, text: str) -> dict[str, Any]:
    return {
        "name": figure.label,
        "x": figure.median_ms,
        "y": value,
        "colour": COLOURS[TONES[figure.side.measurement.verdict.level]],
        "said": f"{figure.label}: {milliseconds(figure.median_ms)}, {text}",
    }


def _rows(place: str, figures: Sequence[Figure]) -> Iterator[list[Cell]]:
    known = [figure for figure in figures if figure.entry.top1 is not None]
    best = [*frontier(figures, _bytes), *frontier(known, _errors)]
    for figure in sorted(figures, key=lambda each: each.median_ms):
        yes = figure in best
        yield [
            Cell(figure.label),
            Cell(place),
            Cell(milliseconds(figure.median_ms), figure.median_ms),
            size(figure.entry.size),
            NONE if figure.entry.top1 is None else number(figure.entry.top1, ".2f", " %"),
            Cell("yes" if yes else "no", tone="good" if yes else ""),
        ]
