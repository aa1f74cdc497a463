"""Measuring two bundles on the way to a comparison."""

from collections.abc import Sequence
from pathlib import Path

import click

from edgekit.bench.profiles import choose_profile
from edgekit.bundle import read_manifest
from edgekit.cli.output import StageLines
from edgekit.measure import Bundle, Choice, check_storage, choose_settings, conclude, measure_bundles, store

TICKS = 1.0
"""How often the spinner moves in a second while something is measured."""


def measure_now(folders: Sequence[Path], profile_name: str, threads: tuple[int, ...], *, quiet: bool) -> None:
    """Measures bundles in turns and stores the figures in them.

    Raises:
        EdgekitError: An artifact is wrong, does not run, or the figures cannot be stored.
    """
    profile, choice = choose_profile(profile_name), Choice(choose_settings(threads, None))
    bundles = [Bundle(folder, read_manifest(folder)) for folder in folders]
    check_storage(bundles, None)
    command: tuple[str, ...] = click.get_current_context().meta["edgekit.command"]
    with StageLines(shown=not quiet, ticks=TICKS) as lines:
        outcome = measure_bundles(bundles, choice, profile, command, lines)
    if problem := conclude(outcome.problems):
        raise problem
    store(bundles, outcome.runs, None)
