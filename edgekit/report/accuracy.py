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
        of = f"{bundle.name}: " if facts.several else ""
        blocks += [block for each in bundle.evaluations for block in _evaluation(each, bundle, of)]
        if not bundle.evaluations:
            command = f"edgekit eval {bundle.folder} --data FOLDER"
            blocks.append(Missing(f"No accuracy of {bundle.name} yet.", command))
    evaluated = any(bundle.evaluations for bundle in facts.bundles)
    lead = (
        "Every step saw the same images. A drop is in points of top-1 against the first step, with its 95 % interval; "
        "p is McNemar's exact test; a step is over the budget when its whole interval is."
    )
    return Section("accuracy", "Accuracy", lead if evaluated else "", tuple(blocks))


def step_name(step: Step, bundle: BundleFacts) -> str:
    """A step as the report calls its artifact elsewhere."""
    return next((entry.label for entry in bundle.entries if entry.sha256 == step.sha256), step.name)


def _evaluation(evaluation: Evaluation, bundle: BundleFacts, of: str) -> Iterator[Block]:
    if any(step.drop is not None for step in evaluation.steps):
        yield _waterfall(evaluation, bundle, of)
    yield _table(f"{of}Accuracy on {images_text(evaluation)}", evaluation)
    yield from (Text(note, "warn") for note in evaluation.notes)
    for order, said in enumerate(conclusions(evaluation)):
        yield Text(said, "bad" if evaluation.blamed and order == 0 else "")
    for step in evaluation.steps:
        if step.per_class or step.flips:
            title = f"{of}{step.name} answers {plural(step.changed, 'image')} of {evaluation.data.name} otherwise"
            yield Fold(title, tuple(_details(step, title)))


def _waterfall(evaluation: Evaluation, bundle: BundleFacts, of: str) -> Chart:
    steps = [step for step in evaluation.steps if step.drop is not None or step.verdict == "first"]
    rows = [_bar(step, step_name(step, bundle)) for step in steps]
    text = "; ".join(str(row["said"]) for row in rows)
    title = f"{of}Points of top-1 against {evaluation.steps[0].name} on {evaluation.data.name}; dashed is the budget"
    budget = -evaluation.max_drop
    return chart(title, f"Bars: {text}.", lambda width: charts.waterfall(rows, budget, "points", width))


def _bar(step: Step, name: str) -> dict[str, Any]:
    drop = step.drop or 0.0
    low, high = step.interval or (drop, drop)
    colours = {"bad": "var(--bad)", "warn": "var(--warn)"}
    change = "" if step.drop is None else f", {without_zero_sign(-step.drop)} points"
    return {
        "name": name,
        "value": -drop,
        "low": -high,
        "high": -low,
        "end": max(-low, 0.0),
        "text": percent(step.top1),
        "colour": colours.get(TONES.get(step.verdict, ""), "var(--series-1)"),
        "said": f"{name}: {percent(step.top1)}{change}",
    }


def _table(title: str, evaluation: Evaluation) -> Table:
    headings = ["step", ">top-1", ">drop", "budget", ">p", ">changed", ">agreement", ">SNR", ">top-5", ">size"]
    return table(title, headings, map(_row, evaluation.steps))


def _row(step: Step) -> list[Cell]:
    return [
        code(step.name),
        _known(percent(step.top1), step.top1),
        _known(drop_text(step), step.drop),
        Cell(VERDICTS[step.verdict] or "–", tone=TONES.get(step.verdict, "")),
        _known(p_text(step.p_value), step.p_value),
        NONE if step.verdict == "first" else number(step.changed),
        _known(percent(step.agreement), step.agreement),
        _known(snr_text(step.snr_db), step.snr_db),
        _known(percent(step.top5), step.top5),
        NONE if step.size_bytes is None else size(step.size_bytes),
    ]


def _known(text: str, value: float | None) -> Cell:
    return NONE if value is None or not text else Cell(text, value)


def _details(step: Step, title: str) -> Iterator[Block]:
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
        yield _classes(step)


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


def _classes(step: Step) -> Table:
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
    return table(f"Classes in {step.name}", headings, rows)
