"""How fast each artifact is, and how steadily: the latest measurement of each in every place.

What is INVALID has no figure: it is named with its reasons, and enters no chart and no ratio. Ratios are over the
fastest trusted artifact of the same place, from pairs of rounds where both took turns.
"""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from edgekit.bench.compare import compare, setting_text
from edgekit.bench.markdown import latency_text, percentile_text
from edgekit.bench.record import Level, Measurement
from edgekit.report import charts, printed
from edgekit.report.document import Block, Cell, Chart, Fold, Missing, Section, Tone
from edgekit.report.drawing import SERIES, chart
from edgekit.report.gather import Facts, Figure
from edgekit.report.wording import NONE, grouped, milliseconds, plural, table

TONES: dict[Level, Tone] = {"TRUSTED": "good", "NOISY": "warn", "THROTTLED": "warn", "INVALID": "bad"}

ORDER: tuple[Level, ...] = ("TRUSTED", "NOISY", "THROTTLED", "INVALID")
"""Verdicts, the worst last."""

COLOURS: dict[Tone, str] = {"good": "var(--series-1)", "warn": "var(--warn)", "bad": "var(--bad)", "": "var(--quiet)"}

TICKS = 80
"""Of each distribution so many quantiles are drawn, evenly spread, whatever its length."""


def section(facts: Facts) -> Section:
    """The section, or what to run for it."""
    figures = facts.figures
    places = grouped(figures, lambda figure: figure.place)
    missing = [
        Missing(f"No latency of {bundle.name} yet.", f"edgekit bench {bundle.folder}")
        for bundle in facts.bundles
        if all(figure.entry.bundle != bundle.name for figure in figures)
    ]
    blocks = opened({place: tuple(_charts(place, members)) for place, members in places.items()}, "Latency with")
    if figures:
        blocks.append(_table(places))
    blocks.extend(printed.tables(facts))
    return Section("latency", "Latency", _lead(figures), (*blocks, *_reasons(figures), *missing))


def opened(charts_of: Mapping[str, Sequence[Block]], what: str) -> list[Block]:
    """The charts of the first place as they are, those of every other in a fold of its own."""
    first, *others = charts_of.items() if charts_of else (("", ()),)
    return [*first[1], *(Fold(f"{what} {place}", tuple(blocks)) for place, blocks in others if blocks)]


def _lead(figures: Sequence[Figure]) -> str:
    if not figures:
        return "Nothing was measured."
    levels = grouped(figures, lambda figure: figure.side.measurement.verdict.level)
    counts = ", ".join(f"{len(members)} {level}" for level, members in levels.items())
    emulated = " EMULATED figures are no figures of a board." if any(figure.emulated for figure in figures) else ""
    return (
        f"{plural(len(figures), 'figure')}: {counts}. Each is the median of the rounds' medians with its 95 % "
        f"interval; ratios are over the fastest trusted artifact, in pairs of rounds.{emulated}"
    )


def _charts(place: str, figures: Sequence[Figure]) -> Iterator[Chart]:
    ranked = sorted(figures, key=lambda figure: (not figure.comparable, figure.median_ms))
    shown = [figure for figure in ranked if figure.side.measurement.verdict.level != "INVALID"]
    if not shown:
        return
    bars = [_bar(figure) for figure in shown]
    text = "; ".join(f"{bar['name']} {bar['text']}" for bar in bars)
    yield chart(f"Median latency with {place}", f"Bars: {text}.", lambda width: charts.bars(bars, "ms", width))
    ticks = [tick for figure in shown for tick in _ticks(figure)]
    marks = [mark for figure in shown for mark in _marks(figure)]
    yield chart(
        f"How steady: each inference against its median, with {place}",
        "Spread: " + "; ".join(f"{mark['said']}" for mark in marks) + ".",
        lambda width: charts.strips(ticks, marks, "% of the median", width),
    )
    yield from _minutes(place, shown)


def _minutes(place: str, figures: Sequence[Figure]) -> Iterator[Chart]:
    """What long measurements came to, minute by minute, and the machine's clock and temperature where it tells."""
    long = [figure for figure in figures if len(figure.side.measurement.minutes) > 1][: len(SERIES)]
    labels = [figure.label for figure in long]
    rows = [row for figure in long for row in _minute_rows(figure)]
    for unit, title in (("ms", "Latency"), ("MHz", "Clock"), ("°C", "Temperature")):
        if held := [row for row in rows if row["unit"] == unit]:
            said = "; ".join(row["said"] for row in held)
            draw = partial(charts.lines, held, labels, ("minute", unit))
            yield chart(f"{title} minute by minute with {place}", f"{title}: {said}.", draw)


def _minute_rows(figure: Figure) -> Iterator[dict[str, Any]]:
    for each in figure.side.measurement.minutes:
        shared = {"name": figure.label, "x": each.minute + 1}
        told = (("ms", each.median_ms), ("MHz", each.clock_mhz), ("°C", each.temperature_c))
        for unit, value in told:
            if value is not None:
                said = f"{figure.label}, minute {each.minute + 1}: {value:.4g} {unit}"
                yield {**shared, "unit": unit, "y": value, "said": said}


def _bar(figure: Figure) -> dict[str, Any]:
    latency = figure.side.measurement.latency
    interval = latency.interval
    low, high = (interval.low, interval.high) if interval else (latency.median_ms, latency.median_ms)
    text = milliseconds(latency.median_ms)
    return {
        "name": figure.label,
        "value": latency.median_ms,
        "low": low,
        "high": high,
        "end": high,
        "text": text,
        "colour": COLOURS[TONES[figure.side.measurement.verdict.level]],
        "said": f"{figure.label}: {latency_text(figure.side.measurement)}, {plural(latency.runs, 'inference')}",
    }


def _samples(one: Measurement) -> list[float]:
    return [sample for taken in one.rounds for sample in taken.samples_ms]


def _ticks(figure: Figure) -> Iterator[dict[str, Any]]:
    samples = sorted(_samples(figure.side.measurement))
    drawn = samples if len(samples) <= TICKS else statistics.quantiles(samples, n=TICKS + 1)
    middle = statistics.median(samples)
    colour = COLOURS[TONES[figure.side.measurement.verdict.level]]
    for each in drawn:
        yield {"name": figure.label, "value": round(100 * (each / middle - 1), 3), "colour": colour}


def _marks(figure: Figure) -> Iterator[dict[str, Any]]:
    one = figure.side.measurement
    middle = statistics.median(_samples(one))
    shared = {"name": figure.label, "colour": COLOURS[TONES[one.verdict.level]]}
    yield {**shared, "value": 0.0, "what": "median", "said": f"{figure.label}: median {milliseconds(middle)}"}
    if (p90 := one.latency.percentiles.get("p90")) is not None:
        value = 100 * (p90 / middle - 1)
        said = f"{figure.label}: p90 {milliseconds(p90)}, {value:+.1f} %"
        yield {**shared, "value": value, "what": "p90", "said": said}


def _table(places: dict[str, list[Figure]]) -> Block:
    alone = len(places) == 1
    headings = ["artifact", *([] if alone else ["where"]), ">median", ">p90", ">ratio", ">first", ">load", "verdict"]
    rows = [
        [cell for index, cell in enumerate(_row(figure, _fastest(members))) if not (alone and index == 1)]
        for members in places.values()
        for figure in sorted(members, key=lambda each: (not each.comparable, each.median_ms))
    ]
    where = f" with {next(iter(places))}" if alone else ""
    return table(f"Latency of each artifact{where}", headings, rows)


def _fastest(figures: Sequence[Figure]) -> Figure | None:
    return min((figure for figure in figures if figure.trusted), key=lambda figure: figure.median_ms, default=None)


def _row(figure: Figure, fastest: Figure | None) -> list[Cell]:
    one = figure.side.measurement
    level = Cell(one.verdict.level, tone=TONES[one.verdict.level])
    name, where = Cell(figure.entry.label), Cell(figure.place)
    if one.verdict.level == "INVALID":
        return [name, where, *[NONE] * 5, level]
    p90 = one.latency.percentiles.get("p90")
    return [
        name,
        where,
        Cell(latency_text(one), one.latency.median_ms),
        NONE if p90 is None else Cell(percentile_text(one, "p90"), p90),
        _ratio(figure, fastest),
        Cell(milliseconds(one.first_ms), one.first_ms),
        Cell(milliseconds(one.load_ms), one.load_ms),
        level,
    ]


def _ratio(figure: Figure, fastest: Figure | None) -> Cell:
    if fastest is None or not figure.comparable:
        return NONE
    if figure is fastest:
        return Cell("1", 1.0)
    found = compare(fastest.side, figure.side)
    if found.ratio is None:
        return NONE
    interval = f" [{found.interval.low:.2f}, {found.interval.high:.2f}]" if found.interval else ""
    return Cell(f"{found.ratio:.2f}{interval}", found.ratio)


def _reasons(figures: Sequence[Figure]) -> Iterator[Fold]:
    """Why figures are not trusted, each reason once with all it speaks of, the worst first."""
    said: dict[tuple[Level, str], list[str]] = {}
    for figure in figures:
        one = figure.side.measurement
        for reason in one.verdict.reasons:
            name = f"{figure.entry.label} ({setting_text(one)})"
            said.setdefault((reason.level, reason.text), []).append(name)
    ranked = sorted(said.items(), key=lambda item: -ORDER.index(item[0][0]))
    rows = [
        [Cell(level, tone=TONES[level]), Cell("all" if len(names) == len(figures) else ", ".join(names)), Cell(text)]
        for (level, text), names in ranked
    ]
    if rows:
        title = "What speaks against figures"
        yield Fold(f"{title}: {plural(len(rows), 'reason')}", (table(title, ["verdict", "of", "reason"], rows),))
