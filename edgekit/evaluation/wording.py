"""The figures of a step in words, the same in every kind of report."""

from collections.abc import Iterator

from edgekit.evaluation.record import Evaluation, Step, Verdict
from edgekit.evaluation.statistics import RESOLUTION_POINTS
from edgekit.numerics import EQUAL_DB

SHOWN_CLASSES = 5

VERDICTS: dict[Verdict, str] = {
    "first": "",
    "within": "within",
    "over": "OVER",
    "alike": "no change seen",
    "undecided": "undecided",
    "unlabelled": "no labels",
}


def percent(value: float | None) -> str:
    """An accuracy."""
    return "" if value is None else f"{value:.2f} %"


def size_text(size: int | None) -> str:
    """Bytes in MiB, or KiB where that would be 0.0."""
    if size is None:
        return ""
    return f"{size / (1 << 20):.2f} MiB" if size >= 1 << 20 else f"{size / (1 << 10):.0f} KiB"


def drop_text(step: Step) -> str:
    """A drop in points with its interval; what is gained is negative."""
    if step.drop is None or step.interval is None:
        return ""
    low, high = (without_zero_sign(value) for value in step.interval)
    return f"{without_zero_sign(step.drop)} [{low}, {high}]"


def without_zero_sign(value: float) -> str:
    """Two places; what rounds to zero has no sign."""
    return f"{round(value, 2) + 0.0:.2f}"


def p_text(value: float | None) -> str:
    """A probability in three digits; a tiny one by its power of ten."""
    if value is None:
        return ""
    return f"{value:.3f}" if value >= 0.001 else f"{value:.0e}"


def snr_text(value: float | None) -> str:
    """An SNR; equal logits have none."""
    if value is None:
        return ""
    return "equal" if value >= EQUAL_DB else f"{value:.1f} dB"


def images_text(evaluation: Evaluation) -> str:
    """Which images it was."""
    data = evaluation.data
    of = "" if data.images == data.available else f" of {data.available:,}, evenly spread"
    labels = f"{len(data.classes)} classes" if data.labelled else "no labels"
    return f"{data.name}: {data.images:,} images{of}, {labels}"


def conclusions(evaluation: Evaluation) -> Iterator[str]:
    """What follows from the figures, a sentence for each thing: the budget, then what the images could tell."""
    blamed = evaluation.blamed
    if blamed is not None:
        sure = "is over" if blamed.verdict == "over" else "seems to be over"
        yield f"{blamed.name} is the first step that {sure} the budget of {evaluation.max_drop:g} points."
    yield from (undecided(step, evaluation.max_drop) for step in evaluation.steps if step.verdict == "undecided")
    alike = [step for step in evaluation.steps if step.verdict == "alike" and step.interval is not None]
    if alike:
        most = max(step.interval[1] for step in alike if step.interval is not None)
        names = ", ".join(step.name for step in alike)
        yield f"Every image is answered as before by {names}; so few images may leave {most:.2f} points unseen."
    wanting = max((step.more_images or 0 for step in evaluation.steps if step.verdict != "over"), default=0)
    if wanting:
        where = "every step that is not over" if blamed is not None and blamed.verdict == "over" else "every step"
        yield f"{wanting:,} more images would resolve {RESOLUTION_POINTS:g} points in {where}."


def undecided(step: Step, max_drop: float) -> str:
    """What is open about a step, and what would settle it."""
    side = "beyond" if (step.drop or 0.0) > max_drop else "within"
    more = f"about {step.images_to_decide:,} more images would" if step.images_to_decide else "no number of images may"
    return f"{step.name} is undecided: its drop is {side} the budget, its interval on both sides of it; {more} decide."
