"""Records beside the artifacts they are of: JSON files in a folder of a bundle, one for each run.

A record belongs to the bytes that it speaks of, not to the bundle's folder. What it is, and which bytes those are, its
own store knows: `edgekit.bench.store` and `edgekit.evaluation.store`.
"""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import msgspec
from msgspec import Struct

from edgekit.errors import BundleError
from edgekit.files import output_errors, whole_file

OWN_COPY = "copy the bundle to a folder of your own"
"""What to do about a bundle that cannot be written."""

Record = TypeVar("Record", bound=Struct)
Outline = TypeVar("Outline", bound=Struct)


def new_place(folder: Path, created: str) -> Path:
    """Makes the folder and gives a name for a record of this time that no file has; runs may end within one second.

    Raises:
        OutputError: The folder cannot be made.
    """
    with output_errors(folder, OWN_COPY):
        folder.mkdir(exist_ok=True)
    stem = created.removesuffix("+00:00").replace(":", "-")
    path, number = folder / f"{stem}.json", 1
    while path.exists():
        number += 1
        path = folder / f"{stem}-{number}.json"
    return path


def write_record(record: Struct, path: Path) -> Path:
    """Writes a record and says where.

    Raises:
        OutputError: The place cannot be written.
    """
    with whole_file(path, OWN_COPY) as partial:
        partial.write_bytes(msgspec.json.format(msgspec.json.encode(record), indent=1) + b"\n")
    return path


def read_record(path: Path, kind: type[Record], known: int, advice: str) -> Record:
    """Reads a record of this schema version.

    Raises:
        BundleError: It is damaged, or another version of edgekit wrote it; `advice` makes it anew.
    """
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


def carry_records(old: Path, new: Path, folder: str, outline: type[Outline], wanted: Callable[[Outline], bool]) -> None:
    """Copies those records of a bundle that are wanted into the bundle that takes its place.

    Args:
        old: The bundle that goes.
        new: The bundle that comes.
        folder: The records' folder in both.
        outline: As much of a record, of any version, as tells whether it is wanted.
        wanted: Whether it is.

    Raises:
        OutputError: The new bundle cannot be written.
    """
    for path, found in _outlines(old / folder, outline):
        if wanted(found):
            with output_errors(new):
                (new / folder).mkdir(exist_ok=True)
                shutil.copyfile(path, new / folder / path.name)


def _outlines(folder: Path, outline: type[Outline]) -> Iterator[tuple[Path, Outline]]:
    for path in sorted(folder.glob("*.json")):
        try:
            yield path, msgspec.json.decode(path.read_bytes(), type=outline)
        except (OSError, msgspec.DecodeError, UnicodeDecodeError):  # a damaged file is a record of nothing
            continue


class _Head(Struct):
    schema_version: int
