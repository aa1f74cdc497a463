"""Measurements as tables for a terminal."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from edgekit.bench.compare import Side, names, setting_text
from edgekit.bench.fastest import fastest_lines
from edgekit.bench.fleet_rows import EMULATED, FIGURES, fleet_rows, footnotes, tabulated
from edgekit.bench.markdown import (
    digits,
    latency_text,
    machine_text,
    memory_text,
    peak_text,
    percentile_text,
    ratio_text,
    remarks,
)
from edgekit.bench.record import Level, Measurement
from edgekit.cli.output import WIDE, console, styled, table
from edgekit.measure import Outcome, Problem, Skipped

COLOURS: Mapping[Level, str] = MappingProxyType(
    {"TRUSTED": "green", "NOISY": "yellow", "THROTTLED": "magenta", "INVALID": "bold red"}
)

FLEET_COLOURS: Mapping[str, str] = MappingProxyType({**dict[str, str](COLOURS.items()), EMULATED: "cyan"})

Cell = Callable[[Measurement], str]
"""A measurement to what a column says about it."""


def print_figures(outcome: Outcome, places: Sequence[Path]) -> None:
    """Prints all figures of one measuring, the reasons of every verdict, and where they are stored."""
    sides = [Side(run, each) for run in outcome.runs for each in run.measurements]
    printer = console()
    if sides:
        printer.print()
        printer.print(figure_table(sides, wide=printer.width >= WIDE))
        print_reasons(printer, sides)
        print_minutes(printer, sides)
        for line in fastest_lines(sides):
            printer.print(f"\n{line}", style="bold", soft_wrap=True)
        run = sides[0].run
        printer.print(f"\nMachine: {machine_text(run)}", soft_wrap=True)
        runtimes = dict.fromkeys(
            f"{side.measurement.subject.runtime} {side.measurement.subject.runtime_version}" for side in sides
        )
        printer.print(f"Runtimes: {', '.join(runtimes)}", soft_wrap=True)
        printer.print(f"Profile: {run.profile.name}: {run.profile.summary}", soft_wrap=True)
    print_ends(printer, outcome, places)


def print_ends(printer: Console, outcome: Outcome, places: Sequence[Path]) -> None:
    """Prints what has no figures, and where the others are stored."""
    for problem in outcome.problems:
        who = problem.artifact or problem.device
        printer.print(styled(f"{who}: ", "red"), str(problem.error), sep="", soft_wrap=True)
    for each in outcome.skipped:
        printer.print(styled(f"{each.artifact} left out: ", "yellow"), each.reason, sep="", soft_wrap=True)
    for path in places:
        printer.print(f"Stored:  {path}", soft_wrap=True)


def print_fleet(outcome: Outcome, places: Sequence[Path]) -> None:
    """Prints the figures of several devices in one table, and what has to be known about them."""
    printer, rows = console(), fleet_rows(outcome.runs)
    if rows:
        narrow = printer.width < WIDE
        if narrow:
            rows = [replace(row, memory=row.memory.partition(" = ")[0]) for row in rows]
        headings, cells = tabulated(rows, without=("runtime", "SNR") if narrow else ())
        shown = table("Devices", *(f">{name}" if name in FIGURES else name for name in headings))
        for *row, verdict in cells:
            shown.add_row(*row, styled(verdict, FLEET_COLOURS[verdict]))
        printer.print()
        printer.print(shown)
        printer.print()
        for text in footnotes(outcome.runs):
            printer.print(f"- {text}", soft_wrap=True)
    print_ends(printer, outcome, places)


def figure_table(sides: Sequence[Side], *, wide: bool) -> Table:
    """One row per artifact and setting, with the columns that differ or fit; ratios are over the first row."""
    settings = {setting_text(side.measurement) for side in sides}
    batches = any(side.measurement.subject.batch > 1 for side in sides)
    alone = f", {settings.pop()}" if len(settings) == 1 else ""
    before: tuple[tuple[str, Cell, bool], ...] = (
        ("runtime", lambda one: one.subject.runtime, wide),
        ("threads", setting_text, bool(settings)),
        (">batch", lambda one: str(one.subject.batch), batches),
        (">images/s", lambda one: f"{1e3 * one.subject.batch / one.latency.median_ms:.1f}", batches),
        (">median", latency_text, True),
        (">p90", lambda one: percentile_text(one, "p90"), wide),
    )
    after: tuple[tuple[str, Cell, bool], ...] = (
        (">load", lambda one: f"{one.load_ms:.0f} ms", wide),
        (">first", lambda one: f"{one.first_ms:.1f} ms", wide),
        (">memory (runtime + load + run)", lambda one: memory_text(one.memory), wide),
        (">memory", lambda one: peak_text(one.memory), not wide),
    )
    left = [(heading, cell) for heading, cell, shown in before if shown]
    right = [(heading, cell) for heading, cell, shown in after if shown]
    title = f"Latency and memory{alone}, profile {sides[0].run.profile.name}"
    listing = table(title, "artifact", *(name for name, _ in left), ">ratio", *(name for name, _ in right), "verdict")
    for column in listing.columns:  # a figure is never broken into two lines; a name may be, where it is long
        column.no_wrap = column is not listing.columns[0]
    for name, side in zip(names(sides), sides, strict=True):
        one = side.measurement
        cells = [*(cell(one) for _, cell in left), ratio_text(side, sides[0]), *(cell(one) for _, cell in right)]
        listing.add_row(name, *cells, level_text(one.verdict.level))
    return listing


def level_text(level: Level) -> Text:
    """A verdict in its colour."""
    return styled(level, COLOURS[level])


def print_reasons(printer: Console, sides: Sequence[Side]) -> None:
    """Prints why figures are not trusted, each reason once, and what nobody could see."""
    for remark in remarks(sides):
        who = f"{', '.join(remark.names)}: " if remark.names else ""
        printer.print(styled(f"  {remark.level} ", COLOURS[remark.level]), who, remark.text, sep="", soft_wrap=True)
    unseen = dict.fromkeys(name for side in sides for name in side.measurement.verdict.unseen)
    if unseen:
        printer.print(styled(f"  This machine does not tell its {' and '.join(unseen)}.", "dim"), soft_wrap=True)


def print_minutes(printer: Console, sides: Sequence[Side]) -> None:
    """Prints long measurements minute by minute."""
    for name, one in zip(names(sides), (side.measurement for side in sides), strict=True):
        if not one.minutes:
            continue
        listing = table(f"\n{name}, minute by minute", ">minute", ">median", ">clock", ">temperature")
        for each in one.minutes:
            clock = "" if each.clock_mhz is None else f"{each.clock_mhz:.0f} MHz"
            temperature = "" if each.temperature_c is None else f"{each.temperature_c:.1f} °C"
            median = f"{each.median_ms:.{digits(each.median_ms)}f} ms"
            listing.add_row(str(each.minute + 1), median, clock, temperature)
        printer.print(listing)


def problem_rows(problems: Sequence[Problem]) -> list[dict[str, Any]]:
    """Problems for JSON."""
    return [
        {
            "device": problem.device,
            "bundle": None if problem.bundle is None else str(problem.bundle),
            "artifact": problem.artifact,
            "setting": problem.setting,
            "kind": type(problem.error).__name__,
            "message": str(problem.error),
        }
        for problem in problems
    ]


def skipped_rows(skipped: Sequence[Skipped]) -> list[dict[str, str]]:
    """Artifacts that a device does not run, for JSON."""
    return [{**asdict(each), "bundle": str(each.bundle)} for each in skipped]
