"""Measurements beside the artifacts they are of: `measurements/<time>.json` in a bundle, one file for each run.

Profiles are kept the same way, in `profiles/`.

A measurement belongs to the bytes that were measured, not to the folder: it survives an export that takes the folder's
place as long as one of its artifacts comes out byte for byte the same, and of a changed artifact it is never shown.
"""

from collections.abc import Collection
from pathlib import Path

import msgspec
from msgspec import Struct

from edgekit.bench.profile_record import PROFILE_SCHEMA_VERSION, ProfileRun
from edgekit.bench.record import SCHEMA_VERSION, Run
from edgekit.records import carry_records, new_place, read_record, write_record

FOLDER = "measurements"
PROFILES = "profiles"


def write_run(run: Run, bundle: Path) -> Path:
    """Writes a run into a bundle and says where.

    Raises:
        OutputError: The bundle cannot be written.
    """
    return write_record(run, new_place(bundle / FOLDER, run.created))


def write_profiles(run: ProfileRun, bundle: Path, out: Path | None = None) -> Path:
    """Writes profiles into a bundle, or into a file of the user's choice, and says where.

    Raises:
        OutputError: The place cannot be written.
    """
    return write_record(run, out or new_place(bundle / PROFILES, run.created))


def read_runs(bundle: Path, known: Collection[str]) -> list[Run]:
    """The runs of a bundle, the latest first, with the measurements of these artifacts only.

    Args:
        bundle: The folder.
        known: SHA-256 of the artifacts whose measurements count.

    Raises:
        BundleError: A file is damaged, or another version of edgekit wrote it.
    """
    runs = [read_run(path) for path in sorted((bundle / FOLDER).glob("*.json"))]
    kept = [
        msgspec.structs.replace(
            run,
            measurements=tuple(each for each in run.measurements if each.subject.sha256 in known),
            executions=tuple(each for each in run.executions if each.subject.sha256 in known),
            printed=tuple(each for each in run.printed if each.subject.sha256 in known),
        )
        for run in runs
    ]
    return sorted((run for run in kept if not run.empty), key=lambda run: run.created, reverse=True)


def read_profiles(bundle: Path, known: Collection[str]) -> list[ProfileRun]:
    """The profiles of a bundle, the latest first, of these artifacts only; see `read_runs`."""
    runs = [read_profile(path) for path in sorted((bundle / PROFILES).glob("*.json"))]
    kept = [
        msgspec.structs.replace(run, measurements=tuple(each for each in run.measurements if each.sha256 in known))
        for run in runs
    ]
    return sorted((run for run in kept if run.measurements), key=lambda run: run.created, reverse=True)


def read_run(path: Path) -> Run:
    """Reads what `write_run` wrote.

    Raises:
        BundleError: It is damaged, or another version of edgekit wrote it.
    """
    return read_record(path, Run, SCHEMA_VERSION, "measure again with `edgekit bench`")


def read_profile(path: Path) -> ProfileRun:
    """Reads what `write_profiles` wrote.

    Raises:
        BundleError: It is damaged, or another version of edgekit wrote it.
    """
    return read_record(path, ProfileRun, PROFILE_SCHEMA_VERSION, "profile again with `edgekit profile`")


def carry_over(old: Path, new: Path, known: Collection[str]) -> None:
    """Copies the runs and profiles of a bundle that are of these artifacts into the bundle that takes its place.

    Raises:
        OutputError: The new bundle cannot be written.
    """
    for folder in (FOLDER, PROFILES):
        carry_records(old, new, folder, _Outline, lambda outline: _is_of(outline, known))


class _Subject(Struct):
    sha256: str


class _Measurement(Struct):
    """A measurement has its artifact in the subject, a profile beside itself."""

    subject: _Subject | None = None
    sha256: str | None = None


class _Outline(Struct):
    """As much of a run, of any version, as tells what was measured."""

    measurements: tuple[_Measurement, ...]
    executions: tuple[_Measurement, ...] = ()
    printed: tuple[_Measurement, ...] = ()


def _is_of(outline: _Outline, known: Collection[str]) -> bool:
    return any(
        (each.subject or each).sha256 in known
        for each in (*outline.measurements, *outline.executions, *outline.printed)
    )
