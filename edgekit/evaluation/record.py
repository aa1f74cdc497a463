"""What an evaluation says: every step from the trained network to an artifact, beside the first of them.

Every word here goes into `accuracy/<time>.json` of a bundle, so all of them are frozen msgspec structs. Accuracies and
agreement are in percent, drops and intervals in percentage points, positive where accuracy was lost; margins are the
highest logit less the second highest; SNR is in dB. None means that there is nothing to say, never zero.
"""

from typing import Literal

from msgspec import Struct

from edgekit.artifact import Preprocessing

SCHEMA_VERSION = 1

Verdict = Literal["first", "within", "over", "alike", "undecided", "unlabelled"]
"""`first` is the step that the others are compared with, and `unlabelled` one without a label to compare by.

The others speak of the budget. `within` and `over`: the whole interval is on that side of it. `undecided`: it is on
both. `alike`: it is on both as well, for there are few images, but every one of them is answered as before.
"""

FlipKind = Literal["lost", "gained", "other"]
"""Right before and wrong now; wrong before and right now; neither, which is two wrong answers or no label."""


class Data(Struct, frozen=True, kw_only=True):
    """The images.

    Attributes:
        digest: What tells these images, in this order and with these labels, from all others.
        available: Images the data set has; `images` of them, evenly spread, were taken.
        labelled: How many of them have labels, which accuracy is about.
        classes: Names of the data set's classes in the order of the logits; empty where it has no labels.
    """

    name: str
    digest: str
    available: int
    images: int
    labelled: int
    classes: tuple[str, ...]


class Flip(Struct, frozen=True, kw_only=True):
    """An image that a step answers otherwise than the first step does.

    Attributes:
        thumbnail: A PNG of the image before preprocessing, at most 64 pixels a side, in base64.
    """

    image: str
    index: int
    kind: FlipKind
    label: str | None
    before: str
    after: str
    margin_before: float
    margin_after: float
    thumbnail: str


class ClassDrop(Struct, frozen=True, kw_only=True):
    """One class of which a step gets other images right than the first step does."""

    name: str
    images: int
    lost: int
    gained: int
    top1_before: float
    top1: float

    @property
    def drop(self) -> float:
        """In points of this class's images."""
        return self.top1_before - self.top1


class Step(Struct, frozen=True, kw_only=True):
    """One network on the way: torch's, or an artifact.

    Attributes:
        name: `torch fp32`, `fused`, or the name of the artifact's file.
        sha256: Of the artifact; of torch's networks what identifies them among those of the bundle.
        size_bytes: Of all the artifact's files.
        top5: None where there are five classes or fewer.
        drop: Points of top-1 against the first step.
        interval: Where the drop lies with 95 % confidence.
        p_value: McNemar's exact test of no difference.
        lost: Images the first step has right and this one wrong; `gained` the other way round.
        agreement: Share of all images, labelled or not, that both steps answer alike.
        changed: Number of images they do not; `flips` shows some, the lost ones first and of these the surest.
        nonfinite: Images on which a logit is NaN or infinite; they count as wrong and as changed.
        snr_db: Of the logits of `edgekit.evaluation.outcomes.KEPT` images against the first step.
        right: Which images it gets right, a bit for each as `numpy.packbits` has them, in base64; by these two
            evaluations on the same images are compared. Empty without labels.
        more_images: How many images more would bring the interval to plus or minus 0.3 points; 0: there are enough.
        images_to_decide: How many more would decide about the budget, were the drop what it seems.
    """

    name: str
    sha256: str
    format: str
    precision: str
    runtime: str
    runtime_version: str
    size_bytes: int | None
    verdict: Verdict
    top1: float | None
    top5: float | None
    nonfinite: int
    right: str = ""
    drop: float | None = None
    interval: tuple[float, float] | None = None
    p_value: float | None = None
    lost: int = 0
    gained: int = 0
    agreement: float | None = None
    changed: int = 0
    snr_db: float | None = None
    more_images: int | None = None
    images_to_decide: int | None = None
    flips: tuple[Flip, ...] = ()
    per_class: tuple[ClassDrop, ...] = ()


class Evaluation(Struct, frozen=True, kw_only=True):
    """One evaluation of one bundle; `notes` are what a reader has to know before believing the figures."""

    schema_version: int
    bundle: str
    created: str
    edgekit_version: str
    command: tuple[str, ...]
    model: str
    data: Data
    preprocessing: Preprocessing
    max_drop: float
    notes: tuple[str, ...]
    steps: tuple[Step, ...]

    @property
    def blamed(self) -> Step | None:
        """The first step that is over the budget for certain, else the first whose drop seems to be; None: neither."""
        over = [step for step in self.steps if step.verdict == "over"]
        seeming = [step for step in self.steps if step.drop is not None and step.drop > self.max_drop]
        return next(iter(over or seeming), None)
