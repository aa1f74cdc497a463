"""Data sets and answers as tests want them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from msgspec import structs
from numpy.typing import NDArray

from edgekit.bundle import read_manifest
from edgekit.data.dataset import Pixels
from edgekit.evaluation.compare import Subset, alone, choose_images
from edgekit.evaluation.outcomes import Outcomes
from edgekit.evaluation.record import SCHEMA_VERSION, Data, Evaluation, Step
from edgekit.evaluation.store import write_evaluation
from edgekit.models.cards import IMAGENET


class Squares:
    """Grey squares whose brightness is their number; labels as given, None for no label."""

    name = "squares"
    digest = "d" * 64

    def __init__(self, labels: Sequence[int | None], classes: tuple[str, ...] = ("cat", "dog", "owl")) -> None:
        self._labels = tuple(labels)
        self.classes = classes

    def __len__(self) -> int:
        return len(self._labels)

    def image(self, index: int) -> Pixels:
        return np.full((8, 8, 3), index % 256, np.uint8)

    def label(self, index: int) -> int | None:
        return self._labels[index]

    def title(self, index: int) -> str:
        return f"squares/{index}"


def one_hot(classes: Sequence[int], margin: float | Sequence[float] = 1.0, count: int = 3) -> NDArray[np.float32]:
    """Logits that make these classes the answers, with these margins."""
    logits = np.zeros((len(classes), count), np.float32)
    logits[np.arange(len(classes)), list(classes)] = margin
    return logits


def answered(logits: NDArray[np.float32]) -> Outcomes:
    """The answers of a network that returned these logits."""
    outcomes = Outcomes.empty(len(logits), logits.shape[1])
    outcomes.take(logits)
    return outcomes


def subset(labels: Sequence[int | None]) -> Subset:
    """All images of `Squares`."""
    return choose_images(Squares(labels), None)


def blank(name: str = "net.int8.onnx", sha256: str = "a" * 64, format_: str = "onnx") -> Step:
    """A step before anything is known of its answers."""
    return Step(
        name=name,
        sha256=sha256,
        format=format_,
        precision="int8",
        runtime="onnxruntime",
        runtime_version="1.31.1",
        size_bytes=1 << 20,
        verdict="first",
        top1=None,
        top5=None,
        nonfinite=0,
    )


def evaluation(*steps: Step, created: str = "2026-11-21T12:00:00+00:00", labelled: int = 4) -> Evaluation:
    """An evaluation with these steps."""
    return Evaluation(
        schema_version=SCHEMA_VERSION,
        bundle="bundle",
        created=created,
        edgekit_version="0.1.0",
        command=("edgekit", "eval"),
        model="net",
        data=Data(name="squares", digest="d" * 64, available=4, images=4, labelled=labelled, classes=("cat", "dog")),
        preprocessing=IMAGENET,
        max_drop=0.5,
        notes=(),
        steps=steps,
    )


def evaluated(bundle: Path, wrong: int) -> None:
    """Stores an evaluation in which a bundle's one artifact has so many of 400 images wrong."""
    artifact = read_manifest(bundle).members[0].artifact
    step = structs.replace(blank("net.fp32.onnx", artifact.sha256), precision=artifact.precision)
    answers = answered(one_hot([2] * wrong + [0] * (400 - wrong)))
    write_evaluation(evaluation(alone(step, answers, subset([0] * 400)), labelled=400), bundle)
