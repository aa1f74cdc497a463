"""`edgekit diff`."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgekit.cli.options import PATH, json_option, measuring_options

if TYPE_CHECKING:
    from edgekit.difference import ArtifactDifference, Difference


@click.command()
@click.argument("first", metavar="A", type=PATH)
@click.argument("second", metavar="B", type=PATH)
@measuring_options
@json_option
def diff(first: Path, second: Path, measure: bool, profile_name: str, threads: tuple[int, ...], as_json: bool) -> None:
    """Show what tells bundle B from bundle A: graph, weights, parity, accuracy, latency, memory and tools.

    Latencies are those of the latest run in which both took turns, else of the latest two of one machine in one state.

    \b
    edgekit diff before after --measure
    """
    from edgekit.cli.measuring import measure_now
    from edgekit.cli.output import print_json
    from edgekit.difference import difference

    if measure:
        measure_now((first, second), profile_name, threads, quiet=as_json)
    found = difference(first, second)
    print_json({"difference": found}) if as_json else show(found)


def show(found: "Difference") -> None:
    """Prints the facts that differ, the artifacts beside each other, and the conclusion."""
    from edgekit.cli.output import console, table

    printer = console()
    if found.facts or found.unmatched:
        facts = table("What differs", "", found.first, found.second)
        for both in (*found.facts, *found.unmatched):
            facts.add_row(both.what, both.first or "none", both.second or "none")
        printer.print(facts)
        printer.print()
    listing = table("Artifacts", "artifact", "", f">{found.first}", f">{found.second}", ">B over A")
    for one in found.artifacts:
        for row in artifact_rows(one):
            listing.add_row(*row)
    printer.print(listing)
    for one in found.artifacts:
        reasons = [*(each.comparison.obstacles for each in one.latency), *(each.obstacles for each in one.executed)]
        for obstacle in dict.fromkeys(text for texts in reasons for text in texts):
            printer.print(f"{one.name}: {obstacle}", soft_wrap=True)
    printer.print(f"\n{found.conclusion}", style="bold", soft_wrap=True)


def artifact_rows(one: "ArtifactDifference") -> list[tuple[str, ...]]:
    """Size, program, parity, latency and memory of two artifacts; the first row has their name."""
    from edgekit.bench.compare import setting_text
    from edgekit.bench.fleet_rows import executed_text
    from edgekit.bench.markdown import latency_text, peak_text, verdict_mark
    from edgekit.cli.output import count, decibels, mebibytes

    rows = [
        ("bytes", *map(mebibytes, one.size_bytes), "identical" if one.identical else quotient(*one.size_bytes)),
        ("operators", *(count(each.operators) for each in one.program), ""),
        ("MACs", *(count(each.macs) for each in one.program), quotient(*(each.macs for each in one.program))),
        ("parity", *map(decibels, one.snr_db), ""),
    ]
    if one.accuracy is not None:
        low, high = one.accuracy.interval
        shown = [f"{value:.2f} %" for value in one.accuracy.top1]
        lost = f"{-one.accuracy.drop:+.2f} [{-high:+.2f}, {-low:+.2f}] points"
        rows.append((f"top-1 on {one.accuracy.data}", *shown, lost))
    for each in one.latency:
        shown = [f"{latency_text(side)}{verdict_mark(side)}" for side in (each.first, each.second)]
        rows.append((f"latency, {setting_text(each.first)}", *shown, each.comparison.text))
        if each.together and each.first.memory and each.second.memory:
            peaks = peak_text(each.first.memory), peak_text(each.second.memory)
            sizes = each.first.memory.peak_rss_bytes, each.second.memory.peak_rss_bytes
            rows.append(("memory", *peaks, quotient(*sizes)))
    for tally in one.executed:
        counts = [executed_text(side) for side in (tally.first, tally.second)]
        ratio = "" if tally.ratio is None else f"{tally.ratio:.4f}"
        rows.append((f"{tally.device} (EMULATED)", counts[0], counts[1], ratio))
    return [(one.name if number == 0 else "", *row) for number, row in enumerate(rows)]


def quotient(first: int, second: int) -> str:
    """The second over the first."""
    return f"{second / first:.3f}" if first else ""
