"""What is kept of the logits of an image: the five best classes, the margin, and of some images the logits themselves.

Twenty-four bytes an image, so that a data set of any size fits into memory; the logits are kept of evenly spread images
only, enough for a signal-to-noise ratio.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

RANKS = 5

KEPT = 256
"""Images whose logits are kept."""

WRONG = -1
"""The class of an image whose logits are not all finite, and the ranks beyond the last class."""


@dataclass(slots=True)
class Outcomes:
    """The answers of one network to a row of images, the first `done` of which it has seen.

    Attributes:
        ranked: Classes by falling logit, [images, RANKS].
        margins: Highest logit less the second highest, [images]; 0 where logits are not finite.
        kept: Which images' logits are kept, ascending.
        logits: Theirs, [kept, classes].
    """

    done: int
    ranked: NDArray[np.int32]
    margins: NDArray[np.float32]
    kept: NDArray[np.int64]
    logits: NDArray[np.float32]

    @classmethod
    def empty(cls, images: int, classes: int) -> Self:
        """Of a network that has seen none of so many images."""
        kept = np.unique(np.linspace(0, images - 1, min(KEPT, images)).astype(np.int64))
        return cls(
            done=0,
            ranked=np.full((images, RANKS), WRONG, np.int32),
            margins=np.zeros(images, np.float32),
            kept=kept,
            logits=np.zeros((len(kept), classes), np.float32),
        )

    @property
    def images(self) -> int:
        """How many images there are, seen or not."""
        return len(self.margins)

    @property
    def predicted(self) -> NDArray[np.int32]:
        """The class of each image."""
        return self.ranked[:, 0]

    def take(self, logits: NDArray[Any]) -> None:
        """Takes the logits of the next images, [some, classes]."""
        for row in logits:
            self._take(np.asarray(row, np.float32))

    def _take(self, row: NDArray[np.float32]) -> None:
        place = int(np.searchsorted(self.kept, self.done))
        if place < len(self.kept) and self.kept[place] == self.done:
            self.logits[place] = row
        if np.all(np.isfinite(row)):
            best = np.argsort(-row, kind="stable")[:RANKS]
            self.ranked[self.done, : len(best)] = best
            self.margins[self.done] = row[best[0]] - row[best[1]] if len(best) > 1 else 0.0
        self.done += 1

    def save(self, path: Path) -> None:
        """Writes everything as `.npz`."""
        with path.open("wb") as file:
            np.savez(file, done=self.done, ranked=self.ranked, margins=self.margins, kept=self.kept, logits=self.logits)


def load_outcomes(path: Path, images: int, classes: int) -> Outcomes | None:
    """What `Outcomes.save` wrote, of so many images and classes; None where it is something else."""
    try:
        with np.load(path, allow_pickle=False) as file:
            found = Outcomes(int(file["done"]), *(file[name] for name in ("ranked", "margins", "kept", "logits")))
    except (OSError, ValueError, KeyError, EOFError):
        return None
    wanted = Outcomes.empty(images, classes)
    shapes = [
        (each.ranked.shape, each.margins.shape, each.kept.tolist(), each.logits.shape) for each in (found, wanted)
    ]
    return found if shapes[0] == shapes[1] and 0 <= found.done <= images else None
