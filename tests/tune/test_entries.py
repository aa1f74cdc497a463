"""From figures to the entry of a table: wrong answers are out, and of equals the smallest is chosen."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.kernel_group import candidates
from edgekit.tune.artifacts import EMPTY, Contest
from edgekit.tune.entries import RIGHT_DB, entry, form_cost, refused
from edgekit.tune.measure import Measured
from tests.kernels import GROUPS

PAIR = GROUPS["pair and local"]
X = np.linspace(-1, 1, 64, dtype=np.float64).reshape(1, 4, 4, 4)


def measured(costs: dict[str, list[float]], fastest: tuple[str, ...], **changed: Any) -> Measured:
    outputs = {name: X.astype(np.float32) for name in costs}
    return Measured(
        **{
            "package": "onnxruntime 1.31.1",
            "costs": costs,
            "fastest": fastest,
            "outputs": outputs,
            "failures": {},
            **changed,
        }
    )


def contest(names: list[str], **failures: str) -> Contest:
    return Contest(dict.fromkeys(names, (Path("x"),)), {}, dict.fromkeys(names, X), failures)


COSTS = {
    EMPTY: [1.0] * 12,
    "depthwise": [3.0] * 12,
    "toeplitz + depthwise": [2.0, 2.4, 2.2, 2.1] * 3,
    "dense": [2.0, 2.4, 2.2, 2.1] * 3,
    "matmul": [9.0],
}


def test_an_entry_has_the_costs_and_the_winner() -> None:
    found = entry(PAIR, measured(COSTS, ("dense",)), {})

    assert found is not None
    assert (found.group, found.empty, found.chosen, found.why, found.rounds) == (PAIR, 1.0, "dense", "fastest", 12)
    assert [form.form for form in found.forms] == [name for name in candidates(PAIR) if name in COSTS]
    assert found.forms[1] == form_cost("toeplitz + depthwise", COSTS["dense"], COSTS["dense"])
    assert [found.forms[1].low, found.forms[1].cost, found.forms[1].high] == pytest.approx([2.0, 2.1, 2.15])


def test_what_dropped_out_early_is_judged_by_the_rounds_it_ran_in() -> None:
    """The machine was three times as fast once the slower one had been sent home."""
    leader = [3.0] * 12 + [1.0] * 24
    assert form_cost("dense", [6.0] * 12, leader).cost == 2.0
    assert form_cost("dense", [6.0] * 12, leader).low == 6.0
    assert form_cost("dense", [6.0], leader).cost == 6.0  # a hopeless one has no rounds to compare


def test_of_equals_the_one_with_the_smallest_constants_is_chosen() -> None:
    sizes = {name: way.bytes for name, way in candidates(PAIR).items()}
    assert sizes["toeplitz + depthwise"] < sizes["dense"] < sizes["matmul"]
    for order in (("dense", "toeplitz + depthwise"), ("toeplitz + depthwise", "dense")):
        found = entry(PAIR, measured(COSTS, order), {})
        assert found is not None
        assert (found.chosen, found.why) == ("toeplitz + depthwise", "equal")


def test_of_equals_of_one_size_the_one_as_trained_is_chosen() -> None:
    costs = {EMPTY: [1.0], "depthwise": [2.0], "pieces": [2.0]}
    found = entry(GROUPS["plane"], measured(costs, ("pieces", "depthwise")), {})
    assert found is not None
    assert (found.chosen, found.why) == ("depthwise", "equal")


def test_a_form_that_was_refused_is_not_in_the_entry_even_if_it_won() -> None:
    found = entry(PAIR, measured(COSTS, ("dense",)), {"dense": "wrong: 3.0 dB"})
    assert found is not None
    assert "dense" not in {form.form for form in found.forms}
    assert found.chosen == "toeplitz + depthwise"  # the cheapest of those that are right


@pytest.mark.parametrize("costs", [{EMPTY: [1.0]}, {"depthwise": [1.0]}, {}], ids=["no form", "no floor", "nothing"])
def test_without_a_form_or_what_is_around_it_there_is_no_entry(costs: dict[str, list[float]]) -> None:
    assert entry(PAIR, measured(costs, ()), {}) is None


def test_whatever_does_not_run_or_answers_wrongly_is_refused_with_the_reason() -> None:
    names = [EMPTY, "depthwise", "dense", "matmul", "toeplitz + depthwise"]
    noise = X * (1 + 10 ** (-(RIGHT_DB - 1) / 20))
    outputs = {
        "depthwise": X.astype(np.float32),
        "dense": (X * 1.01).astype(np.float32),
        "toeplitz + depthwise": noise,
        "matmul": X[:, :2].astype(np.float32),
    }
    found = refused(
        contest(names, rows="the converter failed"),
        measured({}, (), outputs=outputs, failures={"pieces": "no such operator"}),
    )

    assert found == {
        "rows": "the converter failed",
        "pieces": "no such operator",
        "dense": "wrong: 40.0 dB",
        "toeplitz + depthwise": "wrong: 99.0 dB",
        "matmul": "wrong: shape (1, 2, 4, 4) instead of (1, 4, 4, 4)",
    }


def test_a_dead_answer_is_wrong() -> None:
    found = refused(contest(["dense"]), measured({}, (), outputs={"dense": np.full_like(X, np.nan, dtype=np.float32)}))
    assert found == {"dense": "wrong: -400.0 dB"}
