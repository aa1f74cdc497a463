"""One step beside the first, image by image: what was lost, what was gained, and which images changed."""

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from msgspec import structs
from numpy.typing import NDArray
from PIL import Image

from edgekit.data.dataset import Dataset, Pixels
from edgekit.evaluation.outcomes import RANKS, WRONG, Outcomes
from edgekit.evaluation.record import ClassDrop, Flip, FlipKind, Step, Verdict
from edgekit.evaluation.statistics import decide, drop_interval, images_needed, mcnemar, points
from edgekit.numerics import snr_db

SHOWN_FLIPS = 12

THUMBNAIL_SIDE = 64

UNLABELLED = -2
"""The label of an image without one, which is no network's answer."""

FAR = 10_000_000
"""More images than this to decide is no advice."""

Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Subset:
    """The images that were evaluated: places of a data set, in order, and their labels, `UNLABELLED` without one."""

    dataset: Dataset
    indices: NDArray[np.int64]
    labels: NDArray[np.int64]

    @property
    def labelled(self) -> Flags:
        """Which images have a label."""
        return np.not_equal(self.labels, UNLABELLED)

    def class_name(self, number: int) -> str:
        """A class by its number, as the data set calls it where it has names."""
        if number == WRONG:
            return "no finite logits"
        names = self.dataset.classes
        return names[number] if number < len(names) else f"class {number}"


def choose_images(dataset: Dataset, most: int | None) -> Subset:
    """All images, or so many of them evenly spread, which keeps the classes of a sorted folder in proportion."""
    available = len(dataset)
    indices = np.arange(available) if most is None else np.linspace(0, available - 1, min(most, available))
    indices = indices.astype(np.int64)
    found = (dataset.label(int(index)) for index in indices)
    return Subset(dataset, indices, np.array([UNLABELLED if each is None else each for each in found], np.int64))


def accuracy(outcomes: Outcomes, subset: Subset, ranks: int) -> float | None:
    """Percent of the labelled images whose label is among so many first classes; None where there are none."""
    if not subset.labelled.any():
        return None
    hits = (outcomes.ranked[:, :ranks] == subset.labels[:, None]).any(axis=1)
    return 100 * float(hits[subset.labelled].mean())


def alone(step: Step, own: Outcomes, subset: Subset) -> Step:
    """A step with what needs no other to compare with."""
    return structs.replace(
        step,
        top1=accuracy(own, subset, 1),
        top5=accuracy(own, subset, RANKS) if own.logits.shape[1] > RANKS else None,
        nonfinite=int(np.count_nonzero(own.predicted == WRONG)),
        right=packed(own.predicted == subset.labels) if subset.labelled.any() else "",
    )


def beside(step: Step, first: Outcomes, own: Outcomes, subset: Subset, max_drop: float) -> Step:
    """A step compared with the first.

    Args:
        step: Which one.
        first: The answers of the first step.
        own: Its own.
        subset: The images both answered.
        max_drop: The budget in points.
    """
    changed = (own.predicted != first.predicted) | (own.predicted == WRONG)
    made = structs.replace(
        alone(step, own, subset),
        verdict="unlabelled",
        agreement=100 * float(1 - changed.mean()),
        changed=int(changed.sum()),
        snr_db=snr_db(first.logits.astype(np.float64), own.logits.astype(np.float64)),
        flips=tuple(flips(first, own, subset, changed)),
    )
    labelled = int(subset.labelled.sum())
    if not labelled:
        return made
    lost, gained = (int(flags.sum()) for flags in _sides(first, own, subset))
    interval, drop = drop_interval(lost, gained, labelled), points(lost, gained, labelled)
    decided = decide(interval, max_drop)
    verdict: Verdict = "alike" if decided == "undecided" and not changed.any() else decided
    return structs.replace(
        made,
        verdict=verdict,
        drop=drop,
        interval=interval,
        p_value=mcnemar(lost, gained),
        lost=lost,
        gained=gained,
        more_images=max(0, images_needed(lost, gained, labelled) - labelled),
        images_to_decide=to_decide(lost, gained, labelled, max_drop) if verdict == "undecided" else None,
        per_class=tuple(per_class(first, own, subset)),
    )


def _sides(first: Outcomes, own: Outcomes, subset: Subset) -> tuple[Flags, Flags]:
    """Which images were lost, and which gained."""
    before, after = first.predicted == subset.labels, own.predicted == subset.labels
    return before & ~after, after & ~before


def to_decide(lost: int, gained: int, images: int, max_drop: float) -> int | None:
    """How many images more would decide about a budget, were the drop what it seems; None where that is hopeless."""
    gap = abs(points(lost, gained, images) - max_drop)
    needed = images_needed(lost, gained, images, gap) if gap else FAR + images
    return max(1, needed - images) if needed - images < FAR else None


def per_class(first: Outcomes, own: Outcomes, subset: Subset) -> Iterator[ClassDrop]:
    """The classes of which other images are right now, those that lost most first."""
    lost, gained = _sides(first, own, subset)
    found = []
    for number in np.unique(subset.labels[lost | gained]):
        these = subset.labels == number
        images = int(these.sum())
        found.append(
            ClassDrop(
                name=subset.class_name(int(number)),
                images=images,
                lost=int(lost[these].sum()),
                gained=int(gained[these].sum()),
                top1_before=100 * float((first.predicted[these] == number).mean()),
                top1=100 * float((own.predicted[these] == number).mean()),
            )
        )
    yield from sorted(found, key=lambda each: -each.drop)


def flips(first: Outcomes, own: Outcomes, subset: Subset, changed: Flags) -> Iterator[Flip]:
    """Some of the images that are answered otherwise: the lost ones first, and of these those that were surest."""
    lost, gained = _sides(first, own, subset)
    order = np.lexsort((-first.margins, ~gained, ~lost))
    for place in order[changed[order]][:SHOWN_FLIPS]:
        kind: FlipKind = "lost" if lost[place] else "gained" if gained[place] else "other"
        index, label = int(subset.indices[place]), int(subset.labels[place])
        yield Flip(
            image=subset.dataset.title(index),
            index=index,
            kind=kind,
            label=None if label == UNLABELLED else subset.class_name(label),
            before=subset.class_name(int(first.predicted[place])),
            after=subset.class_name(int(own.predicted[place])),
            margin_before=float(first.margins[place]),
            margin_after=float(own.margins[place]),
            thumbnail=thumbnail(subset.dataset.image(index)),
        )


def packed(flags: Flags) -> str:
    """A row of flags, eight in a byte, in base64."""
    return base64.b64encode(np.packbits(flags).tobytes()).decode()


def thumbnail(image: Pixels) -> str:
    """A small PNG of an image [H, W, 3], in base64."""
    small = Image.fromarray(image)
    small.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
    content = BytesIO()
    small.save(content, "PNG", optimize=True)
    return base64.b64encode(content.getvalue()).decode()
