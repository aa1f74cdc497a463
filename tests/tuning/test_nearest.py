"""Which measurement speaks for a group."""

import math
from typing import Any

import pytest
from msgspec.structs import replace

from edgekit.kernel_group import KernelGroup, KernelStep
from edgekit.tuning.nearest import Place, distance, find, nearest, structure
from edgekit.tuning.tables import Table
from tests.kernels import GROUPS, circular, group, same
from tests.tables import HERE, entry, only, table

PAIR = GROUPS["pair and local"]
NEAR, FAR = replace(PAIR, channels=2 * PAIR.channels), replace(PAIR, channels=16 * PAIR.channels)


def source(own: list[Table], rules: list[Table], of: KernelGroup = PAIR, place: Place = HERE) -> str | None:
    found = find(of, "onnxruntime", place, own, rules)
    return found[0].source if found else None


MINE = table(only(PAIR, "dense"))
SISTER = table(only(PAIR, "toeplitz + depthwise"), cpu="Zen 4")
OLDER = table(only(PAIR, "toeplitz + depthwise"), package="onnxruntime 1.30.0")
RULES = table(only(NEAR, "matmul"), cpu="Zen 2")
EXACT = table(only(NEAR, "matmul"), only(PAIR, "depthwise"), cpu="Zen 2")


def test_what_was_measured_here_decides() -> None:
    assert source([SISTER, OLDER, MINE], [RULES]) == (
        "measured here: onnxruntime 1.31.1 on Zen 3, 1 thread, 2026-11-21"
    )


def test_a_package_has_its_name_in_any_case() -> None:
    mine = table(only(PAIR, "dense"), runtime="mnn", package="mnn 3.6.1")
    here = Place(("x86_64",), "Zen 3", frozenset({"MNN 3.6.1"}))
    (found,) = find(PAIR, "mnn", here, [mine], [])
    assert found.source == f"measured here: {mine.describe()}"


@pytest.mark.parametrize(
    ("of", "cost", "form"),
    [
        (PAIR, 2.9, "dense"),
        (NEAR, 2.5, "depthwise"),
        (NEAR, 2.3, "dense"),
        (FAR, 2.3, "depthwise"),
        (FAR, 1.4, "dense"),
    ],
    ids=["the same group", "too little", "enough", "too little so far away", "enough at any distance"],
)
def test_a_like_group_is_written_otherwise_only_for_what_clearly_saves(of: KernelGroup, cost: float, form: str) -> None:
    measured = entry(PAIR, {"depthwise": 3.0, "dense": cost}, empty=1.0, chosen="dense")
    (found,) = find(of, "onnxruntime", HERE, [], [table(measured)])
    assert found.form_for(of) == form


def test_counted_instructions_speak_for_groups_far_away() -> None:
    measured = entry(PAIR, {"depthwise": 3.0, "dense": 2.3}, empty=1.0, chosen="dense")
    (found,) = find(FAR, "onnxruntime", HERE, [], [table(measured, emulated=True)])
    assert found.form_for(FAR) == "dense"


@pytest.mark.parametrize("other", [SISTER, OLDER], ids=["another CPU", "another version"])
def test_a_sister_device_decides_before_the_rules(other: Table) -> None:
    assert source([other], [RULES]) == f"measured on a sister device: {other.describe()}"


def test_the_rules_decide_by_the_nearest_group() -> None:
    described = "onnxruntime 1.31.1 on Zen 2, 1 thread, 2026-11-21"
    assert source([], [RULES]) == f"rules: {described}, by {NEAR}"
    assert source([], [EXACT]) == f"rules: {described}"


def test_ones_own_tables_speak_for_the_very_group_only() -> None:
    assert source([table(only(NEAR, "dense"))], []) is None
    assert source([table(only(replace(PAIR, size=(9, 8)), "dense"))], []) is None


@pytest.mark.parametrize("changed", [{"runtime": "tflite"}, {"architecture": "aarch64"}], ids=str)
def test_another_runtime_or_architecture_says_nothing(changed: dict[str, Any]) -> None:
    other = table(only(PAIR, "dense"), **changed)
    assert source([other], [other]) is None


def test_instructions_of_an_emulated_device_come_after_time() -> None:
    counted = table(only(PAIR, "toeplitz"), emulated=True, unit="instructions", measured="2026-11-30")
    assert source([counted, MINE], []) == f"measured here: {MINE.describe()}"
    assert source([counted], []) == f"measured here: {counted.describe()}"


def test_each_architecture_finds_its_own() -> None:
    both = Place(("aarch64", "armv7l"), "Cortex-A53", frozenset())
    for_arm = table(only(PAIR, "dense"), architecture="aarch64")
    for_old = table(only(PAIR, "depthwise"), architecture="armv7l")

    found = find(PAIR, "onnxruntime", both, [for_old, MINE], [for_arm])

    assert [each.table.architecture for each in found] == ["aarch64", "armv7l"]
    assert [each.source.partition(":")[0] for each in found] == ["rules", "measured on a sister device"]


def test_costs_are_those_of_the_ways_there_are() -> None:
    (found,) = find(PAIR, "onnxruntime", HERE, [MINE], [])
    assert found.costs(["dense", "matmul"]) == {"dense": 1.5}


# -- likeness ---------------------------------------------------------------------------------------------------------

ALIKE = [
    (group((same(17, 1), same(1, 13))), group((same(1, 111), same(111, 1)), size=(56, 56))),
    (group((same(7, 7),)), group((same(13, 13, bias=True),), channels=1024)),
    (group((same(1, 13),)), group((same(11, 1),))),
    (group((same(5, 5),), (same(7, 1),)), group((same(9, 1),), (same(7, 7),))),
]
UNLIKE = [
    (group((same(17, 1), same(1, 13))), group((same(1, 13),))),
    (group((same(17, 1), same(1, 13))), group((same(17, 1),), (same(1, 13),))),
    (group((same(17, 1), same(1, 13))), group((same(17, 1), same(7, 7)))),
    (group((same(1, 7),)), group((circular(1, 7),))),
    (group((same(7, 7),)), group((KernelStep(taps=(7, 7), padding=(3, 3), stride=(2, 2)),))),
]


@pytest.mark.parametrize(("one", "other"), ALIKE, ids=str)
def test_size_taps_and_direction_leave_the_structure(one: KernelGroup, other: KernelGroup) -> None:
    assert structure(one) == structure(other)
    assert nearest(one, [only(other, "matmul")]) is not None


@pytest.mark.parametrize(("one", "other"), UNLIKE, ids=str)
def test_what_is_built_otherwise_is_never_near(one: KernelGroup, other: KernelGroup) -> None:
    assert structure(one) != structure(other)
    assert nearest(one, [only(other, "matmul")]) is None


def test_distance_counts_doublings() -> None:
    one = group((same(7, 7),), size=(14, 14), channels=64)
    other = group((same(7, 7),), size=(28, 7), channels=256)
    assert distance(one, one) == 0
    assert distance(one, other) == distance(other, one) == 4
    assert distance(one, group((same(7, 7),), size=(14, 14), channels=96)) == pytest.approx(math.log2(1.5))


def test_the_nearest_does_not_depend_on_the_order() -> None:
    wanted = group((same(7, 7),), channels=100)
    entries = [only(group((same(7, 7),), channels=channels), "pieces") for channels in (50, 90, 200, 400)]
    tied = [only(group((same(7, 7),), channels=channels), "pieces") for channels in (200, 50)]

    assert nearest(wanted, entries) == nearest(wanted, reversed(entries)) == entries[1]
    assert nearest(wanted, tied) == nearest(wanted, reversed(tied))
    assert nearest(wanted, []) is None


@pytest.mark.parametrize(
    ("architectures", "dot_products", "short"),
    [(("x86_64",), False, True), (("x86_64",), True, False), (("armv7l", "aarch64"), False, False)],
)
def test_sums_are_short_on_x86_without_dot_products(
    architectures: tuple[str, ...], dot_products: bool, short: bool
) -> None:
    assert Place(architectures, "any", frozenset(), dot_products).short_sums is short
