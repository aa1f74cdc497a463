"""TFLite through ai-edge-quantizer, which works on the flatbuffer itself.

What has to be so, found by measuring; each has a test:

1. Only the chosen layers are named, and all else stays float: a batched product is refused by the runtime in dynamic
   form, and takes ten times the time of float in static form.
2. Ranges are those of `edgekit.quant.ranges`. The quantizer's own habit, a moving average of the extremes in the order
   of the images, makes them depend on that order and lets the first image count most.
3. Layers are named together with their operator: to the quantizer the network's output is an operator too, of the name
   of the layer before it, and would be given in integers.
4. Linear layers that may run on ARMv7 have one scale for all their weights in dynamic form: tflite-runtime 2.14, the
   last one there, takes the first of several for all, without a word. One costs less than 1 dB.
5. Half floats are written here, `DEQUANTIZE` on the constant, which the runtimes run once: the quantizer has them for
   layers, and not for the products with matrices that most of a file may be.
6. The file is written anew, with its constants inside it and aligned, see `edgekit.flatbuffer`.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_quantizer import algorithm_manager, qtyping, recipe_manager
from ai_edge_quantizer.quantizer import Quantizer
from numpy.typing import NDArray

from edgekit.artifact import Shape
from edgekit.dense_layer import DenseLayer
from edgekit.errors import ConverterError, first_line
from edgekit.flatbuffer import pack
from edgekit.quant import dense
from edgekit.quant.base import Job, Kind, Layer
from edgekit.quant.half import halved
from edgekit.quant.ranges import find_ranges
from edgekit.quant.tflite_bias import (
    Watched,
    corrected,
    operator_name,
    parse,
    rounded_layers,
    same_padding,
    tensor_name,
)

_KINDS: dict[str, Kind] = {
    "CONV_2D": "convolution",
    "DEPTHWISE_CONV_2D": "grouped",
    "FULLY_CONNECTED": "linear",
    "BATCH_MATMUL": "product",
}

_NAMES = {
    "convolution": qtyping.TFLOperationName.CONV_2D,
    "grouped": qtyping.TFLOperationName.DEPTHWISE_CONV_2D,
    "linear": qtyping.TFLOperationName.FULLY_CONNECTED,
    "product": qtyping.TFLOperationName.BATCH_MATMUL,
}

_CLIPS = {schema.ActivationFunctionType.RELU: "relu", schema.ActivationFunctionType.RELU6: "relu6"}

_BITS = 8

_MISREADING = "armv7l"
"""Where the only runtime there is takes one scale for all."""

_HALF = b"_half"
_NARROW = frozenset({schema.TensorType.INT8, schema.TensorType.FLOAT16})
_DEQUANTIZE = "DEQUANTIZE"
_DEQUANTIZE_HALF_VERSION = 3
"""First version of the operator that takes half floats; tflite-runtime has had it since 2.2."""


def layers(path: Path) -> tuple[Layer, ...]:
    """The convolutions, products and linear layers of a `.tflite` file, named by the tensor they give."""
    from edgekit.filegraph.tflite import read

    graph = read(path)
    model = parse(path.read_bytes())
    tensors = model.subgraphs[0].tensors
    found = []
    for index, operator in enumerate(model.subgraphs[0].operators):
        name = operator_name(model, operator)
        if name not in _KINDS:
            continue
        node = graph.nodes[f"{index} {name}"]
        kind = _KINDS[name]
        weight = tensors[operator.inputs[1]]
        if kind == "convolution" and weight.shape[-1] != tensors[operator.inputs[0]].shape[-1]:
            kind = "grouped"
        if kind in ("convolution", "linear") and not _is_constant(model, weight):
            kind = "product"
        shape, sides = (graph.shapes[operand] for operand in node.operands[:2])
        known = _dense(kind, operator, shape, sides)
        found.append(Layer(tensors[operator.outputs[0]].name.decode(), kind, node.name, node.module, node.macs, known))
    return tuple(found)


def _dense(kind: Kind, operator: Any, shape: Shape, weight: Shape) -> DenseLayer | None:
    """What a dense layer is, whose weights are (O, H, W, I) or (O, I); None of another one."""
    if kind == "linear":
        return dense.linear(shape, weight[0])
    if kind != "convolution":
        return None
    given = operator.builtinOptions
    sides = (shape[1:3], weight[1:3])
    steps = ((given.strideH, given.strideW), (given.dilationHFactor, given.dilationWFactor))
    padding = (0, 0, 0, 0) if given.padding == schema.Padding.VALID else same_padding(sides, steps)
    clip = _CLIPS.get(given.fusedActivationFunction, "")
    return dense.convolution((weight[3], weight[0]), sides, steps, padding, clip)


def _is_constant(model: Any, tensor: Any) -> bool:
    buffer = model.buffers[tensor.buffer]
    return buffer.data is not None or buffer.offset > 1


def weights(path: Path) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """The constants of layers."""
    model = parse(path.read_bytes())
    tensors = model.subgraphs[0].tensors
    for operator in model.subgraphs[0].operators:
        for index in _constants(model, operator):
            values = _values(path, model, tensors[index])
            yield tensors[operator.outputs[0]].name.decode(), values


def halves(path: Path) -> Iterator[tuple[str, NDArray[np.float16]]]:
    """The same, of those in half floats."""
    model = parse(path.read_bytes())
    tensors = model.subgraphs[0].tensors
    expanded = {
        operator.outputs[0]: tensors[operator.inputs[0]]
        for operator in model.subgraphs[0].operators
        if operator_name(model, operator) == _DEQUANTIZE and _expands_constant(model, operator)
    }
    for operator in model.subgraphs[0].operators:
        found = [expanded[index] for index in operator.inputs[1::-1] if index in expanded]
        if found and operator_name(model, operator) in _KINDS and found[0].type == schema.TensorType.FLOAT16:
            values = np.asarray(model.buffers[found[0].buffer].data, np.uint8).view(np.float16)
            yield tensors[operator.outputs[0]].name.decode(), values


def _constants(model: Any, operator: Any) -> list[int]:
    """The tensor of float constants that a layer multiplies with; none where it multiplies two maps."""
    if operator_name(model, operator) not in _KINDS:
        return []
    tensors = model.subgraphs[0].tensors
    floats = (index for index in operator.inputs[1::-1] if tensors[index].type == schema.TensorType.FLOAT32)
    return [index for index in floats if _is_constant(model, tensors[index])][:1]


def _values(path: Path, model: Any, tensor: Any) -> NDArray[np.float32]:
    """The numbers of a constant, inside the flatbuffer or behind it."""
    buffer = model.buffers[tensor.buffer]
    if buffer.data is None:
        return np.fromfile(path, np.float32, buffer.size // np.dtype(np.float32).itemsize, offset=buffer.offset)
    return np.asarray(buffer.data, np.uint8).view(np.float32)


def quantize(source: Path, job: Job, target: Path) -> tuple[Path, ...]:
    """Writes one `.tflite` file."""
    if job.recipe.half:
        target.write_bytes(pack(_halves(source, job.chosen)))
        return (target,)
    try:
        content = source.read_bytes()
        recipe = _recipe(source, job)
        ranges = _ranges(content, job) if job.recipe.calibrated else None
        made = _quantized(content, recipe, ranges)
        if job.corrected and not job.draft:
            better = corrected(content, rounded_layers(content, made, job.chosen), job.calibration())
            made = _quantized(better, recipe, ranges)
    except Exception as error:
        raise ConverterError(f"ai-edge-quantizer could not quantize {source.name}: {first_line(error)}") from error
    target.write_bytes(made)
    return (target,)


def _halves(source: Path, chosen: frozenset[str]) -> Any:
    """The object tree with the weights of layers stored as half floats, each behind an operator that expands it."""
    model = _inlined(source.read_bytes())
    graph = model.subgraphs[0]
    stored = {
        index
        for operator in graph.operators
        for index in _constants(model, operator)
        if graph.tensors[operator.outputs[0]].name.decode() in chosen
    }
    made = [_expanding(model, source, index) for index in sorted(stored)]
    graph.operators = [*made, *graph.operators]
    used = {tensor.buffer for subgraph in model.subgraphs for tensor in subgraph.tensors}
    used |= {entry.buffer for entry in model.metadata or ()}
    for index, buffer in enumerate(model.buffers):
        if index not in used:
            buffer.data = None
    return model


def _expanding(model: Any, source: Path, index: int) -> Any:
    """Gives a constant's numbers to a new tensor, as half floats, and gives the operator that computes it from that."""
    tensors = model.subgraphs[0].tensors
    tensor = tensors[index]
    buffer = schema.BufferT()
    data = halved(_values(source, model, tensor)).view(np.uint8)
    buffer.data = data  # pyright: ignore[reportAttributeAccessIssue] - declared a list; packing takes arrays too
    model.buffers.append(buffer)
    half = schema.TensorT()
    half.name, half.shape, half.type = tensor.name + _HALF, tensor.shape, schema.TensorType.FLOAT16
    half.buffer, half.hasRank = len(model.buffers) - 1, tensor.hasRank
    tensors.append(half)
    tensor.buffer = 0  # the one without content
    operator = schema.OperatorT()
    operator.opcodeIndex = _dequantize_code(model)
    operator.inputs, operator.outputs = [len(tensors) - 1], [index]
    return operator


def _dequantize_code(model: Any) -> int:
    """The number of the operator in the file, which has it from now on."""
    wanted = schema.BuiltinOperator.DEQUANTIZE, _DEQUANTIZE_HALF_VERSION
    codes = [(code.builtinCode, code.version) for code in model.operatorCodes]
    if wanted not in codes:
        code = schema.OperatorCodeT()
        code.builtinCode, code.version = wanted
        code.deprecatedBuiltinCode = code.builtinCode
        model.operatorCodes.append(code)
    return codes.index(wanted) if wanted in codes else len(codes)


def _quantized(content: bytes, recipe: Any, ranges: Any) -> bytes:
    """The quantized model of a float one, with its constants inside the flatbuffer.

    Raises:
        RuntimeError: The quantizer returned none.
    """
    made = Quantizer(content, recipe).quantize(ranges).quantized_model
    if made is None:
        raise RuntimeError("it returned no model")
    return pack(_inlined(bytes(made)))


def _inlined(content: bytes) -> Any:
    """The object tree with all constants in it; the quantizer puts large ones behind the flatbuffer."""
    model = parse(content)
    for buffer in model.buffers:
        if buffer.offset > 1:  # 1 stands for an empty buffer there
            buffer.data = np.frombuffer(content, np.uint8, buffer.size, buffer.offset)
        buffer.offset = buffer.size = 0
    return model


def _recipe(source: Path, job: Job) -> Any:
    """One entry for each chosen layer, in the quantizer's words."""
    manager = recipe_manager.RecipeManager()
    for layer in layers(source):
        if layer.name in job.chosen:
            _add(manager, job, f"^{re.escape(layer.name)};?$", layer.kind)
    return manager.get_quantization_recipe()


def _add(manager: Any, job: Job, pattern: str, kind: Kind) -> None:
    operator, method = _NAMES[kind], job.recipe.method
    per_channel = qtyping.QuantGranularity.CHANNELWISE
    min_max = algorithm_manager.AlgorithmName.MIN_MAX_UNIFORM_QUANT
    if method in ("static", "mixed"):
        manager.add_static_config(pattern, operator, _BITS, _BITS, per_channel, min_max)
    elif method == "dynamic":
        one = kind == "linear" and (_MISREADING in job.architectures or not job.architectures)
        granularity = qtyping.QuantGranularity.TENSORWISE if one else per_channel
        manager.add_dynamic_config(pattern, operator, _BITS, granularity, min_max)
    else:
        manager.add_weight_only_config(pattern, operator, _BITS, per_channel, min_max)


def _ranges(content: bytes, job: Job) -> Any:
    """The ranges of what goes into the chosen layers and comes out of them, in the quantizer's words."""
    model = parse(content)
    tensors = model.subgraphs[0].tensors
    chosen = [each for each in model.subgraphs[0].operators if tensor_name(model, each.outputs[0]) in job.chosen]
    shapes = {
        tensor_name(model, index): tensors[index].shape
        for each in chosen
        for index in (each.inputs[0], each.outputs[0])
    }
    watched = Watched(content, shapes)
    found = find_ranges(lambda: watched.runs(job.calibration()), job.ranges)
    return {
        name: {
            end: np.full((1,) * len(shapes[name]), value, np.float32)
            for end, value in zip(("min", "max"), ends, strict=True)
        }
        for name, ends in found.items()
    }


def quantized(path: Path) -> frozenset[str]:
    """The layers whose weights are integers or half floats, in the file itself or behind a conversion to float."""
    model = parse(path.read_bytes())
    graph = model.subgraphs[0]
    narrow = {index for index, tensor in enumerate(graph.tensors) if tensor.type in _NARROW}
    narrow |= {
        operator.outputs[0]
        for operator in graph.operators
        if operator_name(model, operator) == _DEQUANTIZE and _expands_constant(model, operator)
    }
    return frozenset(
        _float_name(graph.tensors[operator.outputs[0]].name.decode())
        for operator in graph.operators
        if operator_name(model, operator) in _KINDS and narrow.intersection(operator.inputs[:2])
    )


def _expands_constant(model: Any, operator: Any) -> bool:
    """Whether an operator makes floats of narrower constants."""
    tensor = model.subgraphs[0].tensors[operator.inputs[0]]
    return tensor.type in _NARROW and _is_constant(model, tensor)


def _float_name(name: str) -> str:
    """The name a tensor had before its values became integers."""
    return name.removesuffix("_quantized")
