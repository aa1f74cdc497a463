"""Keeping the constants of all groups together within a limit."""

from collections.abc import Sequence

from msgspec.structs import replace

from edgekit.errors import BudgetError
from edgekit.kernel_group import DEPTHWISE
from edgekit.tuning.words import RATIO, CandidateCost, KernelChoice


def fitted(choices: Sequence[KernelChoice], spare_bytes: int) -> list[KernelChoice]:
    """Choices whose constants together are at most so much larger than as trained.

    One group after another takes a form with smaller constants, always the change that costs least time for each byte
    that has to go; what it saves beyond these is worth nothing.

    Raises:
        BudgetError: Even the smallest forms are too large.
    """
    kept, slower = list(choices), by_cost if all_timed(choices) else by_ratio
    while (over := sum(map(extra_bytes, kept)) - spare_bytes) > 0:
        moves = [(index, way) for index, choice in enumerate(kept) for way in smaller(choice)]
        if not moves:
            raise BudgetError(
                f"With the kernels in their smallest form an artifact is {over:,} bytes or more above --max-size. "
                "Allow more, or choose a smaller model. Nothing was published."
            )
        prices = [slower(kept[index], way) / min(chosen_bytes(kept[index]) - way.bytes, over) for index, way in moves]
        index, way = moves[prices.index(min(prices))]
        kept[index] = replace(kept[index], form=way.form, source=f"--max-size; else {choices[index].form}")
    return kept


def chosen_bytes(choice: KernelChoice) -> int:
    """Bytes of a choice's constants."""
    return next(way.bytes for way in choice.candidates if way.form == choice.form)


def extra_bytes(choice: KernelChoice) -> int:
    """Bytes of a choice's constants beyond those of the form as trained."""
    return chosen_bytes(choice) - next(way.bytes for way in choice.candidates if way.form == DEPTHWISE)


def smaller(choice: KernelChoice) -> list[CandidateCost]:
    """The candidates with smaller constants than the chosen one."""
    return [way for way in choice.candidates if way.bytes < chosen_bytes(choice)]


def all_timed(choices: Sequence[KernelChoice]) -> bool:
    """Whether what candidates add is known of every group that has several, in one unit."""
    units = {choice.unit for choice in choices if len(choice.candidates) > 1}
    return len(units) == 1 and units != {RATIO}


def by_cost(choice: KernelChoice, way: CandidateCost) -> float:
    """What a change costs in time; an unknown cost is the highest."""
    current = next(each for each in choice.candidates if each.form == choice.form)
    if way.added is None or current.added is None:
        return float("inf")
    return way.added - current.added


def by_ratio(choice: KernelChoice, way: CandidateCost) -> float:
    """The same where costs of different groups cannot be compared: how much slower the group becomes."""
    current = next(each for each in choice.candidates if each.form == choice.form)
    if way.ratio is None:
        return float("inf")
    return way.ratio - (current.ratio or 1.0)
