"""A quantized artifact of a plan: the float one, proved, then quantized and compared with it."""

import tempfile
from pathlib import Path

from msgspec import structs

from edgekit.artifact import CaseParity
from edgekit.budget import make_within
from edgekit.bundle import Member
from edgekit.candidates import write_artifact
from edgekit.clock import Clock
from edgekit.errors import ParityError
from edgekit.exporters import Exporter
from edgekit.files import hash_files
from edgekit.material import Material
from edgekit.network import Network
from edgekit.plan import Plan
from edgekit.precision_text import speed_note
from edgekit.quant import Quantizer
from edgekit.quant.recipe import Recipe
from edgekit.verify import Reference, repeatable, verify_file


def quantize_artifact(
    plan: Plan,
    exporter: Exporter,
    quantizer: Quantizer,
    recipe: Recipe,
    material: Material,
    folder: Path,
    clock: Clock,
    network: Network,
) -> Member:
    """Writes one quantized artifact.

    Args:
        plan: Of the float file that is quantized, see `Plan.quantized`.
        exporter: Of the format.
        quantizer: Likewise.
        recipe: How.
        material: Images.
        folder: Where to write.
        clock: Who watches.
        network: The network.

    Raises:
        ParityError: The float file is not the network, or the quantized one is not any more.
        NoGainError: No layer is faster in int8 where the artifact is for.
    """
    request = plan.request
    with tempfile.TemporaryDirectory() as scratch:
        exact = write_artifact(plan, exporter, Path(scratch), clock, network, None)
        source, target = (place / exact.artifact.files[0].name for place in (Path(scratch), folder))
        with clock.stage(f"quantize {exporter.format}"):
            asked = request.keep_float, request.max_drop, plan.precision_chooser(exporter), request.ranges
            made = make_within(source, target, quantizer, recipe, material, *asked)
    with clock.stage(f"verify {exporter.format} {request.precision}"):
        cases = finite_cases(exporter.runtime, target, network.reference)
    notes = (f"recipe {recipe.name}", *filter(None, [speed_note(made.record)]), *exact.artifact.notes)
    artifact = structs.replace(exact.artifact, files=hash_files(made.files), notes=notes)
    return structs.replace(exact, artifact=artifact, parity=cases, quantization=made.record)


def finite_cases(runtime: str, target: Path, reference: Reference) -> tuple[CaseParity, ...]:
    """How a quantized artifact compares with the float64 model, which no gate is for.

    Raises:
        ParityError: A value is not finite.
    """
    cases = repeatable(verify_file(runtime, target, reference))
    if nonfinite := sum(case.parity.nonfinite for case in cases):
        raise ParityError(f"{target.name} gives {nonfinite} NaN or infinite values. Nothing was published.")
    return cases
