"""An operand that is expanded to the shape of the other one is left to broadcast by itself.

    mul(x, expand(y, shape of x))     ->  mul(x, y)         likewise add, sub, div

For litert-converter 0.5, which fails on the constant of ones that it multiplies by in the place of some expansions
("'tfl.mul' op operands don't have broadcast-compatible shapes"), as in the attention of MobileViTv2. The arithmetic is
the same to the last bit, without a copy.

Rule: every user of the expansion is elementwise arithmetic of two tensors, whose result keeps its shape.
"""

import torch
from torch.fx import Node

from edgekit.passes.base import Log
from edgekit.program import Program

_aten = torch.ops.aten

_ELEMENTWISE = (_aten.mul.Tensor, _aten.add.Tensor, _aten.sub.Tensor, _aten.div.Tensor)
_EXPANSIONS = (_aten.expand.default, _aten.expand_as.default)


class PlainBroadcast:
    """Takes out expansions that arithmetic does by itself."""

    name = "plain-broadcast"

    def __call__(self, program: Program, log: Log) -> None:
        for target in _EXPANSIONS:
            for node in program.graph.find_nodes(op="call_function", target=target):
                if node.users and all(_broadcasts(user, node) for user in node.users):
                    source = node.args[0]
                    assert isinstance(source, Node)  # noqa: S101 - an expansion has a tensor
                    node.replace_all_uses_with(source)
                    log.fired[self.name] += 1


def _broadcasts(user: Node, expanded: Node) -> bool:
    """Whether the other operand alone gives a node the shape it has."""
    if user.target not in _ELEMENTWISE:
        return False
    others = [operand for operand in user.args[:2] if operand is not expanded]
    shape = user.meta["val"].shape
    return len(others) == 1 and isinstance(others[0], Node) and others[0].meta["val"].shape == shape
