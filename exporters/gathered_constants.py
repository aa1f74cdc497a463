"""Constants of an ONNX graph that repeat their numbers are stored without the repeats, and expanded by who loads it.

    T: (1, C, H, W)  ->  Gather(t: (1, C, U), i: (H, W)),   T[0, c, h, w] = t[0, c, i[h, w]]

A Toeplitz matrix of 56 x 56 numbers has 111 different ones, and every channel has them in the same places. Constants
with the same places share one index. ONNX Runtime folds nodes that read constants alone when it loads a file, before
it does anything else with them, so it runs what it ran before. One that is told to optimise nothing gathers at every
inference.

Rules:
1. The constant is a float32 initializer, read as an operand of products alone; all its axes but the last two are kept.
2. Places have the same numbers where these agree in every bit, in every channel.
3. What is stored instead, the index included, is at most half as large.
"""

from collections.abc import Iterator

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from edgekit.exporters.onnx_graph import MODULE_KEY

LEAST_BYTES = 64 << 10
"""Smaller constants are left alone."""


def gather_constants(model: onnx.ModelProto) -> int:
    """Changes a graph in place, and returns how many constants are gathered now."""
    graph = model.graph
    indices: dict[bytes, str] = {}
    nodes, stored = [], []
    for tensor in graph.initializer:
        readers = [node for node in graph.node if tensor.name in node.input]
        if not _is_operand_of_products(tensor, readers):
            continue
        values = numpy_helper.to_array(tensor)
        distinct, index = without_repeats(values)
        if 2 * (distinct.nbytes + index.nbytes) > values.nbytes:
            continue
        places = indices.setdefault(index.tobytes() + str(index.shape).encode(), f"{tensor.name}.places")
        if places == f"{tensor.name}.places":
            stored.append(numpy_helper.from_array(index, places))
        node = onnx.helper.make_node("Gather", [f"{tensor.name}.distinct", places], [tensor.name], axis=values.ndim - 2)
        node.name = f"gather {tensor.name}"
        node.metadata_props.extend(entry for entry in readers[0].metadata_props if entry.key == MODULE_KEY)
        nodes.append(node)
        tensor.CopyFrom(numpy_helper.from_array(distinct, f"{tensor.name}.distinct"))
    graph.initializer.extend(stored)
    _prepend(graph, nodes)
    return len(nodes)


def without_repeats(values: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Different columns (..., U) of a constant (..., H, W), in the order they come in, and where each stands (H, W)."""
    *kept, height, width = values.shape
    columns = values.reshape(-1, height * width)
    first: dict[bytes, int] = {}
    index = [first.setdefault(column, len(first)) for column in _rows(columns.T)]
    at = np.unique(index, return_index=True)[1]
    return columns[:, at].reshape(*kept, len(at)), np.array(index, np.int32).reshape(height, width)


def _rows(matrix: NDArray[np.float32]) -> Iterator[bytes]:
    """The bits of each row of a matrix."""
    return (row.tobytes() for row in np.ascontiguousarray(matrix))


def _is_operand_of_products(tensor: onnx.TensorProto, readers: list[onnx.NodeProto]) -> bool:
    """Whether a constant is large enough, and only products read it."""
    large = tensor.data_type == onnx.TensorProto.FLOAT and len(tensor.dims) > 2 and len(tensor.raw_data) >= LEAST_BYTES
    return large and bool(readers) and all(node.op_type == "MatMul" for node in readers)


def _prepend(graph: onnx.GraphProto, nodes: list[onnx.NodeProto]) -> None:
    """Puts nodes before all others, as those read what they give."""
    others = list(graph.node)
    del graph.node[:]
    graph.node.extend([*nodes, *others])
