"""Reads an `.onnx` file and refuses what cannot become a network, with the reason."""

from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper
from onnx.external_data_helper import ExternalDataInfo, uses_external_data
from onnx.inliner import inline_local_functions

from edgekit.errors import ModelError
from edgekit.user_code import described

OLDEST_OPSET = 9

STANDARD = ("", "ai.onnx")
"""Names of ONNX's own domain."""

QUANTIZED = ("QuantizeLinear", "DequantizeLinear", "QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger")

SHOWN = 3
"""How many nodes of one operator a message names."""


@dataclass(frozen=True, slots=True)
class Step:
    """One node: what it computes from which values into which."""

    name: str
    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any]


@dataclass(frozen=True, slots=True)
class OnnxGraph:
    """What a file holds, free of protobuf.

    Attributes:
        inputs: Name to dtype and sizes, None for a size that is open.
        constants: The stored tensors.
    """

    inputs: dict[str, tuple[str, tuple[int | None, ...]]]
    outputs: tuple[str, ...]
    steps: tuple[Step, ...]
    constants: dict[str, NDArray[np.generic]]
    opset: int


def read_onnx(path: Path, operators: Collection[str]) -> OnnxGraph:
    """Reads a file.

    Args:
        path: The file.
        operators: The operators that can be taken over.

    Raises:
        ModelError: It is damaged, incomplete, too old, quantized, in half precision, or uses other operators.
    """
    proto = load_proto(path)
    opset = max((entry.version for entry in proto.opset_import if entry.domain in STANDARD), default=0)
    if opset < OLDEST_OPSET:
        raise ModelError(
            f"{path} is of ONNX opset {opset or 'unknown'}; edgekit reads {OLDEST_OPSET} and newer. Convert it: "
            "onnx.version_converter.convert_version(onnx.load(path), 17)"
        )
    if proto.functions:
        proto = inline_local_functions(proto)
    check_operators(path, proto.graph, operators)
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}
    check_precision(path, proto.graph, constants)
    inputs = {value.name: type_of(value) for value in proto.graph.input if value.name not in constants}
    if not inputs or not proto.graph.output:
        raise ModelError(f"{path} has no {'output' if inputs else 'input'}, so there is no network in it.")
    return OnnxGraph(
        inputs=inputs,
        outputs=tuple(value.name for value in proto.graph.output),
        steps=tuple(steps_of(proto.graph)),
        constants=constants,
        opset=opset,
    )


def load_proto(path: Path) -> onnx.ModelProto:
    """The file's protobuf, external data included.

    Raises:
        ModelError: It is damaged, or a file of external data is missing.
    """
    head = path.read_bytes()[:512] if path.stat().st_size < 512 else b""
    if path.stat().st_size == 0:
        raise ModelError(f"{path} is empty. Fetch it again.")
    if head.startswith(b"version https://git-lfs"):
        raise ModelError(f"{path} is a git-lfs pointer, not the network. Run `git lfs pull` in its repository.")
    try:
        proto = onnx.load(path, load_external_data=False)
    except Exception as error:  # protobuf's DecodeError, and whatever a file of another kind sets off
        raise ModelError(f"{path} is no ONNX file, or is damaged. Compare its size with the original's.") from error
    if not proto.HasField("graph") or not proto.graph.node:
        raise ModelError(f"{path} is no ONNX file, or is damaged: there is no graph in it.")
    for place in external_files(proto):
        if not (path.parent / place).is_file():
            raise ModelError(
                f"{path} keeps its weights in {place}, which is not beside it. Put the two files together."
            )
    try:
        return onnx.load(path)
    except Exception as error:
        raise ModelError(f"{path}: its external data cannot be read ({described(error)}).") from error


def external_files(proto: onnx.ModelProto) -> list[str]:
    """Names of the files beside the model that hold its tensors."""
    stored = (tensor for tensor in proto.graph.initializer if uses_external_data(tensor))
    return sorted({ExternalDataInfo(tensor).location for tensor in stored})


def check_operators(path: Path, graph: onnx.GraphProto, operators: Collection[str]) -> None:
    """Refuses a graph with an operator that cannot be taken over, naming all of them and their nodes.

    Raises:
        ModelError: There is one.
    """
    unknown: dict[str, list[str]] = defaultdict(list)
    for index, node in enumerate(graph.node):
        if node.domain in STANDARD and node.op_type in QUANTIZED:
            raise ModelError(
                f"{path} is quantized already ({node.op_type}). Give the float32 model; edgekit quantizes it itself."
            )
        if node.domain not in STANDARD or node.op_type not in operators:
            name = node.op_type if node.domain in STANDARD else f"{node.domain}.{node.op_type}"
            unknown[name].append(node_name(node, index))
    if not unknown:
        return
    listed = [
        f"{name} ({', '.join(nodes[:SHOWN])}{f' and {len(nodes) - SHOWN} more' if len(nodes) > SHOWN else ''})"
        for name, nodes in sorted(unknown.items())
    ]
    raise ModelError(
        f"{path} uses {len(listed)} operators that edgekit does not read: {'; '.join(listed)}. "
        "Cut the graph before them (onnx.utils.extract_model), or give the PyTorch model instead."
    )


def check_precision(path: Path, graph: onnx.GraphProto, constants: dict[str, NDArray[np.generic]]) -> None:
    """Refuses half precision.

    Raises:
        ModelError: There are inputs or tensors in it.
    """
    half = [
        value.name
        for value in graph.input
        if value.type.tensor_type.elem_type in {TensorProto.FLOAT16, TensorProto.BFLOAT16}
    ]
    half += [name for name, value in constants.items() if value.dtype.name in {"float16", "bfloat16"}]
    if half:
        raise ModelError(
            f"{path} is in half precision ({half[0]}). Give the float32 model; edgekit makes smaller ones itself."
        )


def type_of(value: onnx.ValueInfoProto) -> tuple[str, tuple[int | None, ...]]:
    """The dtype and sizes of an input, None for a size that is open."""
    kind = value.type.tensor_type
    sizes = tuple(
        side.dim_value if side.HasField("dim_value") and side.dim_value > 0 else None for side in kind.shape.dim
    )
    return onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type).name, sizes


def steps_of(graph: onnx.GraphProto) -> Iterator[Step]:
    """The nodes, in order."""
    for index, node in enumerate(graph.node):
        attributes = {attribute.name: attribute_value(attribute) for attribute in node.attribute}
        yield Step(node_name(node, index), node.op_type, tuple(node.input), tuple(node.output), attributes)


def attribute_value(attribute: onnx.AttributeProto) -> Any:
    """An attribute as Python has it: text decoded, tensors as arrays."""
    value = onnx.helper.get_attribute_value(attribute)
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, TensorProto):
        return numpy_helper.to_array(value)
    return value


def node_name(node: onnx.NodeProto, index: int) -> str:
    """A node's name, or its operator and number."""
    return node.name or f"{node.op_type}_{index}"
