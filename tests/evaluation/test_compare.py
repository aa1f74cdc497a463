"""Two rows of answers beside each other: every count can be followed by hand."""

import base64
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from edgekit.evaluation.compare import FAR, SHOWN_FLIPS, alone, beside, choose_images, thumbnail, to_decide
from edgekit.evaluation.outcomes import WRONG
from edgekit.evaluation.statistics import drop_interval, images_needed, mcnemar
from tests.evaluation.images import Squares, answered, blank, one_hot, subset

LABELS = [0, 0, 0, 0, 1, 1, 1, 2, 2, 2]
BEFORE = [0, 0, 0, 1, 1, 1, 2, 2, 2, 2]
"""Eight right; images 3 and 6 wrong."""
AFTER = [0, 1, 0, 0, 1, 0, 0, 2, 2, 2]
"""Images 1 and 5 lost, 3 gained, 6 another wrong answer."""


def test_what_was_lost_and_gained() -> None:
    step = beside(blank(), answered(one_hot(BEFORE)), answered(one_hot(AFTER)), subset(LABELS), 0.5)

    assert [step.top1, step.drop] == pytest.approx([70, 10])
    assert (step.lost, step.gained, step.changed) == (2, 1, 4)
    assert step.agreement == pytest.approx(60)
    assert step.interval == drop_interval(2, 1, 10)
    assert step.p_value == mcnemar(2, 1)
    assert step.more_images == images_needed(2, 1, 10) - 10
    assert step.verdict == "undecided"
    assert step.images_to_decide == max(1, images_needed(2, 1, 10, 9.5) - 10)


def test_flips_the_lost_ones_first_and_of_these_the_surest() -> None:
    margins = [1.0, 2.0, 1.0, 4.0, 1.0, 3.0, 9.0, 1.0, 1.0, 1.0]

    step = beside(blank(), answered(one_hot(BEFORE, margins)), answered(one_hot(AFTER, 0.5)), subset(LABELS), 0.5)

    told = [(flip.image, flip.kind, flip.label, flip.before, flip.after) for flip in step.flips]
    assert told == [
        ("squares/5", "lost", "dog", "dog", "cat"),
        ("squares/1", "lost", "cat", "cat", "dog"),
        ("squares/3", "gained", "cat", "dog", "cat"),
        ("squares/6", "other", "dog", "owl", "cat"),
    ]
    assert (step.flips[0].margin_before, step.flips[0].margin_after) == (3.0, 0.5)


def test_only_some_flips_are_shown() -> None:
    step = beside(blank(), answered(one_hot([0] * 40)), answered(one_hot([1] * 40)), subset([0] * 40), 0.5)

    assert (step.changed, len(step.flips)) == (40, SHOWN_FLIPS)


def test_classes_that_lost_most_come_first() -> None:
    step = beside(blank(), answered(one_hot(BEFORE)), answered(one_hot(AFTER)), subset(LABELS), 0.5)

    told = [(each.name, each.images, each.lost, each.gained) for each in step.per_class]
    assert told == [("dog", 3, 1, 0), ("cat", 4, 1, 1)]
    assert step.per_class[0].drop == pytest.approx(100 / 3)
    assert (step.per_class[1].top1_before, step.per_class[1].top1) == (75, 75)


def test_one_wrong_channel_shows() -> None:
    """The negative twin: the logits of one class fall, and its images go elsewhere."""
    logits = np.random.default_rng(3).normal(size=(600, 3)).astype(np.float32)
    labels = logits.argmax(axis=1).tolist()
    wrong = logits.copy()
    wrong[:, 1] *= 0.5

    step = beside(blank(), answered(logits), answered(wrong), subset(labels), 0.5)

    assert step.verdict == "over"
    assert step.per_class[0].name == "dog"
    assert step.agreement is not None
    assert step.agreement < 95
    assert step.snr_db is not None
    assert 0 < step.snr_db < 20


def test_equal_answers_to_few_images_are_alike_and_to_many_within() -> None:
    few, many = answered(one_hot([0, 1] * 100)), answered(one_hot([0, 1] * 1000))

    assert beside(blank(), few, few, subset([0, 1] * 100), 0.5).verdict == "alike"
    step = beside(blank(), many, many, subset([0, 1] * 1000), 0.5)
    assert (step.verdict, step.drop, step.snr_db, step.flips) == ("within", 0.0, 400.0, ())


def test_without_labels_there_is_agreement_and_nothing_else() -> None:
    step = beside(blank(), answered(one_hot(BEFORE)), answered(one_hot(AFTER)), subset([None] * 10), 0.5)

    assert (step.verdict, step.changed) == ("unlabelled", 4)
    assert step.agreement == pytest.approx(60)
    assert {step.top1, step.top5, step.drop, step.interval, step.p_value, step.more_images} == {None}
    assert (step.per_class, {flip.kind for flip in step.flips}) == ((), {"other"})


def test_accuracy_is_about_the_labelled_images() -> None:
    step = beside(blank(), answered(one_hot(BEFORE)), answered(one_hot(AFTER)), subset([*LABELS[:5], *[None] * 5]), 0.5)

    assert step.top1 == pytest.approx(80)
    assert step.drop == pytest.approx(0)
    assert (step.lost, step.gained) == (1, 1)
    assert step.agreement == pytest.approx(60)


def test_no_finite_logits_are_wrong_and_changed_even_where_both_have_none() -> None:
    broken = one_hot([0, 1, 2])
    broken[1] = np.nan

    step = beside(blank(), answered(broken), answered(broken), subset([0, 1, 2]), 0.5)

    assert (step.nonfinite, step.changed, step.snr_db) == (1, 1, -400.0)
    assert (step.flips[0].before, step.flips[0].after) == ("no finite logits",) * 2
    assert alone(blank(), answered(broken), subset([0, WRONG, 2])).top1 is not None


def test_top5_only_where_it_says_something() -> None:
    labels = [6, 0, 5]
    logits = np.tile(np.arange(7, dtype=np.float32), (3, 1))

    many = alone(blank(), answered(logits), subset(labels))
    few = alone(blank(), answered(logits[:, :5]), subset([0, 1, 2]))

    assert [many.top1, many.top5] == pytest.approx([100 / 3, 200 / 3])
    assert few.top5 is None


def test_some_images_are_taken_from_everywhere() -> None:
    chosen = choose_images(Squares([0] * 50 + [1] * 50), 10)

    assert chosen.labels.tolist() == [0] * 5 + [1] * 5
    assert (chosen.indices[0], chosen.indices[-1]) == (0, 99)
    assert choose_images(Squares([0, 1]), 10).indices.tolist() == [0, 1]


def test_images_that_would_decide() -> None:
    assert to_decide(3, 1, 500, 0.5) == FAR or (to_decide(3, 1, 500, 0.5) or 0) > 1000
    assert to_decide(5, 0, 1000, 0.5) is None  # the drop is the budget itself


def test_which_images_are_right_is_kept_in_bits() -> None:
    step = alone(blank(), answered(one_hot(BEFORE)), subset(LABELS))

    bits = np.unpackbits(np.frombuffer(base64.b64decode(step.right), np.uint8))
    assert bits.tolist() == [1, 1, 1, 0, 1, 1, 0, 1, 1, 1, 0, 0, 0, 0, 0, 0]
    assert alone(blank(), answered(one_hot([0])), subset([None])).right == ""


def test_a_thumbnail_is_a_small_png() -> None:
    image = np.zeros((300, 200, 3), np.uint8)
    image[:, :, 0] = 255

    with Image.open(BytesIO(base64.b64decode(thumbnail(image)))) as picture:
        assert (picture.format, picture.size) == ("PNG", (43, 64))
        assert picture.getpixel((5, 5)) == (255, 0, 0)
