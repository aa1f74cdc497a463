"""`edgekit verify`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgekit.cli.options import PATH, json_option

if TYPE_CHECKING:
    from edgekit.bundle import Manifest
    from edgekit.check import Verdict


@click.command()
@click.argument("bundle", type=PATH)
@json_option
def verify(bundle: Path, as_json: bool) -> None:
    """Check a BUNDLE: the hash of every file, and every artifact's outputs against the original model's.

    Needs no torch and no checkpoint: the bundle carries the inputs and the float64 outputs.
    """
    from edgekit.bundle import read_manifest
    from edgekit.check import check_bundle, conclude

    manifest = read_manifest(bundle)
    verdicts = check_bundle(bundle, manifest)
    if as_json:
        show_json(bundle, verdicts)
    else:
        show(manifest, verdicts)
        conclude(verdicts)


def show_json(bundle: Path, verdicts: "list[Verdict]") -> None:
    """Prints the verdicts and, in the same object, the error that decides the exit code."""
    from edgekit.check import conclude
    from edgekit.cli import Failure
    from edgekit.cli.output import print_json
    from edgekit.errors import EdgekitError

    content: dict[str, Any] = {"bundle": str(bundle), "artifacts": [as_row(verdict) for verdict in verdicts]}
    try:
        conclude(verdicts)
    except EdgekitError as error:
        failure = Failure(error, as_json=True)
        print_json({**content, "error": failure.as_record()})
        click.get_current_context().exit(failure.exit_code)
    print_json(content)


def as_row(verdict: "Verdict") -> dict[str, Any]:
    """A verdict for JSON."""
    problem = str(verdict.problem) if verdict.problem else None
    return {"artifact": verdict.name, "passed": verdict.problem is None, "problem": problem, "parity": verdict.parity}


def show(manifest: "Manifest", verdicts: "list[Verdict]") -> None:
    """Prints one row per artifact."""
    from edgekit.cli.output import console, decibels, table, verdict_text, weights_text
    from edgekit.verify import tightest

    listing = table(f"{manifest.model.name} for {manifest.target}", "artifact", ">SNR", ">required", "verdict")
    for verdict in verdicts:
        case = tightest(verdict.parity) if verdict.parity else None
        listing.add_row(
            verdict.name,
            decibels(case.parity.snr_db) if case else "",
            decibels(case.gate_db) if case else "",
            verdict_text(str(verdict.problem) if verdict.problem else None),
        )
    printer = console()
    printer.print(listing)
    printer.print(f"Weights: {weights_text(manifest.weights)}")
