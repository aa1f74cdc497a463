"""ONNX through onnxruntime's quantizers, in forms that ONNX Runtime fuses into its integer kernels.

What has to be so, found by measuring; each has a test:

1. Activations are unsigned. Around signed ones ONNX Runtime on x86-64 leaves dense convolutions in float, between
   conversions, and is slower than float32.
2. Shapes that the exporter noted go before linear layers are quantized: the quantizer turns transposed weights round
   and then refuses its own graph.
3. No product with a matrix per channel: per-channel scales of it are refused when it runs.
4. An activation that only clips is taken into the range of the layer before it, which then has no value to spare for
   what is clipped; left to itself it would be computed between two roundings.
5. Before a convolution that stays float it is left in its place, where it has nothing to do: a float convolution
   between two conversions is quantized by ONNX Runtime itself, with one scale for all its weights.

Weights are symmetric with one scale per output channel, activations have the ranges of `edgekit.quant.ranges`, and a
second go has corrected biases, see `edgekit.quant.bias`. A weight-only file is written here: `DequantizeLinear` on
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
from onnxruntime.quantization import CalibrationMethod, QDQQuantizer, QuantType, TensorsData, quantize_dynamic

from edgekit.dense_layer import DenseLayer
from edgekit.errors import ConverterError, first_line
from edgekit.filegraph.base import FileGraph
from edgekit.quant import dense
from edgekit.quant.base import Job, Kind, Layer
from edgekit.quant.half import halved
from edgekit.quant.onnx_bias import Watched, correct, original, rounded_layers
from edgekit.quant.ranges import Range, find_ranges

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


def layers(path: Path) -> tuple[Layer, ...]:
    """The convolutions, products and linear layers of an `.onnx` file."""
    from edgekit.filegraph.onnx import read

    graph = read(path)
    model = onnx.load(path)
    constants = {constant.name: len(constant.dims) for constant in model.graph.initializer}
    found, highest = [], _highest(model)
    for index, node in enumerate(model.graph.node):
        kind = _kind(node, constants)
        if kind is not None:
            known = graph.nodes[_name(node, index)]
            layer = _dense(node, kind, graph, dense.clip_behind(graph, known, highest))
            found.append(Layer(known.name, kind, known.name, known.module, known.macs, layer))
    return tuple(found)


def _highest(model: ModelProto) -> dict[str, float]:
    """Name of every operator that clips from 0 on to its upper bound."""
    values = {each.name: each for each in model.graph.initializer if not each.dims}
    found: dict[str, float] = {}
    for index, node in enumerate(model.graph.node):
        if node.op_type == "Clip" and len(node.input) == 3 and values.keys() >= {*node.input[1:]}:
            lowest, most = (float(numpy_helper.to_array(values[name])) for name in node.input[1:])
            found |= {_name(node, index): most} if lowest == 0 else {}
    return found


def _dense(node: NodeProto, kind: Kind, graph: FileGraph, clip: str) -> DenseLayer | None:
    """What a dense layer is; None of another one."""
    if kind not in ("convolution", "linear"):
        return None
    shape, weight = (graph.shapes.get(name, ()) for name in node.input[:2])
    if kind == "linear":
        return dense.linear(shape, weight[_output_axis(node)])
    given = {entry.name: list(entry.ints) for entry in node.attribute}
    sides = (shape[2:], weight[2:])
    steps = (given.get("strides", [1, 1]), given.get("dilations", [1, 1]))
    return dense.convolution((weight[1], weight[0]), sides, steps, given.get("pads", [0] * 4), clip)


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
    model = _named(source)
    described = {entry.key: entry.value for entry in model.metadata_props}
    modules = {node.name: entry.value for node in model.graph.node for entry in node.metadata_props}
    try:
        made = _made(source, job)
    except Exception as error:
        raise ConverterError(f"onnxruntime could not quantize {source.name}: {first_line(error)}") from error
    _describe(made, model.graph.name, described, modules)
    target.write_bytes(made.SerializeToString(deterministic=True))
    return (target,)


def _named(source: Path) -> ModelProto:
    """The model of a file, in which every node has a name."""
    model = onnx.load(source)
    for index, node in enumerate(model.graph.node):
        node.name = _name(node, index)
    return model


def _made(source: Path, job: Job) -> ModelProto:
    """The quantized model of a float file; with its biases corrected by a second go, for which ranges are kept."""
    if job.recipe.half:
        return _halves(_named(source), job.chosen)
    fixed, dynamic = _by_kind(source, job)
    ranges = _ranges(_named(source), fixed, job) if fixed else {}

    def quantized(model: ModelProto) -> ModelProto:
        if job.recipe.method == "weightonly":
            return _weights_only(model, job.chosen)
        model = _static(model, fixed, ranges, narrow=job.short_sums) if fixed else model
        return _dynamic(model, dynamic, narrow=job.short_sums) if dynamic else model

    made = quantized(_named(source))
    if job.draft or not job.corrected:
        return made
    model = _named(source)
    correct(model, rounded_layers(model, made, job.chosen), job.calibration())
    return quantized(model)


def _by_kind(source: Path, job: Job) -> tuple[list[str], list[str]]:
    """The chosen layers whose ranges are fixed beforehand, and those that find them in every run."""
    if job.recipe.exact:
        return [], []
    kinds = {layer.name: layer.kind for layer in layers(source)}
    dynamic = {name for name in job.chosen if job.recipe.method_of(kinds[name]) == "dynamic"}
    return sorted(job.chosen - dynamic), sorted(dynamic)


def _ranges(model: ModelProto, names: list[str], job: Job) -> dict[str, Range]:
    """The ranges around layers, over the calibration inputs."""
    watched = Watched(model, _around(model, names))
    return find_ranges(lambda: watched.runs(job.calibration()), job.ranges)


def _around(model: ModelProto, names: list[str]) -> frozenset[str]:
    """What goes into these layers and what comes out, before and after an activation that only clips."""
    constants = {constant.name for constant in model.graph.initializer}
    wanted = {*names, *(node.name for node in _clipping_after(model, names))}
    nodes = [node for node in model.graph.node if node.name in wanted]
    return frozenset(name for node in nodes for name in (node.input[0], *node.output)) - constants


def _static(model: ModelProto, names: list[str], ranges: Mapping[str, Range], *, narrow: bool) -> ModelProto:
    """Conversions around layers, with these ranges; narrow weights are of 7 bits."""
    clipping = _clipping_after(model, names)
    behind = {node.input[0]: ranges[node.output[0]] for node in clipping}
    data: dict[str, Any] = {
        name: (np.float32(low), np.float32(high)) for name, (low, high) in {**ranges, **behind}.items()
    }
    quantizer = QDQQuantizer(
        onnx.shape_inference.infer_shapes(model),
        per_channel=True,
        reduce_range=narrow,
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType.QUInt8,
        tensors_range=TensorsData(CalibrationMethod.MinMax, data),
        nodes_to_quantize=[*names, *(node.name for node in clipping if not _shields(model, node, names))],
        nodes_to_exclude=[],
        op_types_to_quantize=["Conv", "Gemm", "MatMul", *_CLIPPING],
        extra_options={},
    )
    quantizer.quantize_model()
    quantizer.model.topological_sort()
    made: ModelProto = quantizer.model.model
    return made


def _clipping_after(model: ModelProto, names: list[str]) -> list[NodeProto]:
    """The activations that only clip what one of these layers gives: its range is measured behind them."""
    readers = Counter(name for node in model.graph.node for name in node.input)
    given = {node.output[0] for node in model.graph.node if node.name in names and readers[node.output[0]] == 1}
    return [node for node in model.graph.node if node.op_type in _CLIPPING and node.input[0] in given]


def _shields(model: ModelProto, node: NodeProto, names: list[str]) -> bool:
    """Whether an activation stands before a convolution that stays float."""
    readers = [each for each in model.graph.node if node.output[0] in each.input]
    return any(each.op_type == "Conv" and each.name not in names for each in readers)


def _dynamic(model: ModelProto, names: list[str], *, narrow: bool) -> ModelProto:
    """Linear layers as integer products that find their input's range in every run; narrow weights are of 7 bits."""
    del model.graph.value_info[:]
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder) / "dynamic.onnx"
        quantize_dynamic(
            model,
            written,
            op_types_to_quantize=["MatMul"],
            per_channel=True,
            reduce_range=narrow,
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
    return _begun_with(made, model)


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
    return _begun_with(made, model)


def _begun_with(made: list[NodeProto], model: ModelProto) -> ModelProto:
    """A model with nodes before all that it has."""
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
        module = modules.get(original(node.name))
        if module is not None and not node.metadata_props:
            node.metadata_props.add(key=MODULE_KEY, value=module)


def quantized(path: Path) -> frozenset[str]:
    """The layers whose weights are integers or half floats."""
    graph = onnx.load(path).graph
    constants = _Constants(graph)
    return frozenset(
        original(node.name) for node in graph.node if node.op_type in _INTEGER or _is_narrow(node, constants)
    )


def _is_narrow(node: NodeProto, constants: _Constants) -> bool:
    """Whether a layer multiplies with a constant of fewer bits than its own arithmetic has."""
    constant = constants.behind(node) if node.op_type in _LAYERS else None
    return constant is not None and constant.data_type in _NARROW
