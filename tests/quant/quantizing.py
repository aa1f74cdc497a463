"""Quantizing the small network, by format and recipe."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from edgekit.numerics import compare_one
from edgekit.quant import QUANTIZERS
from edgekit.quant.base import Feed, Job, Layer
from edgekit.quantize import choose
from edgekit.quiet import silenced
from edgekit.runners import load
from tests.quant import small

Make = Callable[[str, str], Path]
"""Format and recipe to the quantized file."""


def choice(name: str, recipe: str, path: Path) -> tuple[tuple[Layer, ...], Mapping[str, str]]:
    """The layers of a float file, and why some of them stay float."""
    found = choose(path, QUANTIZERS[name], QUANTIZERS[name].recipe(recipe))
    return found.layers, found.why


def write(
    name: str,
    recipe: str,
    source: Path,
    target: Path,
    feeds: Callable[[], Any] = small.calibrating,
    **options: Any,
) -> Path:
    """Quantizes what the recipe chooses."""
    layers, why = choice(name, recipe, source)
    chosen = frozenset(layer.name for layer in layers) - frozenset(why)
    quantizer = QUANTIZERS[name]
    job = Job(quantizer.recipe(recipe), chosen, feeds, small.IMAGES, **options)
    with silenced():
        files = quantizer.load().quantize(source, job, target)
    assert files[0] == target
    return target


def snr_db(name: str, source: Path, target: Path, feeds: Iterable[Feed] = ()) -> float:
    """How close a file comes to another on held-out inputs."""
    outputs = []
    for path in (source, target):
        with load(QUANTIZERS[name].runtime, path) as runner:
            outputs.append(np.concatenate([runner.run(feed)["logits"] for feed in feeds or small.held_out()]))
    return compare_one(*outputs).snr_db


def optimized(path: Path, folder: Path) -> Counter[str]:
    """The operators ONNX Runtime makes of a file."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(folder / "optimized.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return Counter(node.op_type for node in onnx.load(folder / "optimized.onnx").graph.node)
