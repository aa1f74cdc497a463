"""ncnn's `.param` files: a layer a line. Shapes are not in the file, so the network is run once, on zeros.

pnnx keeps no path of a module, so layers have none.
"""

import json
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

_WEIGHTS = {"Convolution": "6", "ConvolutionDepthWise": "6", "Deconvolution": "6", "DeconvolutionDepthWise": "6"}
"""Layer to the parameter that holds the number of its weights."""

_Shape = tuple[int, ...]


def read(path: Path) -> FileGraph:
    """The layers of a `.param` file with its `.bin` beside it."""
    lines, _, text = path.read_text(encoding="utf-8").rstrip().rpartition(MARK)
    layers = [_layer(line) for line in lines.splitlines()[_HEADER_LINES:] if line.strip()]
    shapes = _shapes(path, layers, json.loads(text)["inputs"])
    sizes = {blob: _FLOAT_BYTES * prod(shape) for blob, shape in shapes.items()}
    nodes = {}
    for kind, name, given, made, parameters in layers:
        if kind == "Input":
            continue
        weights = int(parameters.get(_WEIGHTS.get(kind, "2" if kind == "InnerProduct" else ""), 0))
        macs = _macs(kind, weights, [shapes[blob] for blob in given], shapes[made[0]])
        constants = (f"{name}:weight",) if weights else ()
        sizes |= dict.fromkeys(constants, _FLOAT_BYTES * weights)
        nodes[name] = FileNode(name, kind, None, macs, (*given, *constants), tuple(made))
    return FileGraph(nodes, sizes)


def _layer(line: str) -> tuple[str, str, list[str], list[str], dict[str, str]]:
    """Kind, name, blobs read, blobs given, and parameters: `kind name inputs outputs blobs... key=value...`."""
    kind, name, inputs, outputs, *rest = line.split()
    first, last = int(inputs), int(inputs) + int(outputs)
    return kind, name, rest[:first], rest[first:last], dict(each.split("=", 1) for each in rest[last:])


def _shapes(path: Path, layers: list[Any], inputs: list[dict[str, Any]]) -> dict[str, _Shape]:
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
    for kind, _, _, made, _ in layers:
        if kind != "Input":
            shapes |= {blob: _shape(extractor.extract(blob, _AS_IT_IS)[1]) for blob in made}
    return shapes


def _shape(blob: Any) -> _Shape:
    """The shape of a blob, whose outermost axis may be packed."""
    sides = {1: (blob.w,), 2: (blob.h, blob.w), 3: (blob.c, blob.h, blob.w), 4: (blob.c, blob.d, blob.h, blob.w)}
    outermost, *others = sides[blob.dims]
    return (outermost * blob.elempack, *others)


def _macs(kind: str, weights: int, operands: list[_Shape], result: _Shape) -> int:
    """MACs of one layer."""
    if kind in _WEIGHTS:
        spatial = operands[0] if kind.startswith("Deconvolution") else result
        return weights * prod(spatial[1:])
    if kind == "InnerProduct":
        return weights * prod(result[:-1])
    if kind in ("Gemm", "MatMul"):
        return prod(result) * operands[0][-1]
    return 0
