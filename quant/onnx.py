"""ONNX through onnxruntime's quantizers, in forms that ONNX Runtime fuses into its integer kernels.

What has to be so, found by measuring; each has a test:

1. Activations are unsigned. Around signed ones ONNX Runtime on x86-64 leaves dense convolutions in float, between
   conversions, and is slower than float32.
2. Shapes that the exporter noted go before linear layers are quantized: the quantizer turns transposed weights round
   and then refuses its own graph.
3. No product with a matrix per channel: per-channel scales of it are refused when it runs.

4. An activation that only clips is taken into the range of the layer before it, which then has no value to spare for
   what is clipped; left to itself it would be computed between two roundings.

Weights are symmetric with one scale per output channel. A weight-only file is written here: `DequantizeLinear` on
int8 constants, or `Cast` on half floats, which ONNX Runtime folds away when it loads.
"""

import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic, quantize_static

from edgekit.errors import ConverterError, first_line
from edgekit.quant.base import Feed, Job, Kind, Layer
from edgekit.quant.half import halved

MODULE_KEY = "edgekit.module"
"""Where the exporter keeps the path of the module a node came from."""

_DEQUANTIZE = "DequantizeLinear"
_CAST = "Cast"
_LAYERS = frozenset({"Conv", "Gemm", "MatMul"})
_THROUGH = frozenset({_DEQUANTIZE, _CAST, "Gather", "Identity", "Reshape", "Transpose"})
"""What stands between the constants of a file and the layer that uses them; of each the first operand counts."""

_NARROW = frozenset({TensorProto.INT8, TensorProto.UINT8, TensorProto.FLOAT16})
_INTEGER = frozenset({"MatMulInteger", "ConvInteger", "QLinearConv", "QLinearMatMul", "QGemm"})
_CLIPPING = ("Relu", "Clip")
_SUFFIXES = ("_quant", "_MatMul")
"""What the quantizers append to the names of nodes that they replace, the last first."""


def layers(path: Path) -> tuple[Layer, ...]:
    """The convolutions, products and linear layers of an `.onnx` file."""
    from edgekit.filegraph.onnx import read

    graph = read(path)
    model = onnx.load(path)
    constants = {constant.name: len(constant.dims) for constant in model.graph.initializer}
    found = []
    for index, node in enumerate(model.graph.node):
        kind = _kind(node, constants)
        if kind is not None:
            known = graph.nodes[_name(node, index)]
            found.append(Layer(known.name, kind, known.name, known.module, known.macs))
    return tuple(found)


def _name(node: NodeProto, index: int) -> str:
    """A node's name, or the one it goes by where it has none."""
    return node.name or f"{node.op_type} {index}"


def _kind(node: NodeProto, constants: Mapping[str, int]) -> Kind | None:
    """What kind of layer a node is, given the rank of each constant; None for no layer."""
    if node.op_type == "Conv":
        groups = next((entry.i for entry in node.attribute if entry.name == "group"), 1)
        return "product" if node.input[1] not in constants else "grouped" if groups > 1 else "convolution"
    if node.op_type in ("MatMul", "Gemm"):
        return "linear" if constants.get(node.input[1]) == 2 else "product"
    return None


class _Constants:
    """The constants of a graph, found from the operands that are made of them."""

    def __init__(self, graph: GraphProto) -> None:
        self._stored = {constant.name: constant for constant in graph.initializer}
        self._givers = {output: node for node in graph.node for output in node.output}

    def behind(self, node: NodeProto) -> TensorProto | None:
        """The constant that a layer multiplies with; None where it multiplies two maps."""
        found = (self._behind(operand) for operand in (node.input[1], node.input[0]))
        return next((constant for constant in found if constant is not None), None)

    def _behind(self, name: str) -> TensorProto | None:
        giver = self._givers.get(name)
        if giver is None or giver.op_type not in _THROUGH:
            return self._stored.get(name)
        found = [self._behind(operand) for operand in giver.input if operand]
        return found[0] if all(found) else None


def weights(path: Path) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """The constants of layers; of those that are expanded when the file is loaded, what is stored."""
    yield from _stored_as(TensorProto.FLOAT, path)


def halves(path: Path) -> Iterator[tuple[str, NDArray[np.float16]]]:
    """The same, of those in half floats."""
    yield from _stored_as(TensorProto.FLOAT16, path)


def _stored_as(kind: int, path: Path) -> Iterator[tuple[str, NDArray[Any]]]:
    graph = onnx.load(path).graph
    constants = _Constants(graph)
    for index, node in enumerate(graph.node):
        constant = constants.behind(node) if node.op_type in _LAYERS else None
        if constant is not None and constant.data_type == kind:
            yield _name(node, index), numpy_helper.to_array(constant)


def quantize(source: Path, job: Job, target: Path) -> tuple[Path, ...]:
    """Writes one `.onnx` file."""
    model = onnx.load(source)
    for index, node in enumerate(model.graph.node):
        node.name = _name(node, index)
    described = {entry.key: entry.value for entry in model.metadata_props}
    modules = {node.name: entry.value for node in model.graph.node for entry in node.metadata_props}
    try:
        made = _by_method(model, job, source)
    except Exception as error:
        raise ConverterError(f"onnxruntime could not quantize {source.name}: {first_line(error)}") from error
    _describe(made, model.graph.name, described, modules)
    target.write_bytes(made.SerializeToString(deterministic=True))
    return (target,)


def _by_method(model: ModelProto, job: Job, source: Path) -> ModelProto:
    """The model with the chosen layers quantized."""
    if job.recipe.half:
        return _halves(model, job.chosen)
    if job.recipe.method == "weightonly":
        return _weights_only(model, job.chosen)
    kinds = {layer.name: layer.kind for layer in layers(source)}
    dynamic = {
        name
        for name in job.chosen
        if job.recipe.method == "dynamic" or (job.recipe.method == "mixed" and kinds[name] == "linear")
    }
    if fixed := job.chosen - dynamic:
        model = _static(model, sorted(fixed), job)
    return _dynamic(model, sorted(dynamic)) if dynamic else model


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    """The calibration inputs, one at a time."""

    def __init__(self, feeds: Iterator[Feed]) -> None:
        self._feeds = feeds

    def get_next(self) -> dict[str, NDArray[np.float32]]:
        return dict(next(self._feeds, {}))  # empty at the end


def _static(model: ModelProto, names: list[str], job: Job) -> ModelProto:
    """Conversions around layers, with ranges measured on the calibration inputs."""
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder) / "static.onnx"
        quantize_static(
            model,
            written,
            _Reader(job.calibration()),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv", "Gemm", "MatMul", *_CLIPPING],
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_quantize=[*names, *_clipping_after(model, names)],
        )
        return onnx.load(written)


def _clipping_after(model: ModelProto, names: list[str]) -> list[str]:
    """The activations that only clip what one of these layers gives: its range is measured behind them, and they go."""
    readers = Counter(name for node in model.graph.node for name in node.input)
    given = {node.output[0] for node in model.graph.node if node.name in names and readers[node.output[0]] == 1}
    return [node.name for node in model.graph.node if node.op_type in _CLIPPING and node.input[0] in given]


def _dynamic(model: ModelProto, names: list[str]) -> ModelProto:
    """Linear layers as integer products that find the range of their input in every run."""
    del model.graph.value_info[:]
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder) / "dynamic.onnx"
        quantize_dynamic(
            model,
            written,
            op_types_to_quantize=["MatMul"],
            per_channel=True,
            weight_type=QuantType.QInt8,
            nodes_to_quantize=[*names, *(f"{name}_MatMul" for name in names)],  # a Gemm becomes a MatMul first
        )
        return onnx.load(written)


def _weights_only(model: ModelProto, chosen: frozenset[str]) -> ModelProto:
    """Stores the weights of layers as int8; arithmetic stays float."""
    constants = {constant.name: constant for constant in model.graph.initializer}
    made: list[NodeProto] = []
    stored: dict[str, str] = {}
    for node in model.graph.node:
        if node.name not in chosen:
            continue
        name = node.input[1]
        if name not in stored:
            stored[name] = f"{name}.dequantized"
            made.append(_stored(model, constants[name], _output_axis(node), stored[name]))
        node.input[1] = stored[name]
    for name in stored:
        if not any(name in node.input for node in model.graph.node):
            model.graph.initializer.remove(constants[name])
    nodes = [*made, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


def _halves(model: ModelProto, chosen: frozenset[str]) -> ModelProto:
    """Stores the weights of layers as half floats; arithmetic stays float."""
    constants = _Constants(model.graph)
    stored: dict[str, TensorProto] = {}
    for node in model.graph.node:
        constant = constants.behind(node) if node.name in chosen else None
        if constant is not None:
            stored[constant.name] = constant
    made = []
    for name, constant in stored.items():
        values: NDArray[Any] = numpy_helper.to_array(constant)
        constant.CopyFrom(numpy_helper.from_array(halved(values), f"{name}.half"))
        made.append(helper.make_node(_CAST, [constant.name], [name], name=f"{name}.{_CAST}", to=TensorProto.FLOAT))
    nodes = [*made, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


def _output_axis(node: NodeProto) -> int:
    """The axis of a layer's weight along which its output channels lie."""
    if node.op_type == "Conv":
        return 0
    turned = any(entry.name == "transB" and entry.i for entry in node.attribute)
    return 0 if turned else 1


def _stored(model: ModelProto, constant: TensorProto, axis: int, name: str) -> NodeProto:
    """Adds int8 values and scales of a weight, and gives the node that makes floats of them."""
    values: NDArray[Any] = numpy_helper.to_array(constant)
    others = tuple(each for each in range(values.ndim) if each != axis)
    largest = np.abs(values).max(axis=others, keepdims=True)
    scale = np.where(largest > 0, largest / 127.0, 1.0).astype(np.float32)
    whole = np.clip(np.rint(values / scale), -127, 127).astype(np.int8)
    parts: dict[str, NDArray[Any]] = {f"{name}.int8": whole, f"{name}.scale": scale.reshape(-1)}
    model.graph.initializer.extend(numpy_helper.from_array(value, part) for part, value in parts.items())
    return helper.make_node(_DEQUANTIZE, list(parts), [name], name=f"{name}.{_DEQUANTIZE}", axis=axis)


def _describe(model: ModelProto, name: str, described: Mapping[str, str], modules: Mapping[str, str]) -> None:
    """Gives the graph its name, metadata and module paths back, which the quantizers drop in places."""
    model.graph.name = name
    del model.metadata_props[:]
    helper.set_model_props(model, dict(described))
    for node in model.graph.node:
        module = modules.get(_original(node.name))
        if module is not None and not node.metadata_props:
            node.metadata_props.add(key=MODULE_KEY, value=module)


def _original(name: str) -> str:
    """The name a node had before the quantizers."""
    for suffix in _SUFFIXES:
        name = name.removesuffix(suffix)
    return name


def quantized(path: Path) -> frozenset[str]:
    """The layers whose weights are integers or half floats."""
    graph = onnx.load(path).graph
    constants = _Constants(graph)
    return frozenset(
        _original(node.name) for node in graph.node if node.op_type in _INTEGER or _is_narrow(node, constants)
    )


def _is_narrow(node: NodeProto, constants: _Constants) -> bool:
    """Whether a layer multiplies with a constant of fewer bits than its own arithmetic has."""
    constant = constants.behind(node) if node.op_type in _LAYERS else None
    return constant is not None and constant.data_type in _NARROW
