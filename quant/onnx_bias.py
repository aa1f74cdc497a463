"""What calibration and bias correction take from ONNX files: tensors of a run, layers before and after, biases."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, helper, numpy_helper

from edgekit.quant.base import Feed, Observed
from edgekit.quant.bias import Grid, Rounded, Window, corrections

_LAYERS = ("Conv", "Gemm", "MatMul")
_SUFFIXES = ("_quant", "_MatMul")
"""What the quantizers append to the names of nodes that they replace, the last first."""

Constants = Mapping[str, NDArray[Any]]


def original(name: str) -> str:
    """The name a node had before the quantizers."""
    for suffix in _SUFFIXES:
        name = name.removesuffix(suffix)
    return name


class Watched:
    """A float model that gives tensors from its middle too."""

    def __init__(self, model: ModelProto, tensors: Iterable[str]) -> None:
        inputs = {value.name for value in model.graph.input}
        given = {value.name for value in model.graph.output}
        self._fed, self._names = sorted({*tensors} & inputs), sorted({*tensors} - inputs)
        copy = ModelProto()
        copy.CopyFrom(model)
        copy.graph.output.extend(onnx.ValueInfoProto(name=name) for name in self._names if name not in given)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        content = copy.SerializeToString()
        self._session: Any = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])

    def runs(self, feeds: Iterable[Feed]) -> Iterator[Observed]:
        """The tensors of every run."""
        for feed in feeds:
            found = self._session.run(self._names, dict(feed)) if self._names else []
            yield {**dict(zip(self._names, found, strict=True)), **{name: feed[name] for name in self._fed}}


def rounded_layers(exact: ModelProto, made: ModelProto, names: Iterable[str]) -> dict[str, Rounded]:
    """Layers of a float model and of what a quantizer made of it, by name; those without a bias are left out."""
    first, second = _constants(exact), _constants(made)
    givers = {output: node for node in made.graph.node for output in node.output}
    replaced = {original(node.name): node for node in made.graph.node if node.op_type in (*_LAYERS, "MatMulInteger")}
    found = {}
    for node in exact.graph.node:
        if node.name not in names or _bias_of(exact, node, first) is None:
            continue
        stored = _stored_weight(replaced[node.name], givers, second)
        found[node.name] = Rounded(
            tensor=node.input[0],
            axis=1 if node.op_type == "Conv" else -1,
            exact=_as_kernel(first[node.input[1]], node),
            stored=_as_kernel(stored, replaced[node.name]),
            window=_window(node),
            grid=_grid(replaced[node.name], givers, second),
        )
    return found


def _constants(model: ModelProto) -> dict[str, NDArray[Any]]:
    return {constant.name: numpy_helper.to_array(constant) for constant in model.graph.initializer}


def _attributes(node: NodeProto) -> dict[str, Any]:
    return {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}


def _as_kernel(weight: NDArray[Any], node: NodeProto) -> NDArray[np.float32]:
    """A weight as O x I x rows x columns."""
    if node.op_type == "Conv":
        return weight
    turned = weight if _attributes(node).get("transB") else weight.T
    return turned[:, :, None, None]


def _window(node: NodeProto) -> Window:
    if node.op_type != "Conv":
        return Window()
    given = _attributes(node)
    pads = given.get("pads", [0, 0, 0, 0])
    return Window(
        strides=tuple(given.get("strides", (1, 1))),
        dilations=tuple(given.get("dilations", (1, 1))),
        before=(pads[0], pads[1]),
        after=(pads[2], pads[3]),
    )


def _stored_weight(node: NodeProto, givers: Mapping[str, NodeProto], constants: Constants) -> NDArray[np.float32]:
    """The weights of a quantized layer, as floats."""
    name = node.input[1]
    if name in givers:  # DequantizeLinear
        giver = givers[name]
        values, scale = (constants[each] for each in giver.input[:2])
        axis = _attributes(giver).get("axis", 1)
    else:  # MatMulInteger, whose scales are multiplied in behind it
        values, scale, axis = constants[name], constants[f"{name.removesuffix('_quantized')}_scale"], 1
    shape = [-1 if each == axis else 1 for each in range(values.ndim)]
    floats: NDArray[np.float32] = values.astype(np.float32) * (scale.reshape(shape) if scale.ndim else scale)
    return floats


def _grid(node: NodeProto, givers: Mapping[str, NodeProto], constants: Constants) -> Grid | None:
    """That of a layer's input, where its range is fixed."""
    giver = givers.get(node.input[0])
    if giver is None or giver.op_type != "DequantizeLinear":
        return None
    scale, zero = (constants[name] for name in giver.input[1:3])
    ends = np.iinfo(zero.dtype)
    step = float(scale)
    return Grid(step, step * (ends.min - int(zero)), step * (ends.max - int(zero)))


def correct(model: ModelProto, layers: Mapping[str, Rounded], feeds: Iterable[Feed]) -> None:
    """Corrects the biases of layers of a float model, in place."""
    watched = Watched(model, {layer.tensor for layer in layers.values()})
    constants = _constants(model)
    for name, change in corrections(layers, watched.runs(feeds)).items():
        node = next(node for node in model.graph.node if node.name == name)
        place = _bias_of(model, node, constants)
        assert place is not None, "layers without a bias are left out"  # noqa: S101
        owner, index = place
        new = f"{name}.corrected"
        model.graph.initializer.append(numpy_helper.from_array(constants[owner.input[index]] + change, new))
        owner.input[index] = new
    read = {name for node in model.graph.node for name in node.input}
    for constant in [each for each in model.graph.initializer if each.name not in read]:
        model.graph.initializer.remove(constant)


def _bias_of(model: ModelProto, node: NodeProto, constants: Constants) -> tuple[NodeProto, int] | None:
    """The node and the place in its inputs where a layer's constant bias is: its own, or an addition behind it."""
    if node.op_type in ("Conv", "Gemm"):
        known = len(node.input) > 2 and node.input[2] in constants
        return (node, 2) if known else None
    readers = [each for each in model.graph.node if node.output[0] in each.input]
    if len(readers) != 1 or readers[0].op_type != "Add":
        return None
    place = next((index for index, name in enumerate(readers[0].input) if name in constants), None)
    return None if place is None else (readers[0], place)
