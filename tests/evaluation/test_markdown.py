"""An evaluation in words."""

import pytest
from msgspec import structs

from edgekit.evaluation.compare import alone, beside
from edgekit.evaluation.markdown import markdown
from edgekit.evaluation.record import Evaluation
from edgekit.evaluation.wording import conclusions, drop_text, p_text, percent, snr_text
from tests.evaluation.images import answered, blank, evaluation, one_hot, subset

LABELS = [0, 1] * 200


def evaluated(*lost: int, max_drop: float = 0.5) -> Evaluation:
    """torch, and one artifact for each number of images it loses."""
    first, images = answered(one_hot(LABELS)), subset(LABELS)
    steps = [alone(blank("torch fp32", "c" * 64, ""), first, images)]
    for number, count in enumerate(lost):
        own = answered(one_hot([2] * count + LABELS[count:]))
        steps.append(beside(blank(f"net{number}.onnx"), first, own, images, max_drop))
    return structs.replace(evaluation(*steps), max_drop=max_drop)


def test_the_first_step_over_the_budget_is_named() -> None:
    made = evaluated(0, 4, 40, 50)

    assert [step.verdict for step in made.steps] == ["first", "alike", "undecided", "over", "over"]
    assert made.blamed is made.steps[3]
    told = list(conclusions(made))
    assert told[0] == "net2.onnx is the first step that is over the budget of 0.5 points."
    assert told[1].startswith("net1.onnx is undecided: its drop is beyond the budget, its interval on both sides of it")
    assert told[2].startswith("Every image is answered as before by net0.onnx; so few images may leave 0.")
    assert told[3].endswith("more images would resolve 0.3 points in every step that is not over.")


def test_a_drop_that_only_seems_to_be_over_is_said_to() -> None:
    made = evaluated(0, 4)

    assert made.blamed is made.steps[2]
    assert next(conclusions(made)) == "net1.onnx is the first step that seems to be over the budget of 0.5 points."


def test_nothing_is_blamed_within_the_budget() -> None:
    made = evaluated(0, 4, max_drop=5.0)

    assert made.blamed is None
    assert [step.verdict for step in made.steps] == ["first", "within", "within"]


def test_markdown_has_the_waterfall_and_what_changed() -> None:
    text = markdown(evaluated(4, 40), {"a" * 64: "1.23 ± 0.01 ms"})

    assert "| `torch fp32` | 1.00 MiB |  | 100.00 % |  |  |  |  |  |  |" in text
    assert "| `net1.onnx` | 1.00 MiB | 1.23 ± 0.01 ms | 90.00 % |  | 10.00 [" in text
    assert "| **OVER** |" in text
    assert "| `squares/0` | cat | cat by 1.00 | owl by 1.00 | lost |" in text
    assert "| cat | 200 | 20 | 0 | 10.0 |" in text
    assert "squares: 4 images, 2 classes" in text


@pytest.mark.parametrize(("value", "text"), [(None, ""), (0.0625, "0.062"), (1.0, "1.000"), (2.4e-7, "2e-07")])
def test_probabilities(value: float | None, text: str) -> None:
    assert p_text(value) == text


def test_figures() -> None:
    step = structs.replace(blank(), drop=-0.001, interval=(-0.5, 0.004))

    assert drop_text(step) == "0.00 [-0.50, 0.00]"
    assert (percent(96.4), percent(None)) == ("96.40 %", "")
    assert (snr_text(400.0), snr_text(23.46), snr_text(None)) == ("equal", "23.5 dB", "")
