"""Measurements beside the artifacts they are of: `measurements/<time>.json` in a bundle, one file for each run.

Profiles are kept the same way, in `profiles/`.

A measurement belongs to the bytes that were measured, not to the folder: it survives an export that takes the folder's
place as long as one of its artifacts comes out byte for byte the same, and of a changed artifact it is never shown.
"""

import shutil
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TypeVar

import msgspec
from msgspec import Struct

from edgekit.bench.profile_record import PROFILE_SCHEMA_VERSION, ProfileRun
from edgekit.bench.record import SCHEMA_VERSION, Run
from edgekit.errors import BundleError
from edgekit.files import output_errors, whole_file

FOLDER = "measurements"
PROFILES = "profiles"

OWN_COPY = "copy the bundle to a folder of your own"
"""What to do about a bundle that cannot be written."""

Record = TypeVar("Record", Run, ProfileRun)


def write_run(run: Run, bundle: Path) -> Path:
    """Writes a run into a bundle and says where.

    Raises:
        OutputError: The bundle cannot be written.
    """
    return _write(run, _place(run, bundle / FOLDER))


def write_profiles(run: ProfileRun, bundle: Path, out: Path | None = None) -> Path:
    """Writes profiles into a bundle, or into a file of the user's choice, and says where.

    Raises:
        OutputError: The place cannot be written.
    """
    return _write(run, out or _place(run, bundle / PROFILES))


def _place(record: Run | ProfileRun, folder: Path) -> Path:
    with output_errors(folder, OWN_COPY):
        folder.mkdir(exist_ok=True)
    return free_name(folder, record.created.removesuffix("+00:00").replace(":", "-"))


def _write(record: Run | ProfileRun, path: Path) -> Path:
    with whole_file(path, OWN_COPY) as partial:
        partial.write_bytes(msgspec.json.format(msgspec.json.encode(record), indent=1) + b"\n")
    return path


def free_name(folder: Path, stem: str) -> Path:
    """A name that no file of the folder has; runs may end within one second."""
    path, number = folder / f"{stem}.json", 1
    while path.exists():
        number += 1
        path = folder / f"{stem}-{number}.json"
    return path


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
        )
        for run in runs
    ]
    return sorted(
        (run for run in kept if run.measurements or run.executions), key=lambda run: run.created, reverse=True
    )


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
    return _read(path, Run, SCHEMA_VERSION, "measure again with `edgekit bench`")


def read_profile(path: Path) -> ProfileRun:
    """Reads what `write_profiles` wrote.

    Raises:
        BundleError: It is damaged, or another version of edgekit wrote it.
    """
    return _read(path, ProfileRun, PROFILE_SCHEMA_VERSION, "profile again with `edgekit profile`")


def _read(path: Path, kind: type[Record], known: int, advice: str) -> Record:
    try:
        content = path.read_bytes()
        version = msgspec.json.decode(content, type=_Head).schema_version
        if version != known:
            raise BundleError(
                f"{path} has schema version {version}; this edgekit reads {known}. Remove it, and {advice}."
            )
        return msgspec.json.decode(content, type=kind)
    except OSError as error:
        raise BundleError(f"{path} cannot be read: {error.strerror}. Check who may read it.") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BundleError(f"{path} is damaged: {error}. Remove it, and {advice}.") from error


def carry_over(old: Path, new: Path, known: Collection[str]) -> None:
    """Copies the runs and profiles of a bundle that are of these artifacts into the bundle that takes its place.

    Raises:
        OutputError: The new bundle cannot be written.
    """
    for path in _of_known(old, known):
        with output_errors(new):
            (new / path.parent.name).mkdir(exist_ok=True)
            shutil.copyfile(path, new / path.parent.name / path.name)


class _Head(Struct):
    schema_version: int


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


def _of_known(bundle: Path, known: Collection[str]) -> Iterator[Path]:
    for path in sorted(path for folder in (FOLDER, PROFILES) for path in (bundle / folder).glob("*.json")):
        try:
            outline = msgspec.json.decode(path.read_bytes(), type=_Outline)
        except (OSError, msgspec.DecodeError, UnicodeDecodeError):  # a damaged file is no measurement of anything
            continue
        if any((each.subject or each).sha256 in known for each in (*outline.measurements, *outline.executions)):
            yield path
