"""What calibration and bias correction take from TFLite files: tensors of a run, layers before and after, biases."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, cast

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray

from edgekit.flatbuffer import pack
from edgekit.quant.base import Feed, Observed
from edgekit.quant.bias import Grid, Rounded, Window, corrections

OPERATORS = {value: name for name, value in vars(schema.BuiltinOperator).items() if not name.startswith("_")}

_SAME = 0
"""The padding that keeps a map's size where the stride is 1."""


def parse(content: bytes) -> Any:
    """The flatbuffer's object tree; its types say that all may be absent."""
    return cast("Any", schema.ModelT.InitFromPackedBuf(content, 0))


def operator_name(model: Any, operator: Any) -> str:
    """What an operator computes."""
    code = model.operatorCodes[operator.opcodeIndex]
    name: str = OPERATORS[max(code.builtinCode, code.deprecatedBuiltinCode)]
    return name


def tensor_name(model: Any, index: int) -> str:
    """A tensor's name."""
    name: str = model.subgraphs[0].tensors[index].name.decode()
    return name


class Watched:
    """A float model that gives tensors from its middle too."""

    def __init__(self, content: bytes, names: Collection[str]) -> None:
        self._interpreter: Any = Interpreter(
            model_content=content, num_threads=1, experimental_preserve_all_tensors=True
        )
        self._signature: Any = self._interpreter.get_signature_runner()
        self._indices = {
            entry["name"]: entry["index"] for entry in self._interpreter.get_tensor_details() if entry["name"] in names
        }

    def runs(self, feeds: Iterable[Feed]) -> Iterator[Observed]:
        """The tensors of every run."""
        for feed in feeds:
            self._signature(**feed)
            yield {name: self._interpreter.get_tensor(index) for name, index in self._indices.items()}


def rounded_layers(exact: bytes, made: bytes, names: Collection[str]) -> dict[str, Rounded]:
    """Layers of a float model and of what the quantizer made of it, by name; those without a bias are left out."""
    first, second = parse(exact), parse(made)
    floats = {tensor_name(first, operator.outputs[0]): operator for operator in first.subgraphs[0].operators}
    rounded = {
        tensor_name(second, operator.outputs[0]).removesuffix("_quantized"): operator
        for operator in second.subgraphs[0].operators
    }
    return {
        name: Rounded(
            tensor=tensor_name(first, floats[name].inputs[0]),
            axis=-1,
            exact=_as_kernel(first, floats[name], _values(first, floats[name].inputs[1])),
            stored=_as_kernel(first, floats[name], _stored_weight(second, rounded[name].inputs[1])),
            window=_window(first, floats[name]),
            grid=_grid(second.subgraphs[0].tensors[rounded[name].inputs[0]]),
        )
        for name in names
        if _has_bias(floats[name])
    }


def _has_bias(operator: Any) -> bool:
    return len(operator.inputs) > 2 and operator.inputs[2] >= 0


def _values(model: Any, index: int) -> NDArray[Any]:
    """A constant's values."""
    tensor = model.subgraphs[0].tensors[index]
    kind = np.int8 if tensor.type == schema.TensorType.INT8 else np.float32
    return np.frombuffer(bytes(model.buffers[tensor.buffer].data), kind).reshape(tensor.shape)


def _as_kernel(model: Any, operator: Any, weight: NDArray[Any]) -> NDArray[np.float32]:
    """A weight as O x I x rows x columns."""
    kind = operator_name(model, operator)
    if kind == "FULLY_CONNECTED":
        return weight[:, :, None, None]
    return weight.transpose(3, 0, 1, 2) if kind == "DEPTHWISE_CONV_2D" else weight.transpose(0, 3, 1, 2)


def _stored_weight(model: Any, index: int) -> NDArray[np.float32]:
    """The weights of a quantized layer as floats, in the file itself or behind a conversion to float."""
    tensors = model.subgraphs[0].tensors
    if tensors[index].type != schema.TensorType.INT8:
        givers = {operator.outputs[0]: operator for operator in model.subgraphs[0].operators}
        index = givers[index].inputs[0]
    values, given = _values(model, index).astype(np.float32), tensors[index].quantization
    scale = np.asarray(given.scale, np.float32)
    shape = [-1 if axis == given.quantizedDimension else 1 for axis in range(values.ndim)]
    return values * (scale.reshape(shape) if len(scale) > 1 else scale[0])


def _grid(tensor: Any) -> Grid | None:
    """That of a layer's input, where its range is fixed."""
    if tensor.type != schema.TensorType.INT8:
        return None
    step, zero, ends = float(tensor.quantization.scale[0]), int(tensor.quantization.zeroPoint[0]), np.iinfo(np.int8)
    return Grid(step, step * (ends.min - zero), step * (ends.max - zero))


def _window(model: Any, operator: Any) -> Window:
    if operator_name(model, operator) == "FULLY_CONNECTED":
        return Window()
    options, tensors = operator.builtinOptions, model.subgraphs[0].tensors
    strides = options.strideH, options.strideW
    dilations = options.dilationHFactor, options.dilationWFactor
    if options.padding != _SAME:
        return Window(strides, dilations)
    sides = tuple(tensors[index].shape[1:3] for index in operator.inputs[:2])
    top, left, bottom, right = same_padding((sides[0], sides[1]), (strides, dilations))
    return Window(strides, dilations, (top, left), (bottom, right))


def same_padding(
    sides: tuple[Sequence[int], Sequence[int]], steps: tuple[Sequence[int], Sequence[int]]
) -> tuple[int, int, int, int]:
    """The zeros of padding SAME, (top, left, bottom, right): as many as the strides need, the odd one behind.

    Args:
        sides: Of the map, and of the kernel; (height, width).
        steps: Stride and dilation.
    """
    vertical, horizontal = (
        max((-(-side // step) - 1) * step + (taps - 1) * dilated + 1 - side, 0)
        for side, taps, step, dilated in zip(*sides, *steps, strict=True)
    )
    return vertical // 2, horizontal // 2, vertical - vertical // 2, horizontal - horizontal // 2


def corrected(content: bytes, layers: Mapping[str, Rounded], feeds: Iterable[Feed]) -> bytes:
    """A float model with the biases of layers corrected."""
    watched = Watched(content, {layer.tensor for layer in layers.values()})
    model = parse(content)
    operators = {tensor_name(model, operator.outputs[0]): operator for operator in model.subgraphs[0].operators}
    for name, change in corrections(layers, watched.runs(feeds)).items():
        values = _values(model, operators[name].inputs[2]) + change
        buffer = _own_buffer(model, operators[name], name)
        buffer.data = np.frombuffer(values.astype(np.float32).tobytes(), np.uint8)
    return pack(model)


def _own_buffer(model: Any, operator: Any, name: str) -> Any:
    """A buffer that holds the bias of this layer alone; converters let layers share tensors, and tensors buffers."""
    graph, index = model.subgraphs[0], int(operator.inputs[2])
    if sum(index in map(int, other.inputs) for other in graph.operators) > 1:
        copy: Any = schema.TensorT()
        vars(copy).update(vars(graph.tensors[index]))
        copy.name = f"{name}.bias".encode()
        index = len(graph.tensors)
        graph.tensors.append(copy)
        operator.inputs = [*map(int, operator.inputs[:2]), index]
    bias = graph.tensors[index]
    if sum(bias.buffer == other.buffer for other in graph.tensors) > 1:
        bias.buffer = len(model.buffers)
        model.buffers.append(schema.BufferT())
    return model.buffers[bias.buffer]
