"""A norm is written out.

    linalg_vector_norm(x, 2, dim, keepdim)  ->  sqrt(sum(x * x, dim, keepdim))      likewise norm
    linalg_vector_norm(x, 1, dim, keepdim)  ->  sum(abs(x), dim, keepdim)

For MNN 3.6, which converts ReduceL2 and ReduceL1 without a word into a norm over all axes, whichever are asked for: it
does not know that from opset 18 on they are an input. Values are several times too large, and the network is destroyed.

Rule: the order is 2 or 1, and no other type is asked for.
"""

from typing import Any

import torch
from torch._ops import OpOverload
from torch.fx import Node
from torch.fx.node import Argument

from edgekit.passes.base import Log
from edgekit.program import Program, arguments

_aten = torch.ops.aten

_NORMS = (
    _aten.linalg_vector_norm.default,
    _aten.norm.ScalarOpt_dim,
    _aten.norm.Scalar,
    _aten.frobenius_norm.dim,
)


class PlainNorm:
    """Writes norms in elementary operators."""

    name = "plain-norm"

    def __call__(self, program: Program, log: Log) -> None:
        for target in _NORMS:
            for node in program.graph.find_nodes(op="call_function", target=target):
                given = arguments(node)
                order = given.get("ord", given.get("p", 2))
                if order in (1, 2, None) and given.get("dtype") is None:
                    _write_out(program, node, given, squared=order != 1)
                    log.fired[self.name] += 1


def _write_out(program: Program, node: Node, given: dict[str, Any], *, squared: bool) -> None:
    source = given["self"]
    axes = given.get("dim")
    axes = [axes] if isinstance(axes, int) else list(axes or range(source.meta["val"].ndim))
    with program.graph.inserting_before(node):
        magnitude = (
            _call(program, _aten.mul.Tensor, source, source) if squared else _call(program, _aten.abs.default, source)
        )
        total = _call(program, _aten.sum.dim_IntList, magnitude, axes, given.get("keepdim", False))
        result = _call(program, _aten.sqrt.default, total) if squared else total
    for made, like in ((magnitude, source), (total, node), (result, node)):
        made.meta = {**node.meta, "val": like.meta["val"]}
    node.replace_all_uses_with(result)


def _call(program: Program, target: OpOverload, *operands: Argument) -> Node:
    return program.graph.call_function(target, operands)
