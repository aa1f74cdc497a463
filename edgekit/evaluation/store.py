"""Evaluations beside the artifacts they are of: `accuracy/<time>.json` in a bundle, one file for each.

As with measurements, an evaluation belongs to the bytes that were evaluated: it survives an export that takes the
folder's place as long as one of its artifacts comes out byte for byte the same, and of a changed artifact it is never
shown.
"""

import shutil
from collections.abc import Collection, Iterator
from pathlib import Path

import msgspec
from msgspec import Struct

from edgekit.errors import BundleError
from edgekit.evaluation.record import SCHEMA_VERSION, Evaluation, Step
from edgekit.files import output_errors, whole_file

FOLDER = "accuracy"

ADVICE = "copy the bundle to a folder of your own"

AGAIN = "Remove it, and evaluate again with `edgekit eval`."


def write_evaluation(evaluation: Evaluation, bundle: Path) -> Path:
    """Writes an evaluation into a bundle and says where.

    Raises:
        OutputError: The bundle cannot be written.
    """
    folder = bundle / FOLDER
    with output_errors(folder, ADVICE):
        folder.mkdir(exist_ok=True)
    stem = evaluation.created.removesuffix("+00:00").replace(":", "-")
    names = (f"{stem}{number}.json" for number in ("", *(f"-{count}" for count in range(2, 10_000))))
    path = next(folder / name for name in names if not (folder / name).exists())  # several may end within a second
    with whole_file(path, ADVICE) as partial:
        partial.write_bytes(msgspec.json.format(msgspec.json.encode(evaluation), indent=1) + b"\n")
    return path


def read_evaluations(bundle: Path, known: Collection[str]) -> list[Evaluation]:
    """The evaluations of a bundle, the latest first, with the steps of these artifacts and of torch's networks only.

    Args:
        bundle: The folder.
        known: SHA-256 of the artifacts whose evaluations count.

    Raises:
        BundleError: A file is damaged, or another version of edgekit wrote it.
    """
    read = [read_evaluation(path) for path in sorted((bundle / FOLDER).glob("*.json"))]
    found = [_limited(each, known) for each in read if _speaks_of(each.steps, known)]
    return sorted(found, key=lambda each: each.created, reverse=True)


def _limited(evaluation: Evaluation, known: Collection[str]) -> Evaluation:
    # The first step stays even where it is of an artifact that is gone: it is what the others were compared with.
    kept = [step for step in evaluation.steps if _is_torch(step) or step.sha256 in known or step.verdict == "first"]
    return msgspec.structs.replace(evaluation, steps=tuple(kept))


def _speaks_of(steps: Collection[Step], known: Collection[str]) -> bool:
    return any(step.sha256 in known for step in steps)


def _is_torch(step: Step) -> bool:
    return step.format == ""


def read_evaluation(path: Path) -> Evaluation:
    """Reads what `write_evaluation` wrote.

    Raises:
        BundleError: It is damaged, or another version of edgekit wrote it.
    """
    try:
        content = path.read_bytes()
        version = msgspec.json.decode(content, type=_Head).schema_version
        if version != SCHEMA_VERSION:
            raise BundleError(f"{path} has schema version {version}; this edgekit reads {SCHEMA_VERSION}. {AGAIN}")
        return msgspec.json.decode(content, type=Evaluation)
    except OSError as error:
        raise BundleError(f"{path} cannot be read: {error.strerror}. Check who may read it.") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BundleError(f"{path} is damaged: {error}. {AGAIN}") from error


def carry_over(old: Path, new: Path, known: Collection[str]) -> None:
    """Copies the evaluations of a bundle that speak of one of these artifacts into the bundle that takes its place.

    Raises:
        OutputError: The new bundle cannot be written.
    """
    for path in _of_known(old, known):
        with output_errors(new):
            (new / FOLDER).mkdir(exist_ok=True)
            shutil.copyfile(path, new / FOLDER / path.name)


class _Head(Struct):
    schema_version: int


class _Step(Struct):
    sha256: str


class _Outline(Struct):
    """As much of an evaluation, of any version, as tells what was evaluated."""

    steps: tuple[_Step, ...]


def _of_known(bundle: Path, known: Collection[str]) -> Iterator[Path]:
    for path in sorted((bundle / FOLDER).glob("*.json")):
        try:
            outline = msgspec.json.decode(path.read_bytes(), type=_Outline)
        except (OSError, msgspec.DecodeError, UnicodeDecodeError):  # a damaged file speaks of nothing
            continue
        if any(step.sha256 in known for step in outline.steps):
            yield path
