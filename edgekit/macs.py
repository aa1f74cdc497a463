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


def _vector(node: Node) -> int:
    """A matrix or a vector times a vector."""
    return prod(_shape(node.args[0]))


def _added_vector(node: Node) -> int:
    return prod(_shape(node.args[1]))


def _tensordot(node: Node) -> int:
    shape, summed = _shape(node.args[0]), node.args[2]
    return prod(_shape(node)) * prod(shape[axis] for axis in summed)  # type: ignore[union-attr,index,misc]


def _einsum(node: Node) -> int:
    """One MAC per point of the joint index space of two operands; more are multiplied from the left, as torch does."""
    terms, arrow, result = str(node.args[0]).replace(" ", "").partition("->")
    first, *others = (
        _indexed(term, _shape(operand))
        for term, operand in zip(terms.split(","), node.args[1], strict=True)  # type: ignore[arg-type]
    )
    # Without an arrow, what occurs once stays; an ellipsis, whose axes are numbers here, always does.
    kept = set(result) if arrow else {index for index in terms if terms.count(index) == 1}
    total = 0
    for number, other in enumerate(others, start=1):
        joint = {index: max(first.get(index, 1), other.get(index, 1)) for index in {*first, *other}}
        total += prod(joint.values())
        needed = kept.union(*others[number:])
        first = {index: side for index, side in joint.items() if isinstance(index, int) or index in needed}
    return total


def _indexed(term: str, shape: _Shape) -> dict[str | int, int]:
    """The sides of an operand by index; the axes of an ellipsis are numbered from the right, as in broadcasting."""
    before, dots, after = term.partition("...")
    shared = len(shape) - len(before) - len(after) if dots else 0
    return dict(zip((*before, *range(-shared, 0), *after), shape, strict=True))


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
    _aten.mv.default: _vector,
    _aten.dot.default: _vector,
    _aten.vdot.default: _vector,
    _aten.inner.default: _matmul,
    _aten.addmv.default: _added_vector,
    _aten.tensordot.default: _tensordot,
    _aten.scaled_dot_product_attention.default: _attention,
    _aten.einsum.default: _einsum,
}
"""Operator to the function that counts it; an operator that is not here costs nothing."""


def node_macs(node: Node) -> int:
    """MACs of one node, from the shapes in `meta["val"]`."""
    counter = COUNTERS.get(node.target)
    return counter(node) if counter else 0
