"""Multiply-accumulates of a program's operators.

One MAC is one multiplication and one addition of a convolution, a linear layer or a matrix product. Taps that meet
padding are counted; bias, norms, pooling and elementwise operators are not. This is half of what torch's
`FlopCounterMode` counts for the same operators.
"""

from collections.abc import Callable
from math import prod

import torch
from torch.fx import Node

_Shape = tuple[int, ...]


def _shape(value: object) -> _Shape:
    """Shape of a node's value."""
    if not isinstance(value, Node):
        raise TypeError(f"{value!r} is not a node of a program")
    return tuple(int(side) for side in value.meta["val"].shape)


def _convolution(node: Node) -> int:
    weight = _shape(node.args[1])
    return prod(_shape(node)) * prod(weight[1:])


def _transposed_convolution(node: Node) -> int:
    weight = _shape(node.args[1])
    return prod(_shape(node.args[0])) * prod(weight[1:])


def _generic_convolution(node: Node) -> int:
    transposed = bool(node.args[6])
    return _transposed_convolution(node) if transposed else _convolution(node)


def _linear(node: Node) -> int:
    return prod(_shape(node)) * _shape(node.args[1])[-1]


def _matmul(node: Node) -> int:
    return prod(_shape(node)) * _shape(node.args[0])[-1]


def _added_matmul(node: Node) -> int:
    return prod(_shape(node)) * _shape(node.args[1])[-1]


def _attention(node: Node) -> int:
    query, key, value = (_shape(argument) for argument in node.args[:3])
    scores = prod(query[:-1]) * key[-2]
    return scores * (query[-1] + value[-1])


def _einsum(node: Node) -> int:
    """One MAC per point of the joint index space of two operands."""
    equation, operands = node.args[0], node.args[1]
    terms = str(equation).replace(" ", "").split("->")[0].split(",")
    if len(terms) != 2:
        return 0
    sizes: dict[str | int, int] = {}
    for term, operand in zip(terms, operands, strict=True):  # type: ignore[arg-type]
        shape = _shape(operand)
        before, dots, after = term.partition("...")
        shared = len(shape) - len(before) - len(after) if dots else 0
        # An ellipsis stands for axes that are aligned from the right, as in broadcasting.
        indices = (*before, *range(-shared, 0), *after)
        for index, side in zip(indices, shape, strict=True):
            sizes[index] = max(side, sizes.get(index, 1))
    return prod(sizes.values())


_aten = torch.ops.aten

COUNTERS: dict[object, Callable[[Node], int]] = {
    _aten.conv1d.default: _convolution,
    _aten.conv1d.padding: _convolution,
    _aten.conv2d.default: _convolution,
    _aten.conv2d.padding: _convolution,
    _aten.conv3d.default: _convolution,
    _aten.conv3d.padding: _convolution,
    _aten.convolution.default: _generic_convolution,
    _aten.conv_transpose1d.default: _transposed_convolution,
    _aten.conv_transpose2d.input: _transposed_convolution,
    _aten.conv_transpose3d.input: _transposed_convolution,
    _aten.linear.default: _linear,
    _aten.matmul.default: _matmul,
    _aten.mm.default: _matmul,
    _aten.bmm.default: _matmul,
    _aten.addmm.default: _added_matmul,
    _aten.baddbmm.default: _added_matmul,
    _aten.scaled_dot_product_attention.default: _attention,
    _aten.einsum.default: _einsum,
}
"""Operator to the function that counts it; an operator that is not here costs nothing."""


def node_macs(node: Node) -> int:
    """MACs of one node, from the shapes in `meta["val"]`."""
    counter = COUNTERS.get(node.target)
    return counter(node) if counter else 0
