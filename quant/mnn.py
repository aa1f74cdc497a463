"""MNN through its own converter, which stores weights in 8 bits or as half floats and computes in float32 all the same.

What has to be so, found by measuring; each has a test:

1. The converter stores every constant in fewer bits. What was not chosen gets its floats back, see `edgekit.mnn_file`.
2. It makes half floats by cutting digits off. They are rounded here.
3. Nothing is optimised anew, or operators would have other names and places than in the float file.

Weights in 8 bits have a least value and a scale for each output channel.
"""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import MNN
import numpy as np
from numpy.typing import NDArray

from edgekit import mnn_file
from edgekit.errors import ConverterError
from edgekit.mnn_file import CONVOLUTIONS, Operator, Type, floats, operators, restored, rounded, storage
from edgekit.mnn_tools import convert, with_fixed_identifier
from edgekit.quant.base import Job, Kind, Layer
from edgekit.quant.half import halved

_mnn: Any = MNN  # compiled, and says nothing of its types

_KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        "Convolution": "convolution",
        "ConvolutionDepthwise": "grouped",
        **dict.fromkeys(("BatchMatMul", "MatMul", "While"), "product"),
    }
)
"""Operators of a session, which runs products with one matrix per channel as a loop."""

_LINEAR = "__matmul_converted"
"""What the converter appends to the names of linear layers, which it makes convolutions."""

_INT8, _HALF = ("--weightQuantBits", "8"), ("--fp16",)
_AS_IT_IS = ("--optimizeLevel", "0")


def layers(path: Path) -> tuple[Layer, ...]:
    """The convolutions, products and linear layers of a `.mnn` file."""
    from edgekit.filegraph.mnn import read

    names = {operator.name for operator in operators(path.read_bytes())}
    return tuple(
        Layer(node.name, _kind(node.kind, node.name), node.name, node.module, node.macs)
        for node in read(path).nodes.values()
        if node.kind in _KINDS and node.name in names
    )


def _kind(kind: str, name: str) -> Kind:
    return "linear" if name.endswith(_LINEAR) else _KINDS[kind]


def weights(path: Path) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """The constants of layers."""
    content = path.read_bytes()
    for name, holder in _holders(operators(content)).items():
        values = floats(content, holder)
        if values is not None:
            yield name, values


def halves(path: Path) -> Iterator[tuple[str, NDArray[np.float16]]]:
    """The same, of those in half floats."""
    content = path.read_bytes()
    for name, holder in _holders(operators(content)).items():
        values = mnn_file.halves(content, holder)
        if values is not None:
            yield name, values


def _holders(everything: Sequence[Operator]) -> dict[str, Operator]:
    """Name of each operator that may be a layer, to the operator that holds its weights: itself, or a constant."""
    givers = {tensor: operator for operator in everything for tensor in operator.outputs}
    found = {}
    for operator in everything:
        if operator.type in CONVOLUTIONS:
            found[operator.name] = operator
        elif operator.type == Type.MATMUL:
            origins = (_origin(tensor, givers) for tensor in operator.inputs)
            constants = [origin for origin in origins if origin is not None and origin.type == Type.CONST]
            found |= dict.fromkeys([operator.name], constants[0]) if constants else {}
    return found


def _origin(tensor: int, givers: Mapping[int, Operator]) -> Operator | None:
    """The operator that a tensor comes from, past those that only lay it out anew."""
    operator = givers.get(tensor)
    while operator is not None and len(operator.inputs) == 1 and operator.type not in CONVOLUTIONS:
        operator = givers.get(operator.inputs[0])
    return operator


def quantize(source: Path, job: Job, target: Path) -> tuple[Path, ...]:
    """Writes one `.mnn` file."""
    exact = source.read_bytes()
    described = str(_mnn.nn.load_module_from_file(str(source), [], []).get_info()["bizCode"])
    options = [*(_HALF if job.recipe.half else _INT8), *_AS_IT_IS, "--bizCode", described]
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        made, identifier = convert("MNN", source, options, Path(scratch), source.name)
    target.write_bytes(with_fixed_identifier(_corrected(exact, made, job), identifier))
    return (target,)


def _corrected(exact: bytes, made: bytes, job: Job) -> bytes:
    """The converter's file with the constants of all but the chosen layers as they were, and half floats rounded.

    Raises:
        ConverterError: It has other operators than the float file.
    """
    before, after = operators(exact), operators(made)
    if [operator.name for operator in before] != [operator.name for operator in after]:
        raise ConverterError("MNN's converter changed more than the weights of the file. Leave mnn out of --format.")
    held = {holder for name, holder in _holders(before).items() if name in job.chosen}
    constants = {index: values for index, each in enumerate(before) if (values := floats(exact, each)) is not None}
    made = restored(made, {index: values for index, values in constants.items() if before[index] not in held})
    if job.recipe.half:
        return rounded(made, {index: halved(constants[index]) for index in constants if before[index] in held})
    return made


def quantized(path: Path) -> frozenset[str]:
    """The layers whose weights are integers or half floats."""
    content = path.read_bytes()
    return frozenset(
        name for name, holder in _holders(operators(content)).items() if storage(content, holder) in ("half", "integer")
    )
