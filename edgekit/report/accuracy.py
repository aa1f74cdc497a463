"""What each step from the trained network to an artifact costs in accuracy: the latest evaluation on every data set."""

import binascii
from base64 import b64decode
from collections.abc import Iterator
from typing import Any

from edgekit.errors import BundleError
from edgekit.evaluation.record import Evaluation, Step, Verdict
from edgekit.evaluation.wording import (
    VERDICTS,
    conclusions,
    drop_text,
    images_text,
    p_text,
    percent,
    snr_text,
    without_zero_sign,
)
from edgekit.report import charts
from edgekit.report.document import Block, Cell, Chart, Fold, Missing, Picture, Pictures, Section, Table, Text, Tone
from edgekit.report.drawing import chart
from edgekit.report.gather import BundleFacts, Facts
from edgekit.report.wording import NONE, code, number, plural, size, table

TONES: dict[Verdict, Tone] = {"over": "bad", "undecided": "warn", "within": "good", "alike": "good"}

PICTURED = 8
"""Images that are shown of those a step answers otherwise."""


def section(facts: Facts) -> Section:
    """The section, or what to run for it."""
    blocks: list[Block] = []
    for bundle in facts.bundles:
        found = bundle.evaluations
        blocks += [block for each in found for block in _evaluation(each, _called(bundle, each, facts))]
        if not found:
            command = f"edgekit eval {bundle.folder} --data FOLDER"
            blocks.append(Missing(f"No accuracy of {bundle.name} yet.", command))
    evaluated = any(bundle.evaluations for bundle in facts.bundles)
    lead = (
        "Every step saw the same images. A drop is in points of top-1 against the first step, with its 95 % interval; "
        "p is McNemar's exact test; a step is over the budget when its whole interval is."
    )
    return Section("accuracy", "Accuracy", lead if evaluated else "", tuple(blocks))


def _called(bundle: BundleFacts, evaluation: Evaluation, facts: Facts) -> str:
    return f"{bundle.name}, {evaluation.data.name}" if facts.several else evaluation.data.name


def _evaluation(evaluation: Evaluation, name: str) -> Iterator[Block]:
    if any(step.drop is not None for step in evaluation.steps):
        yield _waterfall(evaluation, name)
    yield _table(evaluation, name)
    yield from (Text(note, "warn") for note in evaluation.notes)
    for order, said in enumerate(conclusions(evaluation)):
        yield Text(said, "bad" if evaluation.blamed and order == 0 else "")
    for step in evaluation.steps:
        if step.per_class or step.flips:
            yield Fold(_changes(step, name), tuple(_details(step, name)))


def _waterfall(evaluation: Evaluation, name: str) -> Chart:
    rows = [_bar(step) for step in evaluation.steps if step.drop is not None or step.verdict == "first"]
    text = "; ".join(str(row["said"]) for row in rows)
    title = f"Points of top-1 against {evaluation.steps[0].name}, on {name}"
    budget = -evaluation.max_drop
    return chart(title, f"Bars: {text}.", lambda width: charts.waterfall(rows, budget, "points", width))


def _bar(step: Step) -> dict[str, Any]:
    drop = step.drop or 0.0
    low, high = step.interval or (drop, drop)
    colours = {"bad": "var(--bad)", "warn": "var(--warn)"}
    change = "" if step.drop is None else f", {without_zero_sign(-step.drop)} points"
    return {
        "name": step.name,
        "value": -drop,
        "low": -high,
        "high": -low,
        "text": percent(step.top1),
        "colour": colours.get(TONES.get(step.verdict, ""), "var(--series-1)"),
        "said": f"{step.name}: {percent(step.top1)}{change}",
    }


def _table(evaluation: Evaluation, name: str) -> Table:
    headings = ["step", ">size", ">top-1", ">top-5", ">drop", ">p", ">agreement", ">changed", ">SNR", "budget"]
    return table(f"Accuracy on {name}: {images_text(evaluation)}", headings, map(_row, evaluation.steps))


def _row(step: Step) -> list[Cell]:
    first = step.verdict == "first"
    return [
        code(step.name),
        NONE if step.size_bytes is None else size(step.size_bytes),
        _known(percent(step.top1), step.top1),
        _known(percent(step.top5), step.top5),
        _known(drop_text(step), step.drop),
        _known(p_text(step.p_value), step.p_value),
        _known(percent(step.agreement), step.agreement),
        NONE if first else number(step.changed),
        _known(snr_text(step.snr_db), step.snr_db),
        Cell(VERDICTS[step.verdict] or "–", tone=TONES.get(step.verdict, "")),
    ]


def _known(text: str, value: float | None) -> Cell:
    return NONE if value is None or not text else Cell(text, value)


def _changes(step: Step, name: str) -> str:
    return f"{step.name} answers {plural(step.changed, 'image')} of {name} otherwise"


def _details(step: Step, name: str) -> Iterator[Block]:
    title = _changes(step, name)
    if step.flips:
        shown = step.flips[:PICTURED]
        tiles = tuple(_thumbnail(flip.thumbnail) for flip in shown)
        yield Pictures(title, (Picture(step.name, f"{len(shown)} of {plural(step.changed, 'image')}", tiles),))
        rows = [
            [
                code(flip.image),
                Cell(flip.label or "–"),
                Cell(f"{flip.before} by {flip.margin_before:.2f}", flip.margin_before),
                Cell(f"{flip.after} by {flip.margin_after:.2f}", flip.margin_after),
                Cell(flip.kind, tone="bad" if flip.kind == "lost" else ""),
            ]
            for flip in step.flips
        ]
        yield table(title, ["image", "label", "before, by its margin", "after, by its margin", "kind"], rows)
    if step.per_class:
        yield _classes(step, name)


def _thumbnail(text: str) -> bytes:
    """A picture of an image.

    Raises:
        BundleError: It is none.
    """
    try:
        return b64decode(text, validate=True)
    except binascii.Error as error:
        raise BundleError(
            f"A picture in an evaluation is damaged ({error}). Remove the bundle's folder accuracy, and evaluate again."
        ) from error


def _classes(step: Step, name: str) -> Table:
    headings = ["class", ">images", ">lost", ">gained", ">top-1 before", ">top-1", ">drop"]
    rows = [
        [
            Cell(each.name),
            number(each.images),
            number(each.lost),
            number(each.gained),
            number(each.top1_before, ".1f", " %"),
            number(each.top1, ".1f", " %"),
            number(each.drop, ".1f"),
        ]
        for each in step.per_class
    ]
    return table(f"Classes of {name} in {step.name}", headings, rows)
