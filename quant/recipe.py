"""Recipes: how the numbers of an artifact are represented.

A recipe's name is the precision in an artifact's file name, `<model>.<precision>.<extension>`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Recipe:
    """Number formats of an artifact, in numpy's words."""

    name: str
    weights: str
    activations: str


RECIPES: Mapping[str, Recipe] = MappingProxyType(
    {recipe.name: recipe for recipe in (Recipe(name="fp32", weights="float32", activations="float32"),)}
)
"""Every recipe, by name."""

DEFAULT_RECIPE = "fp32"
