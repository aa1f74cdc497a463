"""Precisions: which numbers an artifact's weights and activations are.

`QUANTIZERS` is the whole list. A quantizer is loaded only when it is used, so the table costs no framework.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import import_module
from types import MappingProxyType
from typing import cast

from edgekit.errors import MisuseError
from edgekit.quant.base import Quantizing
from edgekit.quant.recipe import BEST, Method, Ranges, Recipe, parse


@dataclass(frozen=True, slots=True)
class Quantizer:
    """One row of the table.

    Attributes:
        format: Name of the format.
        runtime: What runs it.
        suffix: Ending of the loadable file.
        module: Where what `Quantizing` has is.
        packages: Distributions whose versions decide the bytes.
        extra: The edgekit extra that installs them, None when they are always there.
        recipes: Names of those it can carry out, the runtime's best one in int8 first.
        dynamic: The kinds of layers for which the runtime has kernels that quantize their input.
        lacks: Why there is no int8, where there is none.
        ranges: How the ends of static ranges are chosen where nothing else is asked.
    """

    format: str
    runtime: str
    suffix: str
    module: str
    packages: tuple[str, ...]
    extra: str | None
    recipes: tuple[str, ...]
    dynamic: frozenset[str] = frozenset()
    lacks: str = ""
    ranges: Ranges = "mse"

    def load(self) -> Quantizing:
        """Imports the module, and with it the format's framework."""
        return cast("Quantizing", import_module(self.module))

    def recipe(self, name: str) -> Recipe:
        """The recipe of a name or of the alias, in this format.

        Raises:
            MisuseError: There is no such recipe, or none for this format.
        """
        if not self.offers(name):
            raise MisuseError(
                f"{self.format} has no {_precision(name)}: {self.lacks}. It takes {', '.join(self.recipes)}; ask with "
                "--recipe, or leave it out of --format."
            )
        if name == BEST:
            return next(recipe for recipe in map(parse, self.recipes) if not recipe.half)
        found = parse(name)
        if found.name not in self.recipes:
            raise MisuseError(
                f"Recipe {found.name!r} cannot be carried out in {self.format}, which takes {', '.join(self.recipes)}. "
                f"{BEST!r} stands for the best one of each format."
            )
        return found

    def rounds(self, name: str) -> bool:
        """Whether it has the recipe, or one for the alias, that computes in integers."""
        recipes = self.recipes[:1] if name == BEST else {name}.intersection(self.recipes)
        return any(not parse(recipe).exact for recipe in recipes)

    def offers(self, name: str) -> bool:
        """Whether it has a recipe of the same precision as the one of a name or of the alias.

        Raises:
            MisuseError: There is no such recipe.
        """
        return _precision(name) in {parse(recipe).precision for recipe in self.recipes}

    def kinds(self, method: Method) -> frozenset[str]:
        """The kinds of layers that a method quantizes here."""
        return self.dynamic if method == "dynamic" else _DENSE


def _precision(name: str) -> str:
    """What a recipe of a name, or of the alias, makes of operators."""
    return "int8" if name == BEST else parse(name).precision


_DENSE = frozenset({"convolution", "linear"})

QUANTIZERS: Mapping[str, Quantizer] = MappingProxyType(
    {
        entry.format: entry
        for entry in (
            Quantizer(
                format="onnx",
                runtime="onnxruntime",
                suffix=".onnx",
                module="edgekit.quant.onnx",
                packages=("onnx", "onnxruntime"),
                extra=None,
                recipes=("mixed_wi8_ai8", "static_wi8_ai8", "dynamic_wi8", "wi8_weightonly", "fp16"),
                dynamic=frozenset({"linear"}),
            ),
            Quantizer(
                format="openvino",
                runtime="openvino",
                suffix=".xml",
                module="edgekit.quant.openvino",
                packages=("openvino", "nncf"),
                extra="openvino",
                recipes=("static_wi8_ai8", "wi8_weightonly", "fp16"),
            ),
            Quantizer(
                format="tflite",
                runtime="tflite",
                suffix=".tflite",
                module="edgekit.quant.tflite",
                packages=("ai-edge-quantizer", "ai-edge-litert", "flatbuffers"),
                extra="tflite",
                recipes=("dynamic_wi8", "static_wi8_ai8", "wi8_weightonly", "fp16"),
                dynamic=_DENSE,
            ),
            Quantizer(
                format="mnn",
                runtime="mnn",
                suffix=".mnn",
                module="edgekit.quant.mnn",
                packages=("mnn",),
                extra="mnn",
                recipes=("wi8_weightonly", "fp16"),
            ),
            Quantizer(
                format="ncnn",
                runtime="ncnn",
                suffix=".param",
                module="edgekit.quant.ncnn",
                packages=("ncnn",),
                extra="ncnn",
                recipes=("fp16",),
                lacks="its packages come without the tools that make it",
            ),
        )
    }
)
"""Format to quantizer.

The first recipe is the one that was best on ParCNetV2 and ParNet: for TFLite the dynamic one, a tenth slower than the
static one at most, 6 dB closer to float, and the only one that tflite-runtime 2.14 on ARMv7 runs.
"""


def float_only(formats: Iterable[str]) -> str:
    """Says of formats that cannot be had in the precision that was asked for why that is."""
    known = ((name, QUANTIZERS.get(name)) for name in formats)
    reasons = (
        f"{name} ({each.lacks}; it takes {', '.join(each.recipes)})" if each else f"{name} (nothing quantizes it)"
        for name, each in known
    )
    return f"Float only: {', '.join(reasons)}"
