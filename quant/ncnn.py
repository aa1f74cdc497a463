"""ncnn: half floats in its `.bin` file, which it expands when it loads them.

The file is the arrays of all layers, one after another, without a name or a length: the layers in the `.param` file say
what comes. An array that may be stored in several ways begins with four bytes that tell which. Those of a `MemoryData`
layer, which holds an operand of a product, do so where its parameter 21 is 0.

ncnn's wheels have no tool that makes int8.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.errors import ConverterError
from edgekit.filegraph.ncnn import MARK, ParamLine, read_lines
from edgekit.quant.base import Job, Kind, Layer
from edgekit.quant.half import halved

_KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        "Convolution": "convolution",
        "ConvolutionDepthWise": "grouped",
        "InnerProduct": "linear",
        "MatMul": "product",
    }
)

_FLOAT_TAG = (0).to_bytes(4, "little")
_HALF_TAG = 0x01306B47.to_bytes(4, "little")
_MEMORY = "MemoryData"
_TAGGED_MEMORY = "21=0"
_FLOAT, _HALF = np.dtype("<f4"), np.dtype("<f2")


@dataclass(frozen=True, slots=True)
class Stored:
    """An array of a `.bin` file.

    Attributes:
        layer: Name of the layer that it belongs to.
        start: Where its bytes begin, those that tell its type included.
        end: Where the next one's do.
        count: How many numbers it has.
        taggable: Whether ncnn takes it in half floats too.
        half: Whether it is.
    """

    layer: str
    start: int
    end: int
    count: int
    taggable: bool
    half: bool


def layers(path: Path) -> tuple[Layer, ...]:
    """The convolutions, products and linear layers of a `.param` file."""
    from edgekit.filegraph.ncnn import read

    nodes = read(path).nodes.values()
    return tuple(
        Layer(node.name, _KINDS[node.kind], node.name, node.module, node.macs) for node in nodes if node.kind in _KINDS
    )


def weights(path: Path) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """The constants of layers."""
    yield from _stored_as(_FLOAT, path)


def halves(path: Path) -> Iterator[tuple[str, NDArray[np.float16]]]:
    """The same, of those in half floats."""
    yield from _stored_as(_HALF, path)


def _stored_as(kind: np.dtype[Any], path: Path) -> Iterator[tuple[str, NDArray[Any]]]:
    lines = read_lines(path)
    content = path.with_suffix(".bin").read_bytes()
    arrays = {stored.layer: stored for stored in arrays_of(lines, content, path.name) if stored.taggable}
    for layer, holder in holders(lines).items():
        stored = arrays[holder]
        if stored.half == (kind == _HALF):
            yield layer, np.frombuffer(content, kind, stored.count, stored.end - _whole(stored.count * kind.itemsize))


def holders(lines: list[ParamLine]) -> Mapping[str, str]:
    """Name of each layer that multiplies with a constant, to that of the layer that holds it."""
    givers = {blob: line for line in lines for blob in line.outputs}
    found: dict[str, str] = {}
    for line in lines:
        if line.kind == "MatMul":
            operands = (_origin(blob, givers) for blob in line.inputs)
            memory = [operand.name for operand in operands if operand.kind == _MEMORY]
            found |= dict.fromkeys([line.name], memory[0]) if memory else {}
        elif line.kind in _KINDS:
            found[line.name] = line.name
    return found


def _origin(blob: str, givers: Mapping[str, ParamLine]) -> ParamLine:
    """The layer that computes a blob, past those that only hand it to several readers."""
    line = givers[blob]
    return _origin(line.inputs[0], givers) if line.kind == "Split" else line


def arrays_of(lines: list[ParamLine], content: bytes, name: str) -> list[Stored]:
    """The arrays of a `.bin` file.

    Raises:
        ConverterError: There is a layer whose arrays are not known here.
    """
    found, start = [], 0
    for line in lines:
        for count, taggable, tagged in _expected(line):
            tag = content[start : start + len(_FLOAT_TAG)] if tagged else b""
            half = tag == _HALF_TAG
            size = _whole(count * _HALF.itemsize) if half else count * _FLOAT.itemsize
            if tagged and tag not in (_FLOAT_TAG, _HALF_TAG):
                raise ConverterError(
                    f"{name} has weights of layer {line.name} that are neither floats nor half floats."
                )
            found.append(Stored(line.name, start, start + len(tag) + size, count, taggable, half))
            start = found[-1].end
    if start != len(content):
        kinds = ", ".join(sorted({line.kind for line in lines}))
        raise ConverterError(
            f"The weights of {name} cannot be told apart: of one of its layers ({kinds}) it is not known how ncnn "
            "stores them. Leave ncnn out of --format."
        )
    return found


def _whole(size: int) -> int:
    """Bytes up to the next multiple of four."""
    return -(-size // len(_FLOAT_TAG)) * len(_FLOAT_TAG)


def _expected(line: ParamLine) -> list[tuple[int, bool, bool]]:
    """Of each array of a layer: how many numbers, whether it may be half floats, whether it tells its type."""
    number = line.number
    match line.kind:
        case "Convolution" | "ConvolutionDepthWise" | "Deconvolution" | "DeconvolutionDepthWise":
            return [(number(6), True, True), *_plain(number(5) * number(0))]
        case "InnerProduct":
            return [(number(2), True, True), *_plain(number(1) * number(0))]
        case "MemoryData":
            sides = (number(0), number(1), number(11), number(2))
            return [(prod(side for side in sides if side), True, number(21, 1) == 0)]
        case "BatchNorm":
            return _plain(number(0), 4)
        case "LayerNorm":
            return _plain(number(2, 1) * number(0), 2)
        case "GroupNorm":
            return _plain(number(3, 1) * number(1), 2)
        case "InstanceNorm":
            return _plain(number(2, 1) * number(0), 2)
        case "RMSNorm":
            return _plain(number(2, 1) * number(0))
        case "PReLU" | "Bias":
            return _plain(number(0))
        case "Scale":
            return _plain(number(0), 1 + number(1))
        case _:
            return []


def _plain(count: int, arrays: int = 1) -> list[tuple[int, bool, bool]]:
    """So many arrays of floats; none where they are empty."""
    return [(count, False, False)] * arrays if count else []


def quantize(source: Path, job: Job, target: Path) -> tuple[Path, ...]:
    """Writes a `.param` file and the `.bin` beside it."""
    lines = read_lines(source)
    content = source.with_suffix(".bin").read_bytes()
    held = holders(lines)
    chosen = {held[layer] for layer in job.chosen if layer in held}
    parts = [
        _as_half(content, stored) if stored.taggable and stored.layer in chosen else content[stored.start : stored.end]
        for stored in arrays_of(lines, content, source.name)
    ]
    memory = {line.name for line in lines if line.kind == _MEMORY and line.name in chosen}
    text = source.read_text(encoding="utf-8").splitlines()
    target.write_text("\n".join([_tagged(line, memory) for line in text] + [""]), encoding="utf-8")
    weights_file = target.with_suffix(".bin")
    weights_file.write_bytes(b"".join(parts))
    return target, weights_file


def _as_half(content: bytes, stored: Stored) -> bytes:
    """An array as half floats, up to a multiple of four bytes."""
    values = np.frombuffer(content, _FLOAT, stored.count, stored.end - stored.count * _FLOAT.itemsize)
    half = halved(values).astype(_HALF).tobytes()
    return _HALF_TAG + half.ljust(_whole(len(half)), b"\0")


def _tagged(line: str, memory: set[str]) -> str:
    """A line of the `.param` file, which says that an operand tells its type where it is in half floats now."""
    words = line.split()
    chosen = not line.startswith(MARK) and len(words) > 1 and words[0] == _MEMORY and words[1] in memory
    return f"{line} {_TAGGED_MEMORY}" if chosen else line


def quantized(path: Path) -> frozenset[str]:
    """The layers whose weights are half floats."""
    lines = read_lines(path)
    stored = arrays_of(lines, path.with_suffix(".bin").read_bytes(), path.name)
    halves = {each.layer for each in stored if each.half}
    return frozenset(layer for layer, holder in holders(lines).items() if holder in halves)
