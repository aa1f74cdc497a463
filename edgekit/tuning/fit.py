"""Keeping the constants of all groups together within a limit."""

from collections.abc import Sequence

from msgspec.structs import replace

from edgekit.errors import BudgetError
from edgekit.kernel_group import DEPTHWISE
from edgekit.tuning.words import CandidateCost, KernelChoice


def fitted(choices: Sequence[KernelChoice], spare_bytes: int) -> list[KernelChoice]:
    """Choices whose constants together are at most so much larger than as trained.

    One group after another takes a form with smaller constants, always the change that costs least time for each byte.

    Raises:
        BudgetError: Even the smallest forms are too large.
    """
    kept = list(choices)
    while (over := sum(map(extra_bytes, kept)) - spare_bytes) > 0:
        moves = [(index, way) for index, choice in enumerate(kept) for way in smaller(choice)]
        if not moves:
            raise BudgetError(
                f"The weights alone are {over:,} bytes above --max-size, with the kernels in their smallest form. "
                "Allow more, or choose a smaller model."
            )
        index, way = min(moves, key=lambda move: _price(kept[move[0]], move[1]))
        kept[index] = replace(kept[index], form=way.form, source=f"--max-size; else {choices[index].form}")
    return kept


def extra_bytes(choice: KernelChoice) -> int:
    """Bytes of a choice's constants beyond those of the form as trained."""
    needed = {way.form: way.bytes for way in choice.candidates}
    return needed[choice.form] - needed[DEPTHWISE]


def smaller(choice: KernelChoice) -> list[CandidateCost]:
    """The candidates with smaller constants than the chosen one."""
    current = next(way for way in choice.candidates if way.form == choice.form)
    return [way for way in choice.candidates if way.bytes < current.bytes]


def _price(choice: KernelChoice, way: CandidateCost) -> float:
    """What a change costs for each byte it saves; an unknown cost is the highest."""
    current = next(each for each in choice.candidates if each.form == choice.form)
    slower = (way.ratio or float("inf")) - (current.ratio or 1.0)
    if way.added is not None and current.added is not None:
        slower = way.added - current.added
    return slower / (current.bytes - way.bytes)
