"""ncnn's `.param` files: a layer a line. Shapes are not in the file, so the network is run once, on zeros.

pnnx keeps no path of a module, so layers have none.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import ncnn
import numpy as np

from edgekit.filegraph.base import FileGraph, FileNode

_ncnn: Any = ncnn  # it has no types
MARK = "# edgekit "
_HEADER_LINES = 2
_FLOAT_BYTES = 4
_AS_IT_IS = 1

_CONVOLUTIONS = frozenset({"Convolution", "ConvolutionDepthWise", "Deconvolution", "DeconvolutionDepthWise"})
_WEIGHTS = {**dict.fromkeys(_CONVOLUTIONS, 6), "InnerProduct": 2}
"""Layer to the parameter that holds the number of its weights."""

_Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ParamLine:
    """A layer of a `.param` file: `kind name inputs outputs blobs... key=value...`."""

    kind: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    parameters: Mapping[str, str]

    def number(self, key: int, otherwise: int = 0) -> int:
        """A parameter that is a whole number."""
        return int(self.parameters.get(str(key), otherwise))


def read(path: Path) -> FileGraph:
    """The layers of a `.param` file with its `.bin` beside it."""
    _, _, text = path.read_text(encoding="utf-8").rstrip().rpartition(MARK)
    lines = read_lines(path)
    shapes = _shapes(path, lines, json.loads(text)["inputs"])
    sizes = {blob: _FLOAT_BYTES * prod(shape) for blob, shape in shapes.items()}
    nodes = {}
    for line in lines:
        if line.kind == "Input":
            continue
        weights = line.number(_WEIGHTS[line.kind]) if line.kind in _WEIGHTS else 0
        macs = _macs(line.kind, weights, [shapes[blob] for blob in line.inputs], shapes[line.outputs[0]])
        constants = (f"{line.name}:weight",) if weights else ()
        sizes |= dict.fromkeys(constants, _FLOAT_BYTES * weights)
        nodes[line.name] = FileNode(line.name, line.kind, None, macs, (*line.inputs, *constants), line.outputs)
    return FileGraph(nodes, sizes)


def read_lines(path: Path) -> list[ParamLine]:
    """The layers of a `.param` file that edgekit wrote, in order."""
    lines, _, _ = path.read_text(encoding="utf-8").rstrip().rpartition(MARK)
    return [_line(line) for line in lines.splitlines()[_HEADER_LINES:] if line.strip()]


def _line(text: str) -> ParamLine:
    kind, name, inputs, outputs, *rest = text.split()
    first, last = int(inputs), int(inputs) + int(outputs)
    parameters = dict(each.split("=", 1) for each in rest[last:])
    return ParamLine(kind, name, tuple(rest[:first]), tuple(rest[first:last]), parameters)


def _shapes(path: Path, lines: list[ParamLine], inputs: list[dict[str, Any]]) -> dict[str, _Shape]:
    """Shape of every blob, channels first where there are any."""
    net = _ncnn.Net()
    net.opt.num_threads = 1
    net.load_param(str(path))
    net.load_model(str(path.with_suffix(".bin")))
    extractor = net.create_extractor()
    extractor.set_light_mode(False)
    images = {each["name"]: np.zeros(each["shape"][1:], np.float32) for each in inputs}
    for name, image in images.items():
        extractor.input(name, _ncnn.Mat(image))
    shapes = {name: tuple(image.shape) for name, image in images.items()}
    for line in lines:
        if line.kind != "Input":
            shapes |= {blob: _shape(extractor.extract(blob, _AS_IT_IS)[1]) for blob in line.outputs}
    return shapes


def _shape(blob: Any) -> _Shape:
    """The shape of a blob, whose outermost axis may be packed."""
    sides = {1: (blob.w,), 2: (blob.h, blob.w), 3: (blob.c, blob.h, blob.w), 4: (blob.c, blob.d, blob.h, blob.w)}
    outermost, *others = sides[blob.dims]
    return (outermost * blob.elempack, *others)


def _macs(kind: str, weights: int, operands: list[_Shape], result: _Shape) -> int:
    """MACs of one layer."""
    if kind in _CONVOLUTIONS:
        spatial = operands[0] if kind.startswith("Deconvolution") else result
        return weights * prod(spatial[1:])
    if kind == "InnerProduct":
        return weights * prod(result[:-1])
    if kind in ("Gemm", "MatMul"):
        return prod(result) * operands[0][-1]
    return 0
