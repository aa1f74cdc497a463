"""What precision is measured on: a network in one format, as an export would quantize it."""

from dataclasses import dataclass, replace
from pathlib import Path

from edgekit.exporters import Exporter
from edgekit.exporters.base import ExportSpec
from edgekit.network import Network, lower
from edgekit.plan import Plan
from edgekit.quant import QUANTIZERS, Quantizer
from edgekit.quant.base import Feed
from edgekit.quant.recipe import BEST, DEFAULT_RECIPE, Recipe
from edgekit.quantize import Choice, choose
from edgekit.quiet import silenced
from edgekit.tune.measure import Scene
from edgekit.tune.whole import timed_case
from edgekit.tuning.nearest import Place
from edgekit.verify import Expected


@dataclass(frozen=True, slots=True)
class Subject:
    """A network in one format.

    Attributes:
        exact: The files of the float artifact.
        source: Those of the float file that is quantized, in the lowering for int8.
        inputs: What it runs on, and is calibrated with.
        expected: What the original model answers in float64.
        choice: What structure alone would make int8.
    """

    exporter: Exporter
    quantizer: Quantizer
    recipe: Recipe
    exact: tuple[Path, ...]
    source: tuple[Path, ...]
    inputs: Feed
    expected: Expected
    choice: Choice


def write_subject(network: Network, plan: Plan, exporter: Exporter, asked: str, scene: Scene, folder: Path) -> Subject:
    """Writes the float artifact, and the float file that is quantized, with the forms of kernels that a place gets.

    Raises:
        MisuseError: The format does not have the recipe, or nothing in the network may be int8.
        ConverterError: The converter failed.
        ParityError: A lowering changed the network.
    """
    quantizer = QUANTIZERS[exporter.format]
    recipe = quantizer.recipe(asked)
    spec = ExportSpec(plan.inputs, network.reference.outputs, plan.metadata)
    there = Place((scene.architecture,), scene.cpu, frozenset(), scene.dot_products)
    chooser, files = replace(plan.chooser(exporter), place=there), {}
    for precision in (DEFAULT_RECIPE, BEST):
        program = lower(network, exporter.runtime, precision, chooser).program
        with silenced():
            files[precision] = exporter.load()(program, spec, folder, precision)[0].files
    case, inputs = timed_case(network, plan)
    return Subject(
        exporter=exporter,
        quantizer=quantizer,
        recipe=recipe,
        exact=files[DEFAULT_RECIPE],
        source=files[BEST],
        inputs=inputs,
        expected=case.outputs[0],
        choice=choose(files[BEST][0], quantizer, recipe),
    )
