"""What can be asked about the nodes of a program: constants, shapes, and where a value has its channels."""

from dataclasses import dataclass, field
from math import prod

import torch
from torch import Tensor
from torch.fx import Node

from edgekit.passes.fuse.affine import ONE
from edgekit.passes.fuse.forms import Layout
from edgekit.program import Program, constant, module_path

_aten = torch.ops.aten

SPLITS = (_aten.chunk.default, _aten.split.Tensor, _aten.split_with_sizes.default)
"""Operators that give a tuple of parts."""


class NotLinearError(Exception):
    """A reader's answer where the node could be linear but is not; the message is the reason that is logged."""


@dataclass(slots=True)
class Reader:
    """Reads the nodes of one program. Layouts and uses of constants are found once."""

    program: Program
    _weight_users: dict[int, set[Node]] = field(init=False, default_factory=dict)
    _axes: dict[Node, int] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        for node in self.program.graph.find_nodes(op="get_attr"):
            stored = constant(self.program, node)
            if stored is not None:  # by memory: a tensor may be registered under several names
                self._weight_users.setdefault(stored.data_ptr(), set()).update(node.users)
        for node in self.program.graph.nodes:
            self._axes[node] = _axis(node, self._axes)

    def layout(self, node: Node) -> Layout:
        """Layout of a node's value."""
        shape, axis = shape_of(node), self._axes[node]
        size = (shape[2], shape[3]) if axis == 1 and len(shape) == 4 else ONE
        return Layout(axis, len(shape), shape[axis] if shape else 1, size)

    def positions(self, node: Node) -> int:
        """Elements of a node's value for each channel."""
        return prod(shape_of(node)) // self.layout(node).channels

    def constant(self, node: object) -> Tensor | None:
        """The constant behind a node."""
        return constant(self.program, node)

    def weight(self, node: object, owner: Node) -> Tensor:
        """The weight of a layer.

        Raises:
            NotLinearError: It is computed, or another layer has it too.
        """
        value = self.constant(node)
        if value is None:
            raise NotLinearError("the weight is computed")
        others = {module_path(user) or user.name for user in self._weight_users[value.data_ptr()] if user is not owner}
        if others:
            raise NotLinearError(f"weight shared with {', '.join(sorted(others))}")
        return value


def shape_of(node: Node) -> tuple[int, ...]:
    """The shape of a node's value, () where it has none or several."""
    return tuple(int(side) for side in getattr(node.meta.get("val"), "shape", ()))


_LAST = (_aten.linear.default, _aten.layer_norm.default)
_FIRST = (_aten.conv2d.default, _aten.conv2d.padding, _aten.batch_norm.default, _aten.avg_pool2d.default)


def _axis(node: Node, known: dict[Node, int]) -> int:
    """The channel axis of a node's value: what its operator says, else that of the operands of the same shape."""
    rank = len(shape_of(node))
    if node.target in _LAST:
        return rank - 1
    if rank < 2 or node.target in _FIRST:
        return min(1, max(rank - 1, 0))
    if node.target is _aten.permute.default:
        source, dims = node.args[0], node.args[1]
        moved = [dim % rank for dim in dims].index(known[source])  # type: ignore[index, union-attr, operator]
        if moved:  # what stands first is the batch from here on, as everywhere
            return moved
    for operand in node.all_input_nodes:
        if operand.op != "get_attr" and shape_of(operand) == shape_of(node):
            return known[operand]
    return rank - 1 if rank == 3 or any(user.target in _LAST for user in node.users) else 1
