"""What is kept of logits."""

from pathlib import Path

import numpy as np
import pytest

from edgekit.evaluation.outcomes import KEPT, WRONG, Outcomes, load_outcomes
from tests.evaluation.images import answered, one_hot


def test_classes_by_falling_logit_and_the_margin() -> None:
    outcomes = answered(np.array([[0.5, 3.0, -1.0, 2.25, 2.0, 1.0, 0.0]], np.float32))

    assert outcomes.ranked[0].tolist() == [1, 3, 4, 5, 0]
    assert outcomes.margins[0] == 0.75
    assert outcomes.done == outcomes.images == 1


def test_fewer_classes_than_ranks_and_ties_by_number() -> None:
    outcomes = answered(np.array([[2.0, 2.0]], np.float32))

    assert outcomes.ranked[0].tolist() == [0, 1, WRONG, WRONG, WRONG]
    assert outcomes.margins[0] == 0.0
    assert answered(np.ones((1, 1), np.float32)).ranked[0].tolist() == [0, *[WRONG] * 4]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_no_answer(value: float) -> None:
    outcomes = answered(np.array([[1.0, value, 0.0], [0.0, 1.0, 0.0]], np.float32))

    assert outcomes.predicted.tolist() == [WRONG, 1]
    assert outcomes.margins.tolist() == [0.0, 1.0]


def test_logits_of_evenly_spread_images_are_kept() -> None:
    logits = one_hot([0, 1, 2] * 1000, margin=np.arange(3000).tolist())

    outcomes = answered(logits)

    assert len(outcomes.kept) == KEPT
    assert (outcomes.kept[0], outcomes.kept[-1]) == (0, 2999)
    assert np.ptp(np.diff(outcomes.kept)) <= 1
    np.testing.assert_array_equal(outcomes.logits, logits[outcomes.kept])


def test_a_million_images_take_a_few_bytes_each() -> None:
    outcomes = Outcomes.empty(1_000_000, 1000)

    held = outcomes.ranked.nbytes + outcomes.margins.nbytes + outcomes.kept.nbytes + outcomes.logits.nbytes
    assert held < 26 * 1_000_000


def test_answers_come_back_from_a_file_and_go_on(tmp_path: Path) -> None:
    logits = one_hot([0, 1, 2, 0, 1])
    whole, part = answered(logits), Outcomes.empty(5, 3)
    part.take(logits[:3])
    part.save(tmp_path / "x.npz")

    found = load_outcomes(tmp_path / "x.npz", 5, 3)

    assert found is not None
    assert found.done == 3
    found.take(logits[3:])
    for name in ("ranked", "margins", "logits"):
        np.testing.assert_array_equal(getattr(found, name), getattr(whole, name))


@pytest.mark.parametrize(("images", "classes"), [(6, 3), (5, 4)])
def test_answers_to_other_images_are_none(tmp_path: Path, images: int, classes: int) -> None:
    answered(one_hot([0, 1, 2, 0, 1])).save(tmp_path / "x.npz")

    assert load_outcomes(tmp_path / "x.npz", images, classes) is None


@pytest.mark.parametrize("content", [b"", b"garbage"])
def test_a_damaged_file_is_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.npz").write_bytes(content)

    assert load_outcomes(tmp_path / "x.npz", 5, 3) is None
    assert load_outcomes(tmp_path / "nothing.npz", 5, 3) is None
