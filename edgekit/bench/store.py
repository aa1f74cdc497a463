"""Measurements beside the artifacts they are of: `measurements/<time>.json` in a bundle, one file for each run.

A measurement belongs to the bytes that were measured, not to the folder: it survives an export that takes the folder's
place as long as one of its artifacts comes out byte for byte the same, and of a changed artifact it is never shown.
"""

import shutil
from collections.abc import Collection, Iterator
from pathlib import Path

import msgspec
from msgspec import Struct

from edgekit.bench.record import SCHEMA_VERSION, Run
from edgekit.errors import BundleError
from edgekit.files import output_errors, whole_file

FOLDER = "measurements"


def write_run(run: Run, bundle: Path) -> Path:
    """Writes a run into a bundle and says where.

    Raises:
        OutputError: The bundle cannot be written.
    """
    folder = bundle / FOLDER
    with output_errors(folder, "copy the bundle to a folder of your own"):
        folder.mkdir(exist_ok=True)
    path = free_name(folder, run.created.removesuffix("+00:00").replace(":", "-"))
    with whole_file(path, "copy the bundle to a folder of your own") as partial:
        partial.write_bytes(msgspec.json.format(msgspec.json.encode(run), indent=1) + b"\n")
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


def read_run(path: Path) -> Run:
    """Reads what `write_run` wrote.

    Raises:
        BundleError: It is damaged, or another version of edgekit wrote it.
    """
    try:
        content = path.read_bytes()
        version = msgspec.json.decode(content, type=_Head).schema_version
        if version != SCHEMA_VERSION:
            raise BundleError(
                f"{path} has schema version {version}; this edgekit reads {SCHEMA_VERSION}. Remove it, and measure "
                "again with `edgekit bench`."
            )
        return msgspec.json.decode(content, type=Run)
    except OSError as error:
        raise BundleError(f"{path} cannot be read: {error.strerror}. Check who may read it.") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BundleError(f"{path} is damaged: {error}. Remove it, and measure again with `edgekit bench`.") from error


def carry_over(old: Path, new: Path, known: Collection[str]) -> None:
    """Copies the runs of a bundle that measured one of these artifacts into the bundle that takes its place.

    Raises:
        OutputError: The new bundle cannot be written.
    """
    for path in _of_known(old, known):
        with output_errors(new):
            (new / FOLDER).mkdir(exist_ok=True)
            shutil.copyfile(path, new / FOLDER / path.name)


class _Head(Struct):
    schema_version: int


class _Subject(Struct):
    sha256: str


class _Measurement(Struct):
    subject: _Subject


class _Outline(Struct):
    """As much of a run, of any version, as tells what was measured."""

    measurements: tuple[_Measurement, ...]
    executions: tuple[_Measurement, ...] = ()


def _of_known(bundle: Path, known: Collection[str]) -> Iterator[Path]:
    for path in sorted((bundle / FOLDER).glob("*.json")):
        try:
            outline = msgspec.json.decode(path.read_bytes(), type=_Outline)
        except (OSError, msgspec.DecodeError, UnicodeDecodeError):  # a damaged file is no measurement of anything
            continue
        if any(each.subject.sha256 in known for each in (*outline.measurements, *outline.executions)):
            yield path
