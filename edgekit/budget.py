"""The fastest set of quantized operators whose drop in accuracy stays inside a budget.

    quantize all -> inside? -> measure each layer alone -> give back the worst 1, 2, 4, ... -> as few as are enough

The worst is the layer that costs most accuracy for what it saves: the energy of the error that it alone makes in the
outputs, over the time that it alone saves. Where it is not known of all layers what they save, it is the one that costs
most accuracy.

The drop is paired: the float file and the quantized one answer the same labelled images, none of which was calibrated
with, and only those they disagree on count. Inside the budget means that the whole 95 % interval is.
"""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import log10
from pathlib import Path

import numpy as np
from msgspec import structs
from numpy.typing import NDArray

from edgekit.artifact import OperatorPrecision, Trial
from edgekit.errors import BudgetError, MisuseError, ParityError
from edgekit.evaluation.statistics import decide, drop_interval, images_needed, points
from edgekit.material import Material
from edgekit.quant import Quantizer
from edgekit.quant.recipe import Ranges, Recipe
from edgekit.quantize import Choice, Made, carry_out, choose
from edgekit.runners import load
from edgekit.tuning.precision import PrecisionChooser

Answers = NDArray[np.bool_]
"""Which images a file answers right."""

LOST_DB = -400.0
"""The SNR of a layer that cannot be quantized alone."""


def make_within(
    source: Path,
    target: Path,
    quantizer: Quantizer,
    recipe: Recipe,
    material: Material,
    keep: Sequence[str],
    max_drop: float | None,
    decide: PrecisionChooser | None = None,
    ranges: Ranges | None = None,
) -> Made:
    """Quantizes a float file, as much of it as a budget allows.

    Args:
        source: The float file.
        target: Where to write.
        quantizer: Of the file's format.
        recipe: How.
        material: Images.
        keep: Patterns of what stays float whatever the budget.
        max_drop: Points of top-1 that may be lost; None for no budget.
        decide: Chooses by what was measured; None leaves it to structure.
        ranges: How the ranges of static activations are chosen; None for what was best in the format.

    Raises:
        MisuseError: There is nothing to quantize, or the images have no labels.
        NoGainError: Nothing is faster in int8.
        BudgetError: No mix of precisions stays inside the budget for certain; nothing is left.
        ParityError: The outputs are not the network's any more.
    """
    choice = choose(source, quantizer, recipe, keep, decide)
    if max_drop is None:
        return carry_out(source, target, quantizer, recipe, material, choice, ranges)
    search = _Search(source, quantizer, recipe, material, max_drop, ranges)
    first = search.attempt(choice)
    if first.decision == "within":
        return search.finish(choice, target, {})
    alone = search.alone(choice)
    ranked = given_back(choice, alone)
    kept = fewest(len(ranked) - 1, lambda count: search.attempt(without(choice, ranked[:count])).decision == "within")
    if kept is None:
        raise search.failure()
    return search.finish(without(choice, ranked[:kept]), target, alone)


def without(choice: Choice, names: Sequence[str]) -> Choice:
    """The choice with some layers given back, as sensitive."""
    return replace(choice, why={**choice.why, **dict.fromkeys(names, "sensitive")})


def given_back(choice: Choice, alone: Mapping[str, float]) -> list[str]:
    """The chosen layers in the order in which they go back to float, given the SNR of the outputs with each alone."""
    saved = {name: choice.verdicts[name].saved for name in choice.chosen if name in choice.verdicts}
    gains = {name: gain for name, gain in saved.items() if gain is not None and gain > 0}
    if len(gains) < len(choice.chosen):
        return sorted(choice.chosen, key=lambda name: alone[name])
    return sorted(choice.chosen, key=lambda name: alone[name] / 10 + log10(gains[name]))


def fewest(most: int, enough: Callable[[int], bool]) -> int | None:
    """The least number from 1 to `most` that is enough, given that more than enough is enough; None where none is.

    Doubles until it is enough, then halves what is open.
    """
    low, count = 0, 1
    while count <= most and not enough(count):
        low, count = count, 2 * count
    if count > most:
        if low == most or most < 1 or not enough(most):
            return None
        count = most
    while count - low > 1:
        middle = (low + count) // 2
        low, count = (low, middle) if enough(middle) else (middle, count)
    return count


class _Search:
    """What has been tried so far, and the float file's answers to compare with."""

    def __init__(
        self,
        source: Path,
        quantizer: Quantizer,
        recipe: Recipe,
        material: Material,
        max_drop: float,
        ranges: Ranges | None,
    ) -> None:
        self._source, self._quantizer, self._recipe = source, quantizer, recipe
        self._material, self._max_drop = material, max_drop
        self._ranges: Ranges | None = ranges
        self._right = answers(quantizer.runtime, source, material)
        self._trials: list[Trial] = []
        self._discordant = (0, 0)

    def attempt(self, choice: Choice) -> Trial:
        """Quantizes a choice and counts what it costs."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"trial{self._quantizer.suffix}"
            try:
                self._carry_out(choice, path)
                right = answers(self._quantizer.runtime, path, self._material)
            except ParityError:  # below the floor of any quantization
                right = np.zeros_like(self._right)
        lost, gained = int(np.sum(self._right & ~right)), int(np.sum(~self._right & right))
        interval = drop_interval(lost, gained, len(right))
        trial = Trial(
            quantized=len(choice.chosen),
            images=len(right),
            top1=float(np.mean(right)),
            drop=points(lost, gained, len(right)),
            interval=interval,
            decision=decide(interval, self._max_drop),
        )
        self._trials.append(trial)
        self._discordant = lost, gained
        return trial

    def alone(self, choice: Choice) -> dict[str, float]:
        """The SNR of the outputs with each layer quantized and no other."""
        found = {}
        with tempfile.TemporaryDirectory() as folder:
            for name in choice.chosen:
                others = [other for other in choice.chosen if other != name]
                path = Path(folder) / f"alone{self._quantizer.suffix}"
                try:
                    found[name] = self._carry_out(without(choice, others), path, draft=True).record.held_out.snr_db
                except ParityError:
                    found[name] = LOST_DB
        return found

    def finish(self, choice: Choice, target: Path, alone: dict[str, float]) -> Made:
        """Writes the artifact, with the trials that led to it."""
        made = self._carry_out(choice, target)
        operators = tuple(_with(each, alone.get(each.name)) for each in made.record.operators)
        record = structs.replace(made.record, operators=operators, max_drop=self._max_drop, trials=tuple(self._trials))
        return Made(made.files, record)

    def failure(self) -> BudgetError:
        """What to say when nothing is inside the budget: the best that was found, and what would help."""
        best = min(self._trials, key=lambda trial: trial.interval[1])
        low, high = best.interval
        more = images_needed(*self._discordant, best.images)
        return BudgetError(
            f"No mix of precisions stays within {self._max_drop:g} points for certain. The best found has "
            f"{best.quantized} layers in {self._recipe.precision} and loses {best.drop:+.2f} points, {low:+.2f} to "
            f"{high:+.2f} with 95 % confidence, on {best.images} images; about {more:,} images would tell "
            "drops of 0.3 points apart. Allow more with --max-drop, or give more images. Nothing was published."
        )

    def _carry_out(self, choice: Choice, path: Path, *, draft: bool = False) -> Made:
        return carry_out(
            self._source, path, self._quantizer, self._recipe, self._material, choice, self._ranges, draft=draft
        )


def _with(operator: OperatorPrecision, alone: float | None) -> OperatorPrecision:
    return operator if alone is None else structs.replace(operator, alone_db=alone)


def answers(runtime: str, path: Path, material: Material) -> Answers:
    """Which of the labelled images a file answers right.

    Raises:
        MisuseError: No image has a label, or the outputs are not one score per class.
    """
    found = []
    with load(runtime, path) as runner:
        if len(runner.outputs) != 1 or len(runner.outputs[0].shape) != 2:
            raise MisuseError("--max-drop counts right answers, and this network gives no scores of classes.")
        for images, label in material.answering():
            (scores,) = runner.run(images).values()
            found.append(int(np.argmax(scores)) == label)
    if not found:
        raise MisuseError("--max-drop counts right answers, and no image of --data has a label.")
    return np.asarray(found)
