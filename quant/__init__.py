"""Precisions: which numbers an artifact's weights and activations are.

`QUANTIZERS` is the whole list. A quantizer is loaded only when it is used, so the table costs no framework.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from types import MappingProxyType
from typing import cast

from edgekit.errors import MisuseError
from edgekit.quant.base import Quantizing
from edgekit.quant.recipe import BEST, RECIPES, Method, Ranges, Recipe, parse


@dataclass(frozen=True, slots=True)
class Quantizer:
    """One row of the table.

    Attributes:
        format: Name of the format.
        runtime: What runs it.
        suffix: Ending of the loadable file.
        module: Where `layers`, `quantize` and `quantized` are.
        packages: Distributions whose versions decide the bytes.
        extra: The edgekit extra that installs them, None when they are always there.
        recipes: Names of those it can carry out, the runtime's best one first.
        dynamic: The kinds of layers for which the runtime has kernels that quantize their input.
        ranges: How the ends of static ranges are chosen where nothing else is asked.
    """

    format: str
    runtime: str
    suffix: str
    module: str
    packages: tuple[str, ...]
    extra: str | None
    recipes: tuple[str, ...]
    dynamic: frozenset[str]
    ranges: Ranges = "mse"

    def load(self) -> Quantizing:
        """Imports the module, and with it the format's framework."""
        return cast("Quantizing", import_module(self.module))

    def recipe(self, name: str) -> Recipe:
        """The recipe of a name or of the alias, in this format.

        Raises:
            MisuseError: There is no such recipe, or none for this format.
        """
        found = RECIPES[self.recipes[0]] if name == BEST else parse(name)
        if found.name not in self.recipes:
            raise MisuseError(
                f"Recipe {found.name!r} cannot be carried out in {self.format}, which takes {', '.join(self.recipes)}. "
                f"{BEST!r} stands for the best one of each format."
            )
        return found

    def kinds(self, method: Method) -> frozenset[str]:
        """The kinds of layers that a method quantizes here."""
        return self.dynamic if method == "dynamic" else _DENSE


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
                recipes=("mixed_wi8_ai8", "static_wi8_ai8", "dynamic_wi8", "wi8_weightonly"),
                dynamic=frozenset({"linear"}),
            ),
            Quantizer(
                format="openvino",
                runtime="openvino",
                suffix=".xml",
                module="edgekit.quant.openvino",
                packages=("openvino", "nncf"),
                extra="openvino",
                recipes=("static_wi8_ai8", "wi8_weightonly"),
                dynamic=frozenset(),
            ),
            Quantizer(
                format="tflite",
                runtime="tflite",
                suffix=".tflite",
                module="edgekit.quant.tflite",
                packages=("ai-edge-quantizer", "ai-edge-litert", "flatbuffers"),
                extra="tflite",
                recipes=("dynamic_wi8", "static_wi8_ai8", "wi8_weightonly"),
                dynamic=_DENSE,
            ),
        )
    }
)
"""Format to quantizer.

The first recipe is the one that was best on ParCNetV2 and ParNet: for TFLite the dynamic one, a tenth slower than the
static one at most, 6 dB closer to float, and the only one that tflite-runtime 2.14 on ARMv7 runs.
"""
