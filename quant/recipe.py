"""Recipes: how the numbers of an artifact are represented.

A recipe's name says all of it, in this grammar:

    recipe      = "fp32" | "fp16" | "int8" | method "_" weights [ "_" activations ] | weights "_weightonly"
    method      = "static" | "dynamic" | "mixed"
    weights     = "wi8"        weights are 8-bit integers, one scale per output channel, symmetric (not in MNN)
    activations = "ai8"        activations are 8-bit integers, with ranges measured on calibration images

    static_wi8_ai8   integer arithmetic, ranges fixed beforehand
    dynamic_wi8      integer arithmetic, each map's range found anew in every run
    mixed_wi8_ai8    convolutions static, linear layers dynamic
    wi8_weightonly   float arithmetic; only the file is smaller
    fp16             weights are half floats, arithmetic is float32; the file is half as large, the outputs nearly exact

`int8` is an alias: whichever of these the runtime of a format is best with (`QUANTIZERS`). The name as asked for is
the precision in an artifact's file name, `<model>.<precision>.<extension>`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, get_args

from edgekit.errors import MisuseError

Method = Literal["float", "static", "dynamic", "mixed", "weightonly"]

Ranges = Literal["minmax", "percentile", "mse"]
"""How the ends of a static activation's range are chosen, see `edgekit.quant.ranges`."""

RANGES: tuple[Ranges, ...] = get_args(Ranges)

DEFAULT_RECIPE = "fp32"
HALF = "fp16"
BEST = "int8"
"""The alias for a runtime's best recipe."""

_WEIGHTS, _ACTIVATIONS = "wi8", "ai8"

_ACTIVATIONS_OF: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"static": (_ACTIVATIONS,), "dynamic": (), "mixed": (_ACTIVATIONS,)}
)
"""Method to the words that follow the weights: what is found in every run is not written down."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """Number formats of an artifact, in numpy's words, and when the ranges of activations are found."""

    name: str
    method: Method
    weights: str = "int8"
    activations: str = "int8"

    @property
    def calibrated(self) -> bool:
        """Whether ranges are measured on images beforehand."""
        return self.method in ("static", "mixed")

    @property
    def half(self) -> bool:
        """Whether weights are half floats."""
        return self.weights == "float16"

    @property
    def precision(self) -> Literal["fp16", "int8"]:
        """What operators are that it was carried out on."""
        return "fp16" if self.half else "int8"

    @property
    def exact(self) -> bool:
        """Whether arithmetic stays float, whatever the weights are."""
        return self.activations == "float32"

    def method_of(self, kind: str) -> Literal["static", "dynamic"]:
        """How the ranges of a layer of this kind are found."""
        return "dynamic" if self.method == "dynamic" or (self.method == "mixed" and kind == "linear") else "static"


def _all() -> tuple[Recipe, ...]:
    """Every recipe the grammar has."""
    methods: tuple[Method, ...] = ("static", "dynamic", "mixed")
    return (
        Recipe(DEFAULT_RECIPE, "float", "float32", "float32"),
        Recipe(HALF, "weightonly", "float16", "float32"),
        *(Recipe("_".join((method, _WEIGHTS, *_ACTIVATIONS_OF[method])), method) for method in methods),
        Recipe(f"{_WEIGHTS}_weightonly", "weightonly", activations="float32"),
    )


RECIPES: Mapping[str, Recipe] = MappingProxyType({recipe.name: recipe for recipe in _all()})
"""Every recipe, by its name."""


def parse(name: str) -> Recipe:
    """The recipe of a name.

    Raises:
        MisuseError: The name is in no grammar; the message says which word is wrong and what could stand there.
    """
    if name in RECIPES:
        return RECIPES[name]
    raise MisuseError(f"There is no recipe {name!r}: {_fault(name)} Recipes are {', '.join((BEST, *RECIPES))}.")


def check(name: str) -> str:
    """A recipe's name or the alias, as asked for.

    Raises:
        MisuseError: It is neither.
    """
    return name if name == BEST else parse(name).name


def _fault(name: str) -> str:
    """The first word that does not fit, and what would."""
    first, *rest = name.split("_")
    if first in _ACTIVATIONS_OF:
        wanted = (_WEIGHTS, *_ACTIVATIONS_OF[first])
        for position, word in enumerate(wanted):
            if position >= len(rest):
                return f"after {'_'.join((first, *rest))!r} comes {word!r}."
            if rest[position] != word:
                return f"{rest[position]!r} stands where {word!r} does."
        return f"nothing comes after {'_'.join((first, *wanted))!r}."
    if first in (DEFAULT_RECIPE, HALF):
        return f"nothing comes after {first!r}."
    if first == _WEIGHTS:
        return f"after {_WEIGHTS!r} comes 'weightonly', or it comes after one of {', '.join(_ACTIVATIONS_OF)}."
    return f"it begins with {first!r}, and not with {', '.join((*_ACTIVATIONS_OF, _WEIGHTS))}."
