"""A float file of a user's own becomes a quantized one beside it."""

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import msgspec

from edgekit.artifact import Preprocessing, QuantRecord, TensorSpec
from edgekit.budget import make_within
from edgekit.cache import tool_versions
from edgekit.errors import ArtifactError, MissingExtraError, MisuseError
from edgekit.files import output_errors
from edgekit.material import gather
from edgekit.places import DEFAULT_TARGET, precisions
from edgekit.quant import QUANTIZERS, Quantizer
from edgekit.quant.recipe import DEFAULT_RECIPE, Ranges
from edgekit.quiet import silenced
from edgekit.runners import load
from edgekit.tuning.tables import Tuning, own_tables, shipped_tables

PREPROCESSING_KEY = "edgekit.preprocessing"


@dataclass(frozen=True, slots=True)
class Wish:
    """What to make of a file; the fields are the command's options."""

    data: str
    recipe: str
    calibration: int
    keep: tuple[str, ...] = ()
    max_drop: float | None = None
    ranges: Ranges | None = None
    target: str = DEFAULT_TARGET
    smallest: bool = False


@dataclass(frozen=True, slots=True)
class QuantizedFile:
    """What was written, and what is known about it; `assumed` where the file did not tell its preprocessing."""

    files: tuple[Path, ...]
    record: QuantRecord
    assumed: bool


def quantizer_of(path: Path) -> Quantizer:
    """The quantizer of a file, by its ending.

    Raises:
        MisuseError: There is no such file, or nothing quantizes its format.
        MissingExtraError: The quantizer is not installed.
    """
    found = {quantizer.suffix: quantizer for quantizer in QUANTIZERS.values()}.get(path.suffix)
    if not path.is_file():
        raise MisuseError(f"{path} is neither a bundle nor a file. `edgekit export MODEL` makes a bundle.")
    if found is None:
        known = ", ".join(quantizer.suffix for quantizer in QUANTIZERS.values())
        raise MisuseError(f"{path} cannot be quantized: its ending is none of {known}.")
    for package in found.packages:
        if package not in tool_versions((package,)):
            raise MissingExtraError(package, found.extra or "all", f"quantizing {found.format}")
    return found


def quantize_file(path: Path, wish: Wish, fallback: Preprocessing, out: Path | None = None) -> QuantizedFile:
    """Quantizes an `.onnx`, `.tflite`, `.xml`, `.mnn` or `.param` file.

    Args:
        path: The float file.
        wish: How.
        fallback: Preprocessing where the file tells none.
        out: Where to write; by default beside the file, with the recipe before its ending.

    Raises:
        MisuseError: The file, the recipe, the target or the images do not fit.
        NoGainError: Nothing in the file is faster in int8.
        ArtifactError: Its runtime does not load the file.
        ParityError: The outputs are not the network's any more; nothing is written.
        BudgetError: No mix of precisions keeps the drop in accuracy inside the budget; nothing is written.
        OutputError: There is no room, or no permission.
    """
    quantizer = quantizer_of(path)
    if wish.recipe == DEFAULT_RECIPE:
        raise MisuseError(
            f"Recipe {DEFAULT_RECIPE!r} leaves a file as it is. Choose int8, one of its recipes, or fp16."
        )
    recipe = quantizer.recipe(wish.recipe)
    target = out or path.with_suffix(f".{wish.recipe}{path.suffix}")
    if target.suffix != path.suffix:
        raise MisuseError(f"{target} should end with {path.suffix}, as {path.name} does.")
    inputs, stated = describe(path, quantizer)
    tuning = Tuning(own_tables(), shipped_tables())
    decide = precisions(wish.target, quantizer.runtime, quantizer.format, tuning, smallest=wish.smallest)
    material = gather(wish.data, stated or fallback, inputs, wish.calibration)
    with output_errors(target.parent, "choose another place with -o"), tempfile.TemporaryDirectory() as folder:
        with silenced():
            place = Path(folder) / target.name
            wished = wish.keep, wish.max_drop, decide, wish.ranges
            made = make_within(path, place, quantizer, recipe, material, *wished)
        files = tuple(Path(shutil.move(file, target.parent / file.name)) for file in made.files)
    return QuantizedFile(files, made.record, stated is None)


def describe(path: Path, quantizer: Quantizer) -> tuple[tuple[TensorSpec, ...], Preprocessing | None]:
    """A file's inputs, and the preprocessing its metadata states.

    Raises:
        ArtifactError: Its runtime does not load it, its sizes are not fixed, or its metadata is damaged.
    """
    with silenced(), load(quantizer.runtime, path) as runner:
        inputs, metadata = runner.inputs, runner.metadata()
    if not all(isinstance(side, int) and side > 0 for spec in inputs for side in spec.shape):
        raise ArtifactError(f"{path.name} has an input without a fixed size. Fix its sizes when it is exported.")
    if PREPROCESSING_KEY not in metadata:
        return inputs, None
    try:
        return inputs, msgspec.json.decode(metadata[PREPROCESSING_KEY], type=Preprocessing)
    except msgspec.DecodeError as error:
        raise ArtifactError(f"{path.name} has damaged metadata: {PREPROCESSING_KEY}: {error}.") from error
