"""The whole network: which variants differ, what the groups let expect, and when its groups stay as they were."""

from typing import Any

import pytest

from edgekit.artifact import Parity
from edgekit.kernel_group import KernelGroup
from edgekit.network import Lowered
from edgekit.numerics import EQUAL_DB
from edgekit.tune.run import demoted, slower_than
from edgekit.tune.whole import AS_TRAINED, BEFORE, TUNED, Variant, distinct, forms_of, predicted
from edgekit.tuning.words import KernelChoice
from tests.kernels import GROUPS
from tests.tables import entry, only

PAIR, ROW = GROUPS["pair and local"], GROUPS["row"]


def lowered(*choices: tuple[KernelGroup, str, str], source: str = "") -> Lowered:
    """A network with these groups: at a place, in a form."""
    made = (
        KernelChoice(group=str(group), sites=(site,), form=form, source=source, unit="ms", candidates=())
        for group, site, form in choices
    )
    nothing: Any = None
    return Lowered(program=nothing, certificates=(), choices=tuple(made))


TRAINED = lowered((PAIR, "a", "depthwise"), (ROW, "b", "depthwise"))
FAST = lowered((PAIR, "a", "dense"), (ROW, "b", "toeplitz"))
MIXED = lowered((PAIR, "a", "dense"), (ROW, "b", "depthwise"))


@pytest.mark.parametrize(
    ("made", "kept"),
    [
        ((TRAINED, MIXED, FAST), [AS_TRAINED, BEFORE, TUNED]),
        ((TRAINED, TRAINED, FAST), [BEFORE, TUNED]),
        ((TRAINED, FAST, FAST), [AS_TRAINED, TUNED]),
        ((TRAINED, FAST, TRAINED), [BEFORE, TUNED]),
        ((TRAINED, TRAINED, TRAINED), [TUNED]),
    ],
)
def test_variants_that_agree_are_measured_once(made: tuple[Lowered, ...], kept: list[str]) -> None:
    assert list(distinct(dict(zip((AS_TRAINED, BEFORE, TUNED), made, strict=True)))) == kept


def test_what_decided_makes_no_variant() -> None:
    assert forms_of(FAST) == forms_of(lowered((ROW, "b", "toeplitz"), (PAIR, "a", "dense"), source="rules"))
    assert forms_of(FAST) != forms_of(lowered((PAIR, "b", "dense"), (ROW, "a", "toeplitz")))


def test_the_groups_let_expect_what_each_of_their_places_saves() -> None:
    entries = [entry(PAIR, {"depthwise": 5.0, "dense": 2.0}), entry(ROW, {"depthwise": 2.0, "toeplitz": 1.5})]
    twice = lowered((PAIR, "a", "dense"), (PAIR, "b", "dense"), (ROW, "c", "toeplitz"), (ROW, "d", "depthwise"))
    assert predicted(twice, entries) == 2 * 3.0 + 0.5
    assert predicted(TRAINED, entries) == predicted(FAST, []) == 0.0


def variant(name: str, cost: float, **forms: str) -> Variant:
    parity = Parity(max_abs=0.0, relative=0.0, snr_db=EQUAL_DB, cosine=1.0, top1_agreement=1.0, nonfinite=0)
    named = {str(GROUPS[group]): form for group, form in forms.items()}
    return Variant(name=name, cost=cost, saved=0.0, predicted=0.0, forms=named, bytes=1, parity=parity, gate_db=110.0)


def test_a_network_that_is_clearly_slower_with_the_fastest_forms_keeps_the_others() -> None:
    before, tuned = variant(BEFORE, 10.0, row="depthwise"), variant(TUNED, 10.3, row="toeplitz")
    trained = variant(AS_TRAINED, 12.0)

    assert slower_than([trained, before, tuned]) is before
    assert slower_than([trained, variant(BEFORE, 10.2), tuned]) is None  # within two percent
    assert slower_than([trained, variant(BEFORE, 11.0), tuned]) is None
    assert slower_than([tuned]) is None


def test_a_group_that_is_demoted_says_why() -> None:
    measured = only(ROW, "toeplitz")
    slower = variant(BEFORE, 10.0, row="depthwise")

    found = demoted(measured, slower.forms)

    assert (found.chosen, found.why) == ("depthwise", "whole network")
    assert found.forms == measured.forms
    assert demoted(measured, variant(BEFORE, 10.0, row="toeplitz").forms) == measured
    assert demoted(measured, {}).chosen == "depthwise"  # as trained, where the faster one has no such group
