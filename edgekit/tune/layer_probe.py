"""Test networks for a dense layer: the layer between two thin ones, each of them in float or in int8.

    x (16 channels) -> pointwise -> ReLU -> layer [-> the activation that it takes in] -> pointwise -> y (16 channels)

What a layer gains by int8 depends on its neighbours where ranges are fixed beforehand: between float ones its map is
quantized before it and made float again behind it, between int8 ones neither, and it is the float layer that pays. So
both are compared, (float, LAYER, float) and (int8, LAYER, int8). A layer that finds the range of its input as it runs
pays for its own border whatever stands beside it, and one comparison tells all.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from edgekit.artifact import Shape
from edgekit.capture import capture
from edgekit.dense_layer import DenseLayer
from edgekit.errors import ConverterError
from edgekit.exporters import Exporter
from edgekit.passes.base import Log
from edgekit.passes.lower import LOWERINGS
from edgekit.program import Program, as_tuple, clone, finish
from edgekit.quant import Quantizer
from edgekit.quant.base import Job, Layer
from edgekit.quant.recipe import BEST, RECIPES, Recipe
from edgekit.quiet import silenced
from edgekit.reference import program_in_float64
from edgekit.tune.artifacts import Contest, write
from edgekit.tuning.tables import LayerMethod

SEED = 0

AROUND = 16
"""Channels before and behind the test network: its neighbours are to cost little beside the layer."""

FLOAT, INT8 = "fp32", "int8"
"""The names of a contest's two files."""

_RECIPES = {each.method: each for each in RECIPES.values()}


class LayerNetwork(nn.Module):
    """The test network of a layer."""

    def __init__(self, layer: DenseLayer) -> None:
        super().__init__()
        self.padding = layer.padding
        self.before, self.after = pointwise(layer, AROUND, layer.inputs), pointwise(layer, layer.outputs, AROUND)
        self.layer: nn.Module
        if layer.kind == "linear":
            self.layer = nn.Linear(layer.inputs, layer.outputs)
        else:
            options: dict[str, Any] = {name: getattr(layer, name) for name in ("stride", "dilation")}
            inner = symmetric(layer)
            self.layer = nn.Conv2d(layer.inputs, layer.outputs, layer.taps, padding=inner or 0, **options)
        self.pads = layer.kind == "convolution" and symmetric(layer) is None
        self.clip: nn.Module = {"": nn.Identity(), "relu": nn.ReLU(), "relu6": nn.ReLU6()}[layer.clip]

    def forward(self, x: Tensor) -> Tensor:
        """`probe_shape` -> the same with 16 channels at the size that the layer gives."""
        x = torch.relu(self.before(x))
        if self.pads:
            top, left, bottom, right = self.padding
            x = nn.functional.pad(x, (left, right, top, bottom))
        after: Tensor = self.after(self.clip(self.layer(x)))
        return after


def symmetric(layer: DenseLayer) -> tuple[int, int] | None:
    """The padding as one pair, None where it is not the same on both sides."""
    top, left, bottom, right = layer.padding
    return (top, left) if (top, left) == (bottom, right) else None


def pointwise(layer: DenseLayer, inputs: int, outputs: int) -> nn.Module:
    """A neighbour: of the layer's own kind, so that both read maps in one order."""
    return nn.Linear(inputs, outputs) if layer.kind == "linear" else nn.Conv2d(inputs, outputs, 1)


def probe_shape(layer: DenseLayer) -> Shape:
    """The input of a layer's test network."""
    return (1, *layer.size, AROUND) if layer.kind == "linear" else (1, AROUND, *layer.size)


def probe_program(layer: DenseLayer) -> Program:
    """The test network of a layer, with seeded weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        return capture(LayerNetwork(layer).eval(), probe_shape(layer))


def precision_contests(
    layer: DenseLayer, method: LayerMethod, exporter: Exporter, quantizer: Quantizer, folder: Path
) -> tuple[Contest, ...]:
    """A layer in float against int8, between float neighbours; and between int8 ones, where it shares borders.

    Raises:
        ConverterError: A converter failed, or writes the layer as another one than it is in the network.
    """
    program = probe_program(layer)
    exact = as_tuple(program_in_float64(program)(x := probe_input(layer)))[0].numpy()
    lowered = program
    for rewrite in LOWERINGS[exporter.runtime, BEST].passes:
        lowered = clone(lowered)
        rewrite(lowered, Log())
        finish(lowered)
    source = write(lowered, exporter, folder, "probe")
    before, own, after = three_layers(layer, quantizer, source[0])
    recipe = _RECIPES[method]

    def variant(stem: str, *names: str) -> tuple[Path, ...]:
        target = folder / f"{stem}{quantizer.suffix}"
        return _quantized(source[0], quantizer, recipe, frozenset(names), x, target)

    pairs = [(source, variant("layer", own.name))]
    if method == "static":
        beside = variant("neighbours", before.name, after.name)
        pairs.append((beside, variant("all", before.name, own.name, after.name)))
    return tuple(
        Contest({FLOAT: exactly, INT8: rounded}, {"x": x.numpy()}, dict.fromkeys((FLOAT, INT8), exact))
        for exactly, rounded in pairs
    )


def probe_input(layer: DenseLayer) -> Tensor:
    """What the test network is given, and calibrated with."""
    return torch.randn(probe_shape(layer), generator=torch.Generator().manual_seed(SEED))


def three_layers(layer: DenseLayer, quantizer: Quantizer, path: Path) -> tuple[Layer, Layer, Layer]:
    """The layers of a test network's file, the one it is for in the middle.

    Raises:
        ConverterError: There are others, so that what would be measured is not what stands in the network.
    """
    found = [each for each in quantizer.load().layers(path) if each.dense is not None]
    if len(found) != 3 or found[1].dense != layer:
        there = ", ".join(str(each.dense) for each in found) or "none"
        raise ConverterError(f"By itself {layer} is written otherwise: the test network's layers are {there}.")
    return found[0], found[1], found[2]


def _quantized(
    source: Path, quantizer: Quantizer, recipe: Recipe, chosen: frozenset[str], x: Tensor, target: Path
) -> tuple[Path, ...]:
    """The test network with some of its layers in int8."""
    job = Job(recipe, chosen, lambda: iter([{"x": x.numpy()}]), 1, draft=True)
    with silenced():
        return quantizer.load().quantize(source, job, target)
