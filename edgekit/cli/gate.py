"""`edgekit gate`."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgekit.cli.options import PATH, Share, json_option, measuring_options

if TYPE_CHECKING:
    from edgekit.gate import Check


@click.command()
@click.argument("bundle", type=PATH)
@click.option("--baseline", type=PATH, required=True, help="The bundle it is held against.")
@click.option("--max-latency", type=Share(), default="+3%", show_default=True, help="Most that latency may add.")
@click.option("--max-memory", type=Share(), help="Most that peak memory may add, such as +5%.")
@click.option(
    "--max-drop", type=click.FloatRange(0), help="Most points of top-1 that may be lost, by `edgekit eval` of both."
)
@click.option(
    "--max-instructions",
    type=Share(),
    default="+0.5%",
    show_default=True,
    help="Most that executed instructions may add, where an emulated board counted both.",
)
@click.option("--junit", type=PATH, help="Write the checks into this file as JUnit XML.")
@measuring_options
@json_option
def gate(
    bundle: Path,
    baseline: Path,
    max_latency: float,
    max_memory: float | None,
    max_instructions: float,
    max_drop: float | None,
    junit: Path | None,
    measure: bool,
    profile_name: str,
    threads: tuple[int, ...],
    as_json: bool,
) -> None:
    """Fail when BUNDLE is slower, larger or less accurate than a baseline by more than is allowed.

    A latency fails when it is slower for certain and its best estimate is beyond the limit. Figures that are INVALID,
    or of two machines, decide nothing: the exit code is 3 then. Executed instructions are exact, and their
    limit alone decides.

    \b
    edgekit gate new --baseline old --max-latency +3% --measure --junit gate.xml
    edgekit bench old new --device qemu://armv7 && edgekit gate new --baseline old
    """
    from edgekit.cli.measuring import measure_now
    from edgekit.difference import difference
    from edgekit.gate import Limits, check_all, write_junit

    if measure:
        measure_now((baseline, bundle), profile_name, threads, quiet=as_json)
    found = difference(baseline, bundle)
    limits = Limits(latency=max_latency, memory=max_memory, instructions=max_instructions, drop=max_drop)
    checks = check_all(found, limits)
    if junit is not None:
        write_junit(checks, junit)
    show(checks, as_json=as_json)


def show(checks: "tuple[Check, ...]", *, as_json: bool) -> None:
    """Prints the checks, and ends with the error that decides the exit code."""
    from edgekit.cli import Failure
    from edgekit.cli.output import console, print_json, styled, table
    from edgekit.errors import CheckFailedError
    from edgekit.gate import conclude

    try:
        conclude(checks)
        error = None
    except CheckFailedError as problem:
        error = problem
    if as_json:
        record = {"error": Failure(error, as_json=True).as_record()} if error else {}
        print_json({"passed": error is None, "checks": checks, **record})
        click.get_current_context().exit(error.exit_code if error else 0)
    listing = table("Gate", "check", "figures", "verdict")
    for check in checks:
        verdict = styled("passed", "green") if check.passed else styled("FAILED", "bold red")
        listing.add_row(check.name, check.text, verdict if check.decided else styled("undecided", "yellow"))
    console().print(listing)
    if error:
        raise error
