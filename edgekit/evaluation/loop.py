"""One network over all images: one at a time, and from where it was left when it was interrupted.

What a network answered is kept in the cache every few seconds and however the loop ends, under a key that holds
everything the answers depend on; a finished loop is one that was left at the last image.
"""

import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from edgekit.bundle import Progress, Stage
from edgekit.cache import StageCache
from edgekit.errors import OutputError
from edgekit.evaluation.outcomes import Outcomes, load_outcomes

Images = NDArray[np.float32]
"""Prepared images, [N, 3, H, W]."""

Classify = Callable[[Images], NDArray[Any]]
"""Prepared images to logits, [N, classes]."""

Feed = Callable[[Iterable[int]], Iterator[Images]]
"""Places in the row of images to prepared images, one after the other, [1, 3, H, W]."""

OUTCOMES = "outcomes.npz"

SAVE_SECONDS = 10.0

SHOW_SECONDS = 0.5

QUIET_SECONDS = 30.0
"""A loop that takes longer says so with a line for every quarter, which is what a log without a terminal shows."""


class Kept(Struct, frozen=True, kw_only=True):
    """What the cache says about answers beside their file."""

    done: int
    images: int


@dataclass(frozen=True, slots=True)
class Task:
    """One network's turn.

    Attributes:
        name: What to call it.
        key: Cache key of its answers.
        open: Loads the network; not called where all answers are known.
        images: How many there are.
        classes: How many logits it returns for one.
        batch: Images of one inference; the last one is filled up where they run out.
    """

    name: str
    key: str
    open: Callable[[], AbstractContextManager[Classify]]
    images: int
    classes: int
    batch: int = 1


def answers(task: Task, feed: Feed, cache: StageCache, progress: Progress) -> Outcomes:
    """The network's answers to all images, as far as possible from the cache.

    Raises:
        EdgekitError: The network cannot be loaded, or an image cannot be read; what was answered is kept.
    """
    outcomes = recall(task, cache) or Outcomes.empty(task.images, task.classes)
    started, known = time.perf_counter(), outcomes.done
    progress.begin(task.name)
    if known < task.images:
        if known:
            progress.note(f"{task.name}: {known:,} of {task.images:,} images are done; the rest follows.")
        try:
            with task.open() as classify:
                run(task, outcomes, classify, feed, Watch(task, cache, progress, known))
        finally:
            if outcomes.done > known:
                keep(task, outcomes, cache, progress)
    seconds = round(time.perf_counter() - started, 3)
    progress.end(Stage(name=task.name, seconds=seconds, cached=known == task.images))
    return outcomes


def run(task: Task, outcomes: Outcomes, classify: Classify, feed: Feed, watch: "Watch") -> None:
    """Shows the network the images it has not seen."""
    for images in batches(feed(range(outcomes.done, task.images)), task.batch):
        missing = task.batch - len(images)
        filled = np.concatenate([images, *[images[-1:]] * missing]) if missing else images
        outcomes.take(classify(filled)[: len(images)])
        watch.look(outcomes)


def batches(images: Iterator[Images], size: int) -> Iterator[Images]:
    """So many images at once; fewer at the end."""
    held: list[Images] = []
    for image in images:
        held.append(image)
        if len(held) == size:
            yield held[0] if size == 1 else np.concatenate(held)
            held = []
    if held:
        yield np.concatenate(held)


@dataclass(slots=True)
class Watch:
    """Tells how far a loop is, and keeps what it has from time to time."""

    task: Task
    cache: StageCache
    progress: Progress
    known: int
    started: float = field(default_factory=time.perf_counter)
    shown: float = field(default_factory=time.perf_counter)
    saved: float = field(default_factory=time.perf_counter)
    quarter: int = 0

    def look(self, outcomes: Outcomes) -> None:
        """Called after every inference."""
        now = time.perf_counter()
        if now - self.shown >= SHOW_SECONDS:
            self.shown = now
            self._show(outcomes.done, now - self.started)
        if now - self.saved >= SAVE_SECONDS:
            keep(self.task, outcomes, self.cache, self.progress)
            self.saved = time.perf_counter()

    def _show(self, done: int, seconds: float) -> None:
        left = seconds / (done - self.known) * (self.task.images - done)
        text = f"{self.task.name}: {done:,} of {self.task.images:,} images, {duration(left)} left"
        self.progress.begin(text)
        quarter = 4 * done // self.task.images
        if self.quarter < quarter < 4 and seconds >= QUIET_SECONDS:
            self.progress.note(f"  {text}")
            self.quarter = quarter


def duration(seconds: float) -> str:
    """A time to wait in the unit one thinks in."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"


def recall(task: Task, cache: StageCache) -> Outcomes | None:
    """What the cache has of a network's answers; None where that is nothing, or damaged."""
    with tempfile.TemporaryDirectory() as folder:
        found = cache.fetch(task.key, Path(folder), Kept)
        return None if found is None else load_outcomes(Path(folder) / OUTCOMES, task.images, task.classes)


def keep(task: Task, outcomes: Outcomes, cache: StageCache, progress: Progress) -> None:
    """Keeps answers; a cache that cannot be written costs time later, not the result now."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / OUTCOMES
        outcomes.save(path)
        try:
            cache.store(task.key, Kept(done=outcomes.done, images=task.images), (path,))
        except OutputError as error:
            progress.note(f"Not kept: {error}")
