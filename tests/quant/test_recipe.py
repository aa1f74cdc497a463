"""Names of recipes, and what is said of those that are none."""

import click
import pytest

from edgekit.cli.export import export
from edgekit.errors import MisuseError
from edgekit.quant import QUANTIZERS
from edgekit.quant.recipe import BEST, RANGES, RECIPES, check, parse


@pytest.mark.parametrize(
    ("name", "method", "activations", "calibrated"),
    [
        ("fp32", "float", "float32", False),
        ("fp16", "weightonly", "float32", False),
        ("static_wi8_ai8", "static", "int8", True),
        ("mixed_wi8_ai8", "mixed", "int8", True),
        ("dynamic_wi8", "dynamic", "int8", False),
        ("wi8_weightonly", "weightonly", "float32", False),
    ],
)
def test_a_name_decodes(name: str, method: str, activations: str, calibrated: bool) -> None:
    recipe = parse(name)
    assert (recipe.name, recipe.method, recipe.activations, recipe.calibrated) == (
        *(name, method, activations, calibrated),
    )


def test_ranges_are_those_of_the_command_line() -> None:
    (option,) = (each for each in export.params if each.name == "ranges")
    assert isinstance(option.type, click.Choice)
    assert tuple(option.type.choices) == RANGES


def test_these_are_all() -> None:
    assert set(RECIPES) == {"fp32", "fp16", "static_wi8_ai8", "mixed_wi8_ai8", "dynamic_wi8", "wi8_weightonly"}


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("static", "after 'static' comes 'wi8'."),
        ("static_wi8", "after 'static_wi8' comes 'ai8'."),
        ("static_wi4_ai8", "'wi4' stands where 'wi8' does."),
        ("static_wi8_ai16", "'ai16' stands where 'ai8' does."),
        ("dynamic_wi8_ai8", "nothing comes after 'dynamic_wi8'."),
        ("wi8", "after 'wi8' comes 'weightonly', or it comes after one of static, dynamic, mixed."),
        ("fp16_weightonly", "nothing comes after 'fp16'."),
        ("int4", "it begins with 'int4', and not with static, dynamic, mixed, wi8."),
        ("", "it begins with '', and not with"),
    ],
)
def test_a_wrong_name_teaches_the_grammar(name: str, fault: str) -> None:
    with pytest.raises(MisuseError) as caught:
        parse(name)
    assert str(caught.value).startswith(f"There is no recipe {name!r}: {fault}")
    assert str(caught.value).endswith(f"Recipes are {BEST}, {', '.join(RECIPES)}.")


def test_the_alias_is_no_recipe_but_may_be_asked_for() -> None:
    assert check(BEST) == BEST
    with pytest.raises(MisuseError, match="no recipe 'int8'"):
        parse(BEST)


@pytest.mark.parametrize("quantizer", QUANTIZERS.values(), ids=lambda each: each.format)
def test_the_alias_is_the_first_recipe_of_each_format(quantizer: object) -> None:
    from edgekit.quant import Quantizer

    assert isinstance(quantizer, Quantizer)
    assert quantizer.lacks or quantizer.recipe(BEST).name == quantizer.recipes[0]
    assert set(quantizer.recipes) < set(RECIPES)


def test_a_recipe_that_a_format_lacks_is_refused_with_those_it_has() -> None:
    with pytest.raises(MisuseError, match=r"cannot be carried out in openvino, which takes static_wi8_ai8"):
        QUANTIZERS["openvino"].recipe("dynamic_wi8")


@pytest.mark.parametrize("name", [BEST, "static_wi8_ai8", "wi8_weightonly"])
def test_a_format_without_int8_says_why_and_what_it_has(name: str) -> None:
    quantizer = QUANTIZERS["ncnn"]
    assert not quantizer.offers(name)
    with pytest.raises(MisuseError, match=r"ncnn has no int8: its packages come without the tools .* It takes fp16;"):
        quantizer.recipe(name)
    assert quantizer.recipe("fp16").half


def test_half_floats_are_no_alias_for_int8_and_every_format_has_them() -> None:
    for quantizer in QUANTIZERS.values():
        assert quantizer.recipe("fp16").precision == "fp16"
