"""A limit on the constants is kept, at the least cost in time."""

import itertools

import pytest

from edgekit.errors import BudgetError
from edgekit.kernel_group import KernelGroup, candidates
from edgekit.tuning.choose import Chooser
from edgekit.tuning.fit import extra_bytes, fitted
from edgekit.tuning.words import RATIO, CandidateCost, KernelChoice
from tests.kernels import GROUPS, group, same
from tests.tables import HERE, entry, table


def choice(form: str, unit: str = "ms", **ways: tuple[int, float | None]) -> KernelChoice:
    """A group chosen in a form; every way has its bytes, and what it adds (a ratio, where that is the unit)."""
    costs = tuple(
        CandidateCost(form=name, bytes=size, added=None, ratio=cost)
        if unit == RATIO
        else CandidateCost(form=name, bytes=size, added=cost, ratio=None)
        for name, (size, cost) in ways.items()
    )
    return KernelChoice(group=form, sites=("a",), form=form, source="measured", unit=unit, candidates=costs)


LARGE = choice("matmul", depthwise=(100, 9.0), toeplitz=(400, 4.0), matmul=(1000, 1.0))
SMALL = choice("toeplitz", depthwise=(50, 2.0), toeplitz=(150, 1.0))


def forms(choices: list[KernelChoice], spare: int) -> list[str]:
    return [each.form for each in fitted(choices, spare)]


def test_what_fits_stays() -> None:
    assert fitted([LARGE, SMALL], 1000) == [LARGE, SMALL]
    assert extra_bytes(LARGE) + extra_bytes(SMALL) == 1000


def test_the_change_that_costs_least_for_each_byte_comes_first() -> None:
    # From matmul to toeplitz 3 ms buy 600 bytes, to depthwise 8 ms buy 900; of the small one 1 ms buys 100.
    assert forms([LARGE, SMALL], 999) == ["matmul", "depthwise"]  # where one byte has to go, 600 are no better
    assert forms([LARGE, SMALL], 900) == ["matmul", "depthwise"]
    assert forms([LARGE, SMALL], 650) == ["toeplitz", "toeplitz"]
    assert forms([LARGE, SMALL], 400) == ["toeplitz", "toeplitz"]
    assert forms([LARGE, SMALL], 399) == ["toeplitz", "depthwise"]
    assert forms([LARGE, SMALL], 300) == ["toeplitz", "depthwise"]
    assert forms([LARGE, SMALL], 299) == ["depthwise", "depthwise"]
    assert forms([LARGE, SMALL], 0) == ["depthwise", "depthwise"]


@pytest.mark.parametrize("spare", range(0, 1001, 50))
def test_the_limit_is_kept_and_no_more_than_that_is_given_up_needlessly(spare: int) -> None:
    kept = fitted([LARGE, SMALL], spare)
    assert sum(map(extra_bytes, kept)) <= spare
    least = min(
        sum(map(added, pair))
        for pair in itertools.product(ways(LARGE), ways(SMALL))
        if sum(each.bytes for each in pair) - 150 <= spare
    )
    paid = sum(added(next(way for way in ways(each) if way.form == each.form)) for each in kept)
    assert paid <= 1.5 * least  # greedy, not the very best


def ways(of: KernelChoice) -> tuple[CandidateCost, ...]:
    return of.candidates


def added(way: CandidateCost) -> float:
    assert way.added is not None
    return way.added


def test_what_was_changed_says_why() -> None:
    (kept,) = fitted([LARGE], 300)
    assert (kept.form, kept.source) == ("toeplitz", "--max-size; else matmul")
    (kept,) = fitted([LARGE], 0)
    assert kept.source == "--max-size; else matmul"


def test_a_form_whose_cost_nobody_knows_is_the_last_resort() -> None:
    unknown = choice("toeplitz", depthwise=(50, None), toeplitz=(450, 1.0))
    assert forms([unknown, LARGE], 800) == ["toeplitz", "toeplitz"]
    assert forms([unknown, LARGE], 400) == ["toeplitz", "depthwise"]
    assert forms([unknown, LARGE], 0) == ["depthwise", "depthwise"]


def test_milliseconds_and_ratios_are_not_held_against_each_other() -> None:
    """The group with 200 ms at stake is known as a ratio only: then ratios decide for both."""
    timed = KernelChoice(
        group="timed",
        sites=("a",),
        form="toeplitz",
        source="",
        unit="ms",
        candidates=(
            CandidateCost(form="depthwise", bytes=0, added=200.0, ratio=1.1),
            CandidateCost(form="toeplitz", bytes=100, added=100.0, ratio=1.0),
        ),
    )
    compared = choice("toeplitz", RATIO, depthwise=(0, 5.0), toeplitz=(100, 1.0))
    assert forms([timed, compared], 100) == ["depthwise", "toeplitz"]


def test_a_group_as_trained_may_become_smaller_still() -> None:
    """One matrix of a strided group can have fewer numbers than its kernel."""
    over = choice("depthwise", depthwise=(100, 1.0), toeplitz=(40, 2.0))
    assert forms([over], -1) == ["toeplitz"]
    assert sum(map(extra_bytes, fitted([over], -60))) == -60


def test_a_limit_that_nothing_keeps() -> None:
    with pytest.raises(
        BudgetError, match=r"With the kernels in their smallest form an artifact is 1,234 bytes or more"
    ):
        fitted([LARGE, SMALL], -1234)
    with pytest.raises(BudgetError, match="Nothing was published"):
        fitted([], -1)
    assert fitted([], 0) == []


def test_a_chooser_keeps_the_program_within_its_limit() -> None:
    row, plane = group((same(1, 61),)), GROUPS["plane"]
    tables = (
        table(
            entry(row, {"depthwise": 2.0, "toeplitz": 1.1, "matmul": 1.05}),
            entry(plane, {"depthwise": 3.0, "pieces": 2.0, "rows": 1.9}),
        ),
    )

    def chosen(limit: int | None) -> list[tuple[KernelGroup, str]]:
        chooser = Chooser(runtime="onnxruntime", place=HERE, own=tables, rules=(), max_bytes=limit)
        places = [(row, "a"), (plane, "b")]
        return [(of, each.form) for (of, _), each in zip(places, chooser(places, 10_000), strict=True)]

    def size(found: list[tuple[KernelGroup, str]]) -> int:
        return 10_000 + sum(candidates(of)[form].bytes - candidates(of)["depthwise"].bytes for of, form in found)

    assert [form for _, form in chosen(None)] == ["matmul", "rows"]
    for limit in (100_000, 80_000, 20_000, 15_000, 12_000, 10_000, 9_900):
        found = chosen(limit)
        assert size(found) <= limit
        assert limit < size([(row, "matmul"), (plane, "rows")]) or found == chosen(None)
    with pytest.raises(BudgetError):
        chosen(9_000)
