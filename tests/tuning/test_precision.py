"""Int8 or float: who decides, what borders cost, and that the choice is the cheapest there is."""

import random
from collections.abc import Sequence
from itertools import product
from typing import Any

import pytest
from msgspec.structs import replace

from edgekit.dense_layer import parse
from edgekit.tuning.nearest import Place
from edgekit.tuning.precision import (
    FURTHEST,
    STRUCTURE,
    Known,
    LayerPlace,
    PrecisionChooser,
    cheapest,
    distance,
    own_costs,
    saving,
)
from edgekit.tuning.tables import LayerEntry, Table
from tests.tables import HERE, layer_entry, table

CONV, WIDE, HEAD = "convolution 16>16 at 8x8: 3x3 padded 1x1x1x1", "convolution 32>16 at 8x8: 1x1", "linear 64>10"


def place(name: str, layer: str | None = CONV, **changed: Any) -> LayerPlace:
    given: dict[str, Any] = {"method": "dynamic", "dense": layer and parse(layer), **changed}
    return LayerPlace(name=name, **given)


def chooser(*own: Table, rules: tuple[Table, ...] = (), at: Place = HERE, smallest: bool = False) -> PrecisionChooser:
    return PrecisionChooser("onnxruntime", at, own, rules, smallest)


def measured(*layers: LayerEntry, **changed: Any) -> Table:
    return replace(table(**changed), layers=layers)


SLOWER, FASTER = layer_entry(CONV, 5.0, 6.0), layer_entry(CONV, 5.0, 3.0)


# -- who decides ------------------------------------------------------------------------------------------------------


def test_a_row_that_says_slower_keeps_exactly_that_layer_float() -> None:
    layers = [place("a"), place("b", WIDE), place("c", HEAD)]
    mine = measured(SLOWER, layer_entry(WIDE, 2.0, 1.0))
    found = chooser(mine)(layers)
    assert [found[name].reason for name in "abc"] == ["slower", "", ""]
    assert [found[name].saved for name in "abc"] == [-1.0, 1.0, None]
    assert found["a"].source == f"measured here: {mine.describe()}"
    assert (found["a"].unit, found["c"].source) == ("ms", STRUCTURE)
    assert not any(each.reason for each in chooser(measured())(layers).values())  # the twin: without the row


@pytest.mark.parametrize("changed", [{"runtime": "tflite"}, {"architecture": "aarch64"}], ids=str)
def test_another_runtime_or_architecture_says_nothing(changed: dict[str, Any]) -> None:
    other = measured(SLOWER, **changed)
    assert chooser(other, rules=(other,))([place("a")])["a"].source == STRUCTURE


@pytest.mark.parametrize(("there", "here"), [(True, False), (False, True)])
def test_a_cpu_with_integer_products_says_nothing_of_one_without(there: bool, here: bool) -> None:
    at = Place(HERE.architectures, HERE.cpu, HERE.packages, here)
    other = measured(SLOWER, dot_products=there)
    assert chooser(other, rules=(other,), at=at)([place("a")])["a"].source == STRUCTURE
    assert chooser(measured(SLOWER, dot_products=here), at=at)([place("a")])["a"].reason == "slower"


def test_a_layer_that_is_quantized_otherwise_was_not_measured() -> None:
    assert chooser(measured(SLOWER))([place("a", method="static")])["a"].source == STRUCTURE


def test_what_the_file_does_not_tell_is_left_to_structure() -> None:
    assert chooser(measured(SLOWER))([place("a", None)])["a"].source == STRUCTURE


@pytest.mark.parametrize(("package", "what"), [("onnxruntime 1.31.1", "here"), ("onnxruntime 1.30.0", "a sister")])
def test_where_it_was_measured_is_said(package: str, what: str) -> None:
    source = chooser(measured(SLOWER, package=package))([place("a")])["a"].source
    assert source.startswith(f"measured {'here' if what == 'here' else 'on a sister device'}: {package}")


def test_what_cannot_be_told_apart_stays_float() -> None:
    entry = replace(layer_entry(CONV, 5.0, 4.99), why="equal", precision="fp32")
    assert chooser(measured(entry))([place("a")])["a"].reason == "slower"


def test_what_is_wrong_stays_float_and_saves_nothing() -> None:
    entry = replace(layer_entry(CONV, 5.0, 5.0), why="wrong", precision="fp32")
    for smallest in (False, True):
        found = chooser(measured(entry), smallest=smallest)([place("a")])["a"]
        assert (found.reason, found.saved) == ("wrong", None)


@pytest.mark.parametrize(("precision", "reason"), [("fp32", "slower"), ("int8", "")])
def test_what_the_whole_network_said_counts(precision: Any, reason: str) -> None:
    for entry in (SLOWER, FASTER):
        settled = replace(entry, why="whole network", precision=precision)
        assert chooser(measured(settled))([place("a")])["a"].reason == reason


def test_the_smallest_file_has_what_is_slower_in_int8_and_tells_what_it_costs() -> None:
    found = chooser(measured(SLOWER), smallest=True)([place("a")])["a"]
    assert (found.reason, found.saved) == ("", -1.0)


# -- rules ------------------------------------------------------------------------------------------------------------


def test_a_rule_speaks_for_what_is_near_it_and_its_gain_grows_with_the_work() -> None:
    rules = (measured(layer_entry(CONV, 5.0, 4.0)), measured(layer_entry(HEAD, 2.0, 1.0)))
    near = "convolution 16>32 at 8x8: 3x3 padded 1x1x1x1"
    found = chooser(rules=rules)([place("a", near), place("b", HEAD)])
    assert (found["a"].saved, found["b"].saved) == (2.0, 1.0)
    assert found["a"].source == f"rules: {rules[0].describe()}, by {CONV}"


@pytest.mark.parametrize(
    "other",
    [
        "convolution 16>16 at 8x8: 1x1",
        "convolution 16>16 at 8x8: 3x3 /2x2 padded 1x1x1x1",
        "convolution 64>64 at 8x8: 3x3 padded 1x1x1x1",
        "linear 16>16 at 64",
    ],
)
def test_a_rule_says_nothing_of_what_is_otherwise_or_far_away(other: str) -> None:
    assert chooser(rules=(measured(SLOWER),))([place("a", other)])["a"].source == STRUCTURE


def test_distances_are_doublings() -> None:
    assert distance(parse(CONV), parse(CONV)) == 0.0
    assert distance(parse(CONV), parse("convolution 64>8 at 8x8: 3x3 padded 1x1x1x1")) == FURTHEST


# -- several architectures --------------------------------------------------------------------------------------------

BOTH = Place(("aarch64", "armv7l"), "Cortex-A53", frozenset())


@pytest.mark.parametrize(
    ("first", "second", "reason"),
    [(FASTER, FASTER, ""), (FASTER, SLOWER, "slower"), (SLOWER, FASTER, "slower"), (FASTER, None, "")],
)
def test_one_file_for_two_architectures_is_int8_where_both_gain(
    first: LayerEntry, second: LayerEntry | None, reason: str
) -> None:
    rules = (measured(first, architecture="aarch64"), measured(*([second] if second else []), architecture="armv7l"))
    found = chooser(rules=rules, at=BOTH)([place("a")])["a"]
    assert found.reason == reason
    assert (found.saved == -1.0) == bool(reason)


# -- borders ----------------------------------------------------------------------------------------------------------


def shared(fp32: float, int8: float, between: tuple[float, float], layer: str = CONV) -> LayerEntry:
    return replace(layer_entry(layer, fp32, int8), method="static", between=between)


LOSES_ALONE = shared(5.0, 5.5, (6.0, 4.5))
"""Its borders cost 1 together: int8 costs 0.5 between float layers and saves 1.5 between int8 ones."""


def chain(count: int) -> list[LayerPlace]:
    """Layers of which each reads the one before it; something float reads the last."""
    return [
        place(f"{index}", method="static", reads=f"{index - 1}" if index else None, float_readers=index == count - 1)
        for index in range(count)
    ]


def test_layers_that_share_borders_are_int8_together() -> None:
    chosen = chooser(measured(LOSES_ALONE))
    assert [each.reason for each in chosen(chain(1)).values()] == ["slower"]
    assert [each.reason for each in chosen(chain(2)).values()] == ["slower", "slower"]  # a tie stays float
    assert [each.reason for each in chosen(chain(3)).values()] == ["", "", ""]


def test_a_map_that_something_float_reads_too_has_its_border() -> None:
    layers = chain(2)
    layers[0] = place("0", method="static", float_readers=True)
    chosen = chooser(measured(shared(5.0, 5.9, (6.0, 4.9))))
    assert [each.reason for each in chosen(layers).values()] == ["slower", "slower"]


def trees(seed: int) -> tuple[list[LayerPlace], dict[str, Known | None]]:
    """Some layers, each reading one before it or none, and what is known of them."""
    numbers = random.Random(seed)  # noqa: S311 - no secret
    layers, known = [], {}
    for index in range(6):
        reads = f"{numbers.randrange(index)}" if index and numbers.random() < 0.75 else None
        layers.append(place(f"{index}", method="static", reads=reads, float_readers=numbers.random() < 0.5))
        saved, border = numbers.uniform(-2, 2), numbers.uniform(0, 2)
        entry = shared(10.0, 10.0 - saved, (12.0, 12.0 - saved - 2 * border))
        known[f"{index}"] = Known(entry, table(), "") if numbers.random() < 0.9 else None
    return layers, known


@pytest.mark.parametrize("seed", range(30))
def test_no_other_choice_is_cheaper(seed: int) -> None:
    layers, known = trees(seed)

    def saved(chosen: Sequence[str]) -> float:
        return saving(layers, known, frozenset(chosen))

    best = [name for name, precision in cheapest(layers, known).items() if precision == "int8"]
    forced = {name for name, found in known.items() if found is None}
    every = (
        [layer.name for layer, bit in zip(layers, bits, strict=True) if bit]
        for bits in product((False, True), repeat=len(layers))
    )
    assert forced <= set(best)
    assert saved(best) == pytest.approx(max(saved(each) for each in every if forced <= set(each)))


def test_what_was_not_measured_can_only_be_int8() -> None:
    assert own_costs(place("a"), None)["int8"] < own_costs(place("a"), None)["fp32"]
