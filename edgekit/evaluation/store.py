"""Evaluations beside the artifacts they are of: `accuracy/<time>.json` in a bundle, one file for each.

As with measurements, an evaluation belongs to the bytes that were evaluated: it survives an export that takes the
folder's place as long as one of its artifacts comes out byte for byte the same, and of a changed artifact it is never
shown.
"""

from collections.abc import Collection
from pathlib import Path

import msgspec
from msgspec import Struct

from edgekit.evaluation.record import SCHEMA_VERSION, Evaluation, Step
from edgekit.records import carry_records, new_place, read_record, write_record

FOLDER = "accuracy"


def write_evaluation(evaluation: Evaluation, bundle: Path) -> Path:
    """Writes an evaluation into a bundle and says where.

    Raises:
        OutputError: The bundle cannot be written.
    """
    return write_record(evaluation, new_place(bundle / FOLDER, evaluation.created))


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
    return read_record(path, Evaluation, SCHEMA_VERSION, "evaluate again with `edgekit eval`")


def carry_over(old: Path, new: Path, known: Collection[str]) -> None:
    """Copies the evaluations of a bundle that speak of one of these artifacts into the bundle that takes its place.

    Raises:
        OutputError: The new bundle cannot be written.
    """
    carry_records(old, new, FOLDER, _Outline, lambda outline: any(step.sha256 in known for step in outline.steps))


class _Step(Struct):
    sha256: str


class _Outline(Struct):
    """As much of an evaluation, of any version, as tells what was evaluated."""

    steps: tuple[_Step, ...]
