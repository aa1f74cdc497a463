"""An evaluation as tables for a terminal."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from edgekit.bench.markdown import line_of
from edgekit.cli.output import WIDE, console, styled, table
from edgekit.evaluate import Outcome
from edgekit.evaluation.record import Evaluation, Step, Verdict
from edgekit.evaluation.wording import (
    SHOWN_CLASSES,
    VERDICTS,
    conclusions,
    drop_text,
    images_text,
    p_text,
    percent,
    size_text,
    snr_text,
)
from edgekit.kept_float import Kept
from edgekit.tuning.words import cost_text

COLOURS: Mapping[Verdict, str] = {"within": "green", "over": "bold red", "undecided": "yellow"}

SHOWN_FLIPS = 5

SHOWN_OPERATORS = 12


def print_evaluation(outcome: Outcome, latency: Mapping[str, str], kept: Sequence[Kept], place: Path) -> None:
    """Prints the waterfall, what follows from it, what changed, what stayed float, and where it is stored."""
    evaluation, printer = outcome.evaluation, console()
    printer.print()
    printer.print(waterfall_table(evaluation, latency, wide=printer.width >= WIDE))
    for text in (*evaluation.notes, *conclusions(evaluation)):
        printer.print(text, soft_wrap=True)
    for step in evaluation.steps:
        # Above the table and not its title, which would be broken into lines as narrow as the table.
        if step.flips:
            printer.print(
                styled(f"\nImages that {step.name} answers otherwise: {step.changed:,}", "bold"), soft_wrap=True
            )
            printer.print(flip_table(step))
        if step.per_class:
            printer.print(styled(f"\nClasses in {step.name}", "bold"), soft_wrap=True)
            printer.print(class_table(step))
    for each in kept:
        print_operators(printer, each)
    printer.print()
    for problem in outcome.problems:
        printer.print(styled(f"{problem.artifact}: ", "red"), str(problem.error), sep="", soft_wrap=True)
    printer.print(f"Images: {images_text(evaluation)}", soft_wrap=True)
    printer.print(f"Stored: {place}", soft_wrap=True)


def print_operators(printer: Console, found: Kept) -> None:
    """Prints what stayed float in an artifact, and which of its operators int8 costs most."""
    if found.kept:
        whole = f"{found.operators - found.quantized} of {found.operators}"
        printer.print(styled(f"\nStill float in {found.artifact}: {whole} operators", "bold"), soft_wrap=True)
        printer.print(kept_table(found))
    if found.ranking:
        printer.print(styled(f"\nOperators of {found.artifact}, each quantized alone", "bold"), soft_wrap=True)
        listing = table("", "operator", "kind", ">SNR", "precision", "reason")
        for each in found.ranking[:SHOWN_OPERATORS]:
            cells = (each.module or each.name, each.kind, snr_text(each.alone_db), each.precision, each.reason)
            listing.add_row(*cells)
        printer.print(listing)


def waterfall_table(evaluation: Evaluation, latency: Mapping[str, str], *, wide: bool) -> Table:
    """One row per step, the first over the budget in red."""
    measured = any(step.sha256 in latency for step in evaluation.steps)
    blamed = evaluation.blamed
    listing = table(
        f"Accuracy of {evaluation.model} on {evaluation.data.name}, at most {evaluation.max_drop:g} points lost",
        *("step", ">size", *((">latency",) if measured else ()), ">top-1", *((">top-5",) if wide else ())),
        *(">drop", *((">lost", ">gained", ">p") if wide else ()), ">agreement", ">SNR", "budget"),
    )
    for column in listing.columns[1:]:  # a figure is never broken into two lines
        column.no_wrap = True
    for step in evaluation.steps:
        answered = step.drop is not None
        counts = (str(step.lost), str(step.gained), p_text(step.p_value)) if answered else ("", "", "")
        listing.add_row(
            step.name,
            size_text(step.size_bytes),
            *((latency.get(step.sha256, ""),) if measured else ()),
            percent(step.top1),
            *((percent(step.top5),) if wide else ()),
            drop_text(step),
            *(counts if wide else ()),
            percent(step.agreement),
            snr_text(step.snr_db),
            verdict_text(step),
            style="red" if blamed is not None and step.name == blamed.name else None,
        )
    return listing


def verdict_text(step: Step) -> Text:
    """What a step makes of the budget, in its colour."""
    return styled(VERDICTS[step.verdict], COLOURS.get(step.verdict, ""))


def flip_table(step: Step) -> Table:
    """The images a step answers otherwise, the lost ones first."""
    listing = table("", *("image", "label", "before", ">margin", "after", ">margin", ""))
    for flip in step.flips[:SHOWN_FLIPS]:
        margins = f"{flip.margin_before:.2f}", f"{flip.margin_after:.2f}"
        listing.add_row(
            flip.image,
            flip.label or "",
            flip.before,
            margins[0],
            flip.after,
            margins[1],
            flip.kind.replace("other", ""),
        )
    return listing


def class_table(step: Step) -> Table:
    """The classes that lost most."""
    listing = table("", "class", ">images", ">lost", ">gained", ">before", ">top-1", ">drop")
    for each in step.per_class[:SHOWN_CLASSES]:
        counts = (str(each.images), str(each.lost), str(each.gained))
        listing.add_row(each.name, *counts, percent(each.top1_before), percent(each.top1), f"{each.drop:.2f}")
    return listing


def kept_table(found: Kept) -> Table:
    """The operators that stayed float, the longest first, with the reason."""
    headings, *rows = kept_rows(found)
    listing = table("", *headings)
    for row in rows:
        listing.add_row(*row)
    return listing


def kept_rows(found: Kept) -> Iterator[tuple[str, ...]]:
    """Headings, `>` before those of figures, and a row for each operator that stayed float, as many as are shown."""
    known = any(each.added is not None for each in found.kept)
    added = (">int8 adds",) if known else ()
    yield ("operator", "kind", "reason", ">work", *added, *((">ms", ">share") if found.timed else ()))
    for each in found.kept[:SHOWN_OPERATORS]:
        times = ("", "") if each.ms is None else (f"{each.ms:.3f}", f"{each.ms_share or 0:.1%}")
        cells = (each.module or each.name, each.kind, each.reason, f"{each.macs_share:.1%}")
        cost = ("" if each.added is None else cost_text(each.added, each.unit),) if known else ()
        yield (*cells, *cost, *(times if found.timed else ()))
    if (rest := len(found.kept) - SHOWN_OPERATORS) > 0:
        yield (f"({rest} more)",)


def kept_markdown(found: Kept) -> str:
    """The same as Markdown; empty where nothing stayed float."""
    if not found.kept:
        return ""
    headings, *rows = kept_rows(found)
    title = f"Still float in `{found.artifact}`: {found.operators - found.quantized} of {found.operators} operators"
    rule = ["--:" if heading.startswith(">") else "---" for heading in headings]
    lines = [[heading.lstrip(">") for heading in headings], rule, *rows]
    return "\n".join(["", title, "", *map(line_of, lines), ""])
