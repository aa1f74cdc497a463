"""From tables to a form: who decides, what the user asks for, and what happens where nobody knows."""

from typing import Any

import pytest

from edgekit.errors import MisuseError
from edgekit.kernel_group import FORMS, KernelGroup, candidates
from edgekit.tuning.choose import Chooser, Override, as_trained, combined, parse_overrides, together
from edgekit.tuning.nearest import Place
from edgekit.tuning.tables import Table
from edgekit.tuning.words import KernelChoice
from tests.kernels import GROUPS, circular, group, same
from tests.tables import HERE, entry, only, table

PAIR, ROW, PLANE = GROUPS["pair and local"], GROUPS["row"], GROUPS["plane"]
PLACES = [(PAIR, "stages.0.0.mixer"), (PAIR, "stages.0.1.mixer"), (ROW, "head.pool"), (PLANE, "stem")]


def chooser(*own: Table, rules: tuple[Table, ...] = (), place: Place = HERE, **changed: Any) -> Chooser:
    return Chooser(runtime="onnxruntime", place=place, own=own, rules=rules, **changed)


def chosen(of: KernelGroup, *own: Table, **changed: Any) -> KernelChoice:
    (choice,) = chooser(*own, **changed)([(of, "some.module")], 0)
    return choice


def test_the_fastest_form_that_was_measured_is_chosen_with_what_it_adds() -> None:
    costs = {"depthwise": 4.0, "dense": 2.5, "toeplitz + depthwise": 2.0}
    choice = chosen(PAIR, table(entry(PAIR, costs, empty=1.0)))

    assert (choice.form, choice.unit, choice.sites) == ("toeplitz + depthwise", "ms", ("some.module",))
    assert choice.source == "measured here: onnxruntime 1.31.1 on Zen 3, 1 thread, 2026-11-21"
    assert [way.form for way in choice.candidates] == list(candidates(PAIR))
    assert [way.bytes for way in choice.candidates] == [way.bytes for way in candidates(PAIR).values()]
    assert {way.form: way.added for way in choice.candidates if way.added is not None} == {
        "depthwise": 3.0,
        "toeplitz + depthwise": 1.0,
        "dense": 1.5,
    }
    ratios = {way.form: way.ratio for way in choice.candidates if way.ratio is not None}
    assert ratios == pytest.approx({"depthwise": 2.0, "toeplitz + depthwise": 1.0, "dense": 1.25})


def test_what_the_table_chose_counts_and_not_the_lowest_cost() -> None:
    """Of forms that nothing tells apart the smallest was chosen; or the network as a whole was slower."""
    measured = entry(PAIR, {"depthwise": 2.01, "dense": 2.0}, chosen="depthwise")
    assert chosen(PAIR, table(measured)).form == "depthwise"


def test_a_form_the_group_does_not_have_gives_way_to_the_best_it_has() -> None:
    """Near as it is, the group of the rules may be smaller or have no bias inside."""
    measured = entry(PAIR, {"depthwise": 3.0, "toeplitz + pieces": 2.0, "dense": 1.0})
    biased = group((same(17, 1, bias=True), same(1, 13)), (same(7, 7),))

    choice = chosen(biased, rules=(table(measured),))

    assert "dense" not in candidates(biased)
    assert choice.form == "toeplitz + pieces"
    assert choice.source.startswith("rules: ")


def test_a_like_group_tells_how_forms_compare_and_not_what_they_add() -> None:
    near = group(*PAIR.chains, channels=8)
    choice = chosen(PAIR, rules=(table(entry(near, {"depthwise": 3.0, "dense": 1.5})),))

    assert (choice.form, choice.unit) == ("dense", "ratio")
    assert all(way.added is None for way in choice.candidates)
    assert next(way.ratio for way in choice.candidates if way.form == "depthwise") == pytest.approx(2.0)


def test_each_kind_is_as_its_largest_convolution_where_nothing_like_the_group_was_measured() -> None:
    rules = (table(only(group((same(1, 101),)), "toeplitz"), only(group((same(9, 9),)), "pieces")),)

    choice = chosen(PAIR, rules=rules)

    assert choice.form == "toeplitz + pieces"
    assert choice.source == "rules, for each kind of convolution by itself"
    assert chosen(GROUPS["local and row"], rules=rules).form == "toeplitz + pieces"
    assert chosen(GROUPS["pair"], rules=rules).form == "toeplitz"
    only_planes = (table(only(group((same(9, 9),)), "pieces")),)
    assert chosen(PAIR, rules=only_planes).form == "depthwise + pieces"


def test_by_kind_a_form_of_the_whole_says_nothing_and_circular_ones_are_another_kind() -> None:
    pixels = (table(only(group((same(1, 101),)), "matmul"), only(group((same(9, 9),)), "matmul")),)
    assert chosen(PAIR, rules=pixels).source == "as trained: nothing like it was measured"
    rings = (table(only(group((circular(1, 7),)), "toeplitz")),)
    assert chosen(PAIR, rules=rings).form == "depthwise"
    assert chosen(GROUPS["circular pair"], rules=rings).form == "toeplitz"


@pytest.mark.parametrize("name", GROUPS)
def test_a_group_that_no_table_knows_is_as_trained(name: str) -> None:
    choice = chosen(GROUPS[name])
    assert (choice.form, choice.unit) == ("depthwise", "ratio")
    assert choice.source == "as trained: nothing like it was measured"


def test_as_trained_asks_nobody() -> None:
    assert {(choice.form, choice.source) for choice in as_trained(PLACES, 0)} == {("depthwise", "as trained")}


# -- several architectures --------------------------------------------------------------------------------------------

BOTH = Place(("aarch64", "armv7l"), "Cortex-A53", frozenset())


def test_one_file_for_two_architectures_has_the_form_that_is_best_on_the_average() -> None:
    fast = {"depthwise": 4.0, "toeplitz + depthwise": 1.0, "dense": 1.5}
    slow = {"depthwise": 20.0, "toeplitz + depthwise": 30.0, "dense": 16.0}
    rules = (
        table(entry(PAIR, fast), architecture="aarch64"),
        table(entry(PAIR, slow), architecture="armv7l", unit="instructions"),
    )

    choice = chosen(PAIR, rules=rules, place=BOTH)

    assert (choice.form, choice.unit) == ("dense", "ratio")
    assert choice.source.count("rules: ") == 2
    assert all(way.added is None for way in choice.candidates)
    alone = Place(("aarch64",), "Cortex-A53", frozenset())
    assert chosen(PAIR, rules=rules, place=alone).form == "toeplitz + depthwise"


def test_costs_of_architectures_are_averaged_as_ratios() -> None:
    one, other = {"a": 1.0, "b": 4.0, "c": 1.0}, {"a": 30.0, "b": 10.0}
    assert combined([one, other]) == pytest.approx({"a": 3**0.5, "b": 2.0})
    assert combined([one]) == pytest.approx(one)
    assert combined([]) == combined([one, {}]) == {}


def test_an_architecture_that_knows_nothing_leaves_it_to_the_other() -> None:
    rules = (table(only(PAIR, "dense"), architecture="armv7l"),)
    assert chosen(PAIR, rules=rules, place=BOTH).form == "dense"


# -- what the user asks for -------------------------------------------------------------------------------------------

ALL_TABLES = (table(only(PAIR, "dense"), only(ROW, "toeplitz"), only(PLANE, "pieces")),)


def forms(*asked: str) -> list[str]:
    return [choice.form for choice in chooser(*ALL_TABLES, overrides=parse_overrides(asked))(PLACES, 0)]


def test_what_is_asked_for_comes_before_what_was_measured() -> None:
    assert forms() == forms("auto") == ["dense", "dense", "toeplitz", "pieces"]
    assert forms("depthwise") == ["depthwise"] * 4
    assert forms("matmul") == ["matmul"] * 4
    assert forms("stages.*=matmul") == ["matmul", "matmul", "toeplitz", "pieces"]
    assert forms("stages.0.1.*=depthwise", "stem=rows") == ["dense", "depthwise", "toeplitz", "rows"]


def test_of_patterns_that_match_the_last_one_counts() -> None:
    assert forms("matmul", "stages.*=depthwise") == ["depthwise", "depthwise", "matmul", "matmul"]
    assert forms("stages.*=depthwise", "matmul") == ["matmul"] * 4
    assert forms("matmul", "head.*=auto") == ["matmul", "matmul", "toeplitz", "matmul"]


def test_a_form_that_only_some_convolutions_have_is_written_for_those_with_the_fastest_for_the_rest() -> None:
    costs = {"depthwise": 9.0, "toeplitz + depthwise": 4.0, "toeplitz + pieces": 2.0, "toeplitz + rows": 3.0}
    asked = parse_overrides(("toeplitz",))
    assert chosen(PAIR, table(entry(PAIR, costs)), overrides=asked).form == "toeplitz + pieces"
    assert chosen(PAIR, overrides=asked).form == "toeplitz + depthwise"


def test_a_form_that_a_group_does_not_have_is_said_and_not_pretended() -> None:
    choice = chosen(ROW, *ALL_TABLES, overrides=parse_overrides(("dense",)))
    assert (choice.form, choice.source.partition(":")[0]) == ("toeplitz", "not to be had as dense; measured here")


def test_a_pattern_that_meets_nothing_is_a_slip() -> None:
    with pytest.raises(
        MisuseError, match=r"--lowering stage\.\*=dense meets no large depthwise kernel\. There are: st"
    ):
        forms("stage.*=dense")
    with pytest.raises(MisuseError, match="There are: none"):
        chooser(overrides=parse_overrides(("a=dense",)))([], 0)
    assert chooser(overrides=parse_overrides(("dense",)))([], 0) == []


@pytest.mark.parametrize("form", [*FORMS, "auto"])
def test_every_form_can_be_asked_for(form: str) -> None:
    assert parse_overrides((form, f"a.b=c.*={form}")) == (Override("*", form), Override("a.b=c.*", form))


@pytest.mark.parametrize("text", ["fast", "toeplitz=", "", "stages.*=Dense", "toeplitz + depthwise"])
def test_an_unknown_form_is_refused_with_those_there_are(text: str) -> None:
    with pytest.raises(MisuseError, match=r"There is no lowering .*\. Choose depthwise, toeplitz, .* matmul or auto"):
        parse_overrides((text,))


def test_groups_that_were_decided_alike_are_told_once() -> None:
    told = together(chooser(*ALL_TABLES, overrides=parse_overrides(("stages.0.1.*=matmul",)))(PLACES, 0))
    assert [(each.form, each.sites) for each in told] == [
        ("dense", ("stages.0.0.mixer",)),
        ("matmul", ("stages.0.1.mixer",)),
        ("toeplitz", ("head.pool",)),
        ("pieces", ("stem",)),
    ]
    assert together(as_trained(PLACES, 0))[0].sites == ("stages.0.0.mixer", "stages.0.1.mixer")
