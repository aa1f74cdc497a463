"""An evaluation as Markdown, for a comment or a page."""

from collections.abc import Iterator, Mapping, Sequence

from edgekit.evaluation.record import Evaluation, Step
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

HEADINGS = ("step", "size", "latency", "top-1", "top-5", "drop", "p", "agreement", "SNR", "budget")


def markdown(evaluation: Evaluation, latency: Mapping[str, str]) -> str:
    """The waterfall, what follows from it, and the images and classes that changed.

    Args:
        evaluation: What to print.
        latency: SHA-256 of an artifact to its latency in words, where it is known.
    """
    rows = [_row(step, evaluation, latency) for step in evaluation.steps]
    lines = [_line(HEADINGS), _line(("---", *("--:" for _ in HEADINGS[1:-1]), "---")), *map(_line, rows), ""]
    lines += [f"- {each}" for each in (*evaluation.notes, *conclusions(evaluation))]
    for step in evaluation.steps:
        lines += _details(step)
    return "\n".join([*lines, "", _circumstances(evaluation), ""])


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _row(step: Step, evaluation: Evaluation, latency: Mapping[str, str]) -> tuple[str, ...]:
    blamed = evaluation.blamed
    verdict = VERDICTS[step.verdict]
    return (
        f"`{step.name}`",
        size_text(step.size_bytes),
        latency.get(step.sha256, ""),
        percent(step.top1),
        percent(step.top5),
        drop_text(step),
        p_text(step.p_value),
        percent(step.agreement),
        snr_text(step.snr_db),
        f"**{verdict}**" if blamed is not None and step.name == blamed.name else verdict,
    )


def _details(step: Step) -> Iterator[str]:
    if step.per_class:
        yield from ("", f"Classes in `{step.name}`:", "")
        yield from (_line(("class", "images", "lost", "gained", "drop")), _line(("---", *["--:"] * 4)))
        for each in step.per_class[:SHOWN_CLASSES]:
            cells = (each.name, f"{each.images}", f"{each.lost}", f"{each.gained}", f"{each.drop:.1f}")
            yield _line(cells)
    if step.flips:
        yield from ("", f"Images that `{step.name}` answers otherwise ({step.changed}):", "")
        yield from (_line(("image", "label", "before", "after", "")), _line(["---"] * 5))
        for flip in step.flips:
            before, after = f"{flip.before} by {flip.margin_before:.2f}", f"{flip.after} by {flip.margin_after:.2f}"
            yield _line((f"`{flip.image}`", flip.label or "", before, after, flip.kind))


def _circumstances(evaluation: Evaluation) -> str:
    steps = {f"{step.runtime} {step.runtime_version}".strip(): None for step in evaluation.steps}
    return (
        f"{images_text(evaluation)}; {evaluation.created}, edgekit {evaluation.edgekit_version}, "
        f"{', '.join(steps)}. A drop is in points of top-1 against `{evaluation.steps[0].name}`, with its 95 % "
        "interval; p is McNemar's exact test; a margin is the highest logit less the second."
    )
