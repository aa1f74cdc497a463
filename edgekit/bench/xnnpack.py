"""XNNPACK's kernels, which come without names, tied to the operators of a TFLite file by their order.

TFLite hands XNNPACK every operator it can compute, in sets as large as the operators left to TFLite allow, and XNNPACK
makes kernels of each set in the order of the file: mostly one of each operator, now and then none (a padding that goes
into a convolution) or a second (a reshape behind a mean). The kernels of all sets are aligned with the operators so
that as many as possible go together, of those that can: Needleman and Wunsch's algorithm (1970), free gaps.
"""

import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from edgekit.filegraph.base import FileGraph

_Table = NDArray[np.int32]

KERNELS: Mapping[str, str] = MappingProxyType(
    {
        "ABS": "Abs",
        "ADD": "Add",
        "AVERAGE_POOL_2D": "Average Pooling|Mean",
        "BATCH_MATMUL": "Batch Matrix Multiply",
        "CONCATENATION": "Concatenate|Copy",
        "CONV_2D": "Convolution|Fully Connected",
        "DEPTHWISE_CONV_2D": "Convolution",
        "DEQUANTIZE": "Convert",
        "DIV": "Divide",
        "ELU": "ELU",
        "EXP": "Exp",
        "FULLY_CONNECTED": "Fully Connected",
        "GELU": "GELU",
        "HARD_SWISH": "HardSwish|Hard Swish",
        "LEAKY_RELU": "Leaky",
        "LOGISTIC": "Sigmoid",
        "MAX_POOL_2D": "Max Pooling",
        "MAXIMUM": "Maximum",
        "MEAN": "Mean",
        "MINIMUM": "Minimum",
        "MUL": "Multiply",
        "NEG": "Negate",
        "PAD": "Constant Pad",
        "PRELU": "PReLU",
        "QUANTIZE": "Convert",
        "RELU": "Clamp|ReLU",
        "RELU6": "Clamp",
        "RESHAPE": "Static Reshape|Copy",
        "RESIZE_BILINEAR": "Resize Bilinear",
        "RSQRT": "Reciprocal Square Root",
        "SLICE": "Slice",
        "SOFTMAX": "Soft[Mm]ax",
        "SPLIT": "Split|Slice",
        "SQRT": "Square Root",
        "SQUARE": "Square ",
        "SQUARED_DIFFERENCE": "Squared Difference",
        "STRIDED_SLICE": "Slice",
        "SUB": "Subtract",
        "SUM": "Sum",
        "TANH": "Tanh|TanH",
        "TRANSPOSE": "Transpose",
        "TRANSPOSE_CONV": "Deconvolution",
    }
)
"""An operator of TFLite to how the names of its kernels begin; others are never tied to a kernel."""


def align(kernels: Sequence[str], graph: FileGraph, own: set[str]) -> list[str | None]:
    """The node that each kernel computes, None where there is no telling.

    Args:
        kernels: What XNNPACK calls its kernels, in the order in which they ran.
        graph: The file.
        own: Nodes that TFLite computed itself.
    """
    names = [name for name in in_order_of_sets(graph, own) if name not in own]
    known = {(node.kind, kernel): _fits(node.kind, kernel) for node in graph.nodes.values() for kernel in {*kernels}}
    fits = np.zeros((len(kernels), len(names)), np.int32)
    for row, kernel in enumerate(kernels):
        fits[row] = [known[graph.nodes[name].kind, kernel] for name in names]
    best = np.zeros((len(kernels) + 1, len(names) + 1), np.int32)  # of the kernels and nodes from here on
    for row in range(len(kernels) - 1, -1, -1):
        from_here = np.maximum(best[row + 1, 1:] + fits[row], best[row + 1, :-1])
        best[row, :-1] = np.maximum.accumulate(from_here[::-1])[::-1]
    return _walk(best, fits, names)


def _walk(best: _Table, fits: _Table, names: Sequence[str]) -> list[str | None]:
    """Reads the alignment off the table, pairing as early as possible."""
    matched: list[str | None] = []
    column = 0
    for row in range(len(fits)):
        while (
            column < len(names) and not _pairs(best, fits, row, column) and best[row, column] == best[row, column + 1]
        ):
            column += 1
        if column < len(names) and _pairs(best, fits, row, column):
            matched.append(names[column])
            column += 1
        else:
            matched.append(None)
    return matched


def _pairs(best: _Table, fits: _Table, row: int, column: int) -> bool:
    """Whether a best alignment has this kernel with this node."""
    return bool(fits[row, column]) and best[row, column] == best[row + 1, column + 1] + 1


def _fits(kind: str, kernel: str) -> bool:
    return kind in KERNELS and re.match(KERNELS[kind], kernel) is not None


def in_order_of_sets(graph: FileGraph, own: set[str]) -> list[str]:
    """The nodes in the order in which they run: by turns all for XNNPACK that are ready, and all others that are."""
    waiting = list(graph.nodes.values())
    ready: set[str] = set()
    order: list[str] = []
    turn = bool(waiting) and waiting[0].name in own
    while waiting:
        left = []
        for node in waiting:
            can_run = all(tensor in ready or tensor not in graph.producers for tensor in node.operands)
            if can_run and (node.name in own) == turn:
                order.append(node.name)
                ready.update(node.results)
            else:
                left.append(node)
        waiting, turn = left, not turn
    return order
