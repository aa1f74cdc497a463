"""Evaluating a bundle: torch's network, the fused one and every artifact answer the same images, one after the other.

bundle + data -> torch fp32 -> fused -> artifacts -> each beside the first -> one evaluation
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from edgekit.bench.record import Measurement
from edgekit.bench.store import read_runs
from edgekit.bundle import Manifest, Progress
from edgekit.cache import StageCache, source_hash, stage_key
from edgekit.data.dataset import Dataset
from edgekit.data.feed import feed
from edgekit.data.preprocess import golden
from edgekit.errors import (
    BudgetError,
    CheckFailedError,
    EdgekitError,
    MissingExtraError,
    MisuseError,
    OutputError,
)
from edgekit.evaluation.compare import Subset, alone, beside, choose_images
from edgekit.evaluation.loop import Feed, Images, Task, answers
from edgekit.evaluation.outcomes import Outcomes
from edgekit.evaluation.record import SCHEMA_VERSION, Data, Evaluation, Step
from edgekit.records import OWN_COPY
from edgekit.version import __version__
from edgekit.waterfall import FLOAT, Contender, Rebuilt, artifact_contenders, torch_contenders

Ask = Callable[[Contender], Outcomes]
"""A network to its answers to all images."""

Found = list[tuple[Step, Outcomes]]


@dataclass(frozen=True, slots=True)
class Options:
    """How to evaluate.

    Attributes:
        max_drop: Most points of top-1 an artifact may lose.
        images: How many of the images to take, evenly spread; None: all.
        threads: Of the runtimes.
        formats: Which artifacts; none are all.
        trust: Whether code that the network was built from may run again.
    """

    max_drop: float = 0.5
    images: int | None = None
    threads: int = 1
    formats: tuple[str, ...] = ()
    trust: bool = False


@dataclass(frozen=True, slots=True)
class Problem:
    """Why an artifact was not evaluated."""

    artifact: str
    error: EdgekitError


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an evaluation came to."""

    evaluation: Evaluation
    problems: tuple[Problem, ...]


def evaluate(
    folder: Path,
    manifest: Manifest,
    dataset: Dataset,
    options: Options,
    command: Sequence[str],
    cache: StageCache,
    progress: Progress,
) -> Outcome:
    """Evaluates a bundle; nothing is written into it.

    Args:
        folder: Where the bundle is.
        manifest: Its manifest.
        dataset: The images.
        options: How.
        command: The command line, for the record.
        cache: Where answers are kept.
        progress: Who watches.

    Raises:
        MisuseError: The network classifies no images, or other classes than those of the data.
        DataError: An image cannot be read.
        CheckFailedError: There is nothing to evaluate.
        EdgekitError: No artifact could be evaluated.
    """
    classes = check_task(folder, manifest, dataset)
    artifacts = tuple(artifact_contenders(folder, manifest, options.formats, options.threads))
    subset = choose_images(dataset, options.images)
    ask = partial(ask_one, manifest, subset, classes, options.threads, cache, progress)
    rebuilt = Rebuilt(folder, manifest, progress, trust=options.trust)
    answered, notes = ask_torch(torch_contenders(manifest, rebuilt, options.threads), rebuilt, ask)
    del rebuilt  # its weights, while the artifacts bring theirs
    found, problems = ask_artifacts(artifacts, ask)
    if not found:
        raise problems[0].error
    steps = [*answered, *found]
    evaluation = Evaluation(
        schema_version=SCHEMA_VERSION,
        bundle=folder.resolve().name,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        edgekit_version=__version__,
        command=tuple(command),
        model=manifest.model.name,
        data=describe(subset),
        preprocessing=manifest.model.preprocessing,
        max_drop=options.max_drop,
        notes=(*notes, *remarks(manifest, subset, steps[0][0])),
        steps=tuple(compared(steps, subset, options.max_drop)),
    )
    return Outcome(evaluation, tuple(problems))


def check_task(folder: Path, manifest: Manifest, dataset: Dataset) -> int:
    """The number of classes, after finding that the network tells classes of images, and those of the data.

    Raises:
        MisuseError: It does not.
        CheckFailedError: The bundle is empty.
    """
    if not manifest.members:
        raise CheckFailedError(f"{folder} holds no artifact, so there is nothing to evaluate.")
    inputs, outputs = ([spec.shape for spec in specs] for specs in (manifest.inputs, manifest.outputs))
    images = len(inputs) == 1 and len(inputs[0]) == 4 and inputs[0][1] == 3
    if not images or len(outputs) != 1 or len(outputs[0]) != 2:
        raise MisuseError(
            f"Accuracy is of networks that take images, Nx3xHxW, and return logits, NxCLASSES. {folder} takes "
            f"{shapes_text(inputs)} and returns {shapes_text(outputs)}."
        )
    classes = outputs[0][1]
    if not len(dataset):
        raise MisuseError(f"{dataset.name} holds no image, so there is nothing to evaluate.")
    if dataset.classes and len(dataset.classes) != classes:
        raise MisuseError(
            f"{dataset.name} has {len(dataset.classes)} classes, {folder} tells {classes} apart: a label of one is no "
            "class of the other. Give images of the classes the network was trained on, in their order (an .npz names "
            "all of them in its array 'classes'); or leave the labels out, and the artifacts are compared with the "
            "float network alone."
        )
    return classes


def check_storage(folder: Path) -> None:
    """Refuses a bundle that cannot be written before anything is evaluated for it.

    Raises:
        OutputError: It cannot.
    """
    if not os.access(folder, os.W_OK):
        raise OutputError(f"{folder} cannot be written. {OWN_COPY[:1].upper()}{OWN_COPY[1:]}.")


def shapes_text(shapes: Sequence[Sequence[int]]) -> str:
    """Shapes as a list in words."""
    return " and ".join("x".join(map(str, shape)) for shape in shapes)


def ask_torch(networks: Iterable[Contender], rebuilt: Rebuilt, ask: Ask) -> tuple[Found, tuple[str, ...]]:
    """The answers of torch's networks, and why there are none where the network cannot be built again."""
    found: Found = []
    for each in networks:
        try:
            found.append((each.step, ask(each)))
        except EdgekitError as error:
            if rebuilt.problem is None:
                raise
            without = "" if found else ", and the first artifact is what the others are compared with"
            return found, (f"{each.step.name} is missing{without}. {error}",)
    return found, ()


def ask_artifacts(artifacts: Iterable[Contender], ask: Ask) -> tuple[Found, list[Problem]]:
    """The answers of the artifacts; one that does not run does not keep the others from it."""
    found: Found = []
    problems = []
    for each in artifacts:
        try:
            found.append((each.step, ask(each)))
        except (CheckFailedError, MissingExtraError) as error:
            problems.append(Problem(each.step.name, error))
    return found, problems


def ask_one(
    manifest: Manifest,
    subset: Subset,
    classes: int,
    threads: int,
    cache: StageCache,
    progress: Progress,
    contender: Contender,
) -> Outcomes:
    """The answers of one network."""
    step, (batch, _, height, width) = contender.step, manifest.inputs[0].shape
    preprocessing = manifest.model.preprocessing
    data = (subset.dataset.digest, subset.indices.tolist())
    network = (step.sha256, step.runtime, step.runtime_version, threads)
    key = stage_key("accuracy", source_hash(), network, data, preprocessing, (height, width))

    def images(places: Iterable[int]) -> Iterator[Images]:
        chosen = (int(subset.indices[place]) for place in places)
        return feed(subset.dataset, preprocessing, (height, width), chosen)

    shown: Feed = images
    return answers(Task(step.name, key, contender.open, len(subset.indices), classes, batch), shown, cache, progress)


def compared(found: Found, subset: Subset, max_drop: float) -> Iterator[Step]:
    """Every step beside the first."""
    (first, answered), *others = found
    yield alone(first, answered, subset)
    for step, own in others:
        yield beside(step, answered, own, subset, max_drop)


def describe(subset: Subset) -> Data:
    """The images, for the record."""
    labelled = int(subset.labelled.sum())
    return Data(
        name=subset.dataset.name,
        digest=subset.dataset.digest,
        available=len(subset.dataset),
        images=len(subset.indices),
        labelled=labelled,
        classes=tuple(subset.dataset.classes) if labelled else (),
    )


def remarks(manifest: Manifest, subset: Subset, first: Step) -> Iterator[str]:
    """What a reader has to know before believing the figures."""
    _, _, *size = manifest.inputs[0].shape
    if manifest.weights.kind == "random":
        yield (
            f"The weights are RANDOM (seed {manifest.weights.seed}): accuracies are those of guessing. Agreement and "
            "SNR still tell how far an artifact is from the float network."
        )
    labelled, images = int(subset.labelled.sum()), len(subset.indices)
    if not labelled:
        yield "The images have no labels: the figures tell agreement with the first step, and nothing about accuracy."
    elif labelled < images:
        yield f"Of {images:,} images {labelled:,} have a label; accuracy is about these."
    if manifest.golden and manifest.golden != golden(manifest.model.preprocessing, (size[0], size[1])):
        yield "Images are prepared to other values here than where the bundle was made; is it another Pillow?"
    if first.precision != FLOAT:
        yield f"No step is in float: {first.name}, which the others are compared with, is {first.precision} itself."


def latencies(folder: Path, manifest: Manifest) -> Mapping[str, Measurement]:
    """SHA-256 of an artifact to its latest measurement that is trusted, where there is one.

    Raises:
        BundleError: A measurement of the bundle is damaged.
    """
    runs = read_runs(folder, {member.artifact.sha256 for member in manifest.members})
    trusted = [each for run in reversed(runs) for each in run.measurements if each.verdict.level == "TRUSTED"]
    return {each.subject.sha256: each for each in trusted}


def conclude(outcome: Outcome) -> EdgekitError | None:
    """What decides the exit code: an artifact over its budget for certain, else one that could not be evaluated."""
    evaluation = outcome.evaluation
    for step in evaluation.steps:
        if step.verdict == "over" and step.drop is not None and step.interval is not None:
            low, high = step.interval
            return BudgetError(
                f"{step.name} loses {step.drop:.2f} points of top-1, between {low:.2f} and {high:.2f} with 95 % "
                f"confidence: more than the {evaluation.max_drop:g} that --max-drop allows."
            )
    return min((problem.error for problem in outcome.problems), key=lambda error: error.exit_code, default=None)
