"""`edgekit profile`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgekit.cli.options import PATH, complete_formats, json_option

if TYPE_CHECKING:
    from rich.table import Table

    from edgekit.bench.ceiling_record import Ceiling
    from edgekit.bench.profile import SumRow
    from edgekit.bench.profile_record import ArtifactProfile, OperatorRow

VIEWS = ("module", "kind", "operator")

LEAST_MS = 0.01
"""Below ten times the resolution of the runtimes' clocks a share of the ceiling means nothing."""


@click.command()
@click.argument("bundle", type=PATH)
@click.option(
    "--format", "formats", multiple=True, shell_complete=complete_formats, help="Artifact to profile; repeatable."
)
@click.option(
    "--by",
    type=click.Choice(VIEWS),
    default="module",
    show_default=True,
    help="Sum by module of the network, by kind of kernel, or not at all.",
)
@click.option("--depth", type=click.IntRange(1), default=3, show_default=True, help="Parts of a module path to sum by.")
@click.option("--top", type=click.IntRange(1), default=40, show_default=True, help="Operators or kinds to show.")
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True, help="Threads to compute on.")
@click.option("--runs", type=click.IntRange(1), default=20, show_default=True, help="Runs that are measured.")
@click.option("-o", "--out", type=PATH, help="Write the profiles into this JSON file instead of into the bundle.")
@json_option
def profile(
    bundle: Path,
    formats: tuple[str, ...],
    by: str,
    depth: int,
    top: int,
    threads: int,
    runs: int,
    out: Path | None,
    as_json: bool,
) -> None:
    """Show where the time of a BUNDLE's artifacts goes, as each runtime's own profiler has it.

    Operators are tied to the modules of the network and compared with what this machine can do at most: the float32 or
    int8 rate of a large matrix product, or the bandwidth to memory, whichever allows less. The bundle keeps
    them for `edgekit report`.

    \b
    edgekit profile edgekit-out/parcnetv2_t-224-arm --format tflite
    edgekit profile edgekit-out/parcnetv2_t-224-arm --by kind --threads 2
    """
    from edgekit.bench.profile_bundle import profile_bundle, profile_run
    from edgekit.bench.store import write_profiles
    from edgekit.bundle import read_manifest
    from edgekit.cli.output import console, print_json
    from edgekit.measure import Bundle, check_storage, host_machine

    manifest = read_manifest(bundle)
    check_storage([Bundle(bundle, manifest)], out)
    command: tuple[str, ...] = click.get_current_context().meta["edgekit.command"]
    run = profile_run(profile_bundle(bundle, manifest, formats, threads, runs), host_machine(), command)
    place = write_profiles(run, bundle, out)
    found = [each.profile for each in run.measurements]
    if as_json:
        records = [as_record(each, depth) for each in found]
        print_json({"bundle": str(bundle), "profiles": records, "stored": str(place)})
        return
    for number, each in enumerate(found):
        show(each, by, depth, top, first=number == 0)
    console().print(f"\nStored:  {place}", soft_wrap=True)


def as_record(found: "ArtifactProfile", depth: int) -> dict[str, Any]:
    """A profile for JSON: everything measured, and the sums."""
    import msgspec

    from edgekit.bench.profile import by_kind, by_module

    record: dict[str, Any] = msgspec.to_builtins(found)
    return record | {
        "operators_ms": found.operators_ms,
        "outside_ms": found.outside_ms,
        "modules": by_module(found.operators, depth),
        "kinds": by_kind(found.operators),
    }


def show(found: "ArtifactProfile", by: str, depth: int, top: int, *, first: bool) -> None:
    """Prints one artifact's profile; the ceiling, which all share, before the first."""
    from edgekit.cli.output import console, styled

    printer = console()
    if first:
        printer.print(ceiling_text(found.ceiling))
    printer.print()
    threads = found.ceiling.threads
    printer.print(styled(found.artifact, "bold"), f"in {found.runtime}, {threads} thread{'s' if threads > 1 else ''}")
    printer.print(
        f"{found.latency_ms:.2f} ms a run (fastest {found.fastest_ms:.2f}), {found.profiled_ms:.2f} ms while profiled; "
        f"operators take {found.inside:.0%} of that. Medians of {found.runs} runs."
    )
    printer.print(listing(found, by, depth, top))


def ceiling_text(ceiling: "Ceiling") -> str:
    """The ceiling in a line."""
    bandwidths = ", ".join(f"{each.gbytes:.0f} at {binary(each.size)}" for each in ceiling.bandwidths)
    return (
        f"Ceiling: {ceiling.gmacs('fp32'):.0f} GMAC/s in float32, {ceiling.gmacs('int8'):.0f} in int8; "
        f"GB/s of memory: {bandwidths}"
    )


def binary(size: int) -> str:
    """Bytes in KiB or MiB."""
    return f"{size >> 20} MiB" if size >= 1 << 20 else f"{size >> 10} KiB"


def listing(found: "ArtifactProfile", by: str, depth: int, top: int) -> "Table":
    """The rows that were asked for, and what no operator takes."""
    from edgekit.bench.profile import OUTSIDE, by_kind, by_module
    from edgekit.cli.output import table

    more = ("kernel", "module") if by == "operator" else (">operators",)
    made = table("", by, *more, ">ms", ">share", ">MACs", ">GMAC/s", ">of the ceiling")
    rows: list[OperatorRow | SumRow]
    if by == "operator":
        rows = sorted(found.operators, key=lambda row: -row.ms)
    else:
        rows = [*(by_module(found.operators, depth) if by == "module" else by_kind(found.operators))]
    shown = rows if by == "module" else rows[:top]
    whole = found.operators_ms + found.outside_ms
    for row in shown:
        made.add_row(*cells(row, whole))
    if len(shown) < len(rows):
        rest = sum(row.ms for row in rows[top:])
        made.add_row(f"({len(rows) - top} more)", *("" for _ in more), f"{rest:.2f}", share(rest, whole))
    made.add_row(OUTSIDE, *("" for _ in more), f"{found.outside_ms:.2f}", share(found.outside_ms, whole))
    return made


def share(part: float, whole: float) -> str:
    """A part of the time; nothing where all of it is below the clock's resolution."""
    return f"{part / whole:.1%}" if whole else ""


def cells(row: "OperatorRow | SumRow", whole: float) -> tuple[str, ...]:
    """A row of the table."""
    from edgekit.bench.profile_record import OperatorRow
    from edgekit.cli.output import count

    about = (row.kind, row.module) if isinstance(row, OperatorRow) else (count(row.operators),)
    return (
        row.name,
        *about,
        f"{row.ms:.2f}" if row.ms >= LEAST_MS or not row.ms else f"<{LEAST_MS}",
        share(row.ms, whole),
        count(row.macs) if row.macs else "",
        f"{1e-6 * row.macs / row.ms:.1f}" if row.macs and row.ms >= LEAST_MS else "",
        f"{row.fastest_ms / row.ms:.0%}" if row.ms >= LEAST_MS else "",
    )
