"""A Euclidean norm is written out: the root of the sum of the squares.

    linalg_vector_norm(x, 2, dim, keepdim)  ->  sqrt(sum(x * x, dim, keepdim))      likewise norm(x, 2, dim, keepdim)

For runtimes that have no such operator, or a wrong one: MNN 3.6 converts ReduceL2 without a word into values several
times too large, and every network with such a norm is destroyed by it.

Rule: the order is 2, and no other type is asked for.
"""

from typing import Any

import torch
from torch.fx import Node

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
    """Writes Euclidean norms in elementary operators."""

    name = "plain-norm"

    def __call__(self, program: Program, log: Log) -> None:
        for target in _NORMS:
            for node in program.graph.find_nodes(op="call_function", target=target):
                given = arguments(node)
                if given.get("ord", given.get("p", 2)) in (2, None) and given.get("dtype") is None:
                    _write_out(program, node, given)
                    log.fired[self.name] += 1


def _write_out(program: Program, node: Node, given: dict[str, Any]) -> None:
    source = given["self"]
    rank = source.meta["val"].ndim
    axes = given.get("dim")
    axes = [axes] if isinstance(axes, int) else list(axes or range(rank))
    with program.graph.inserting_before(node):
        square = program.graph.call_function(_aten.mul.Tensor, (source, source))
        total = program.graph.call_function(_aten.sum.dim_IntList, (square, axes, given.get("keepdim", False)))
        root = program.graph.call_function(_aten.sqrt.default, (total,))
    for made, like in ((square, source), (total, node), (root, node)):
        made.meta = {**node.meta, "val": like.meta["val"]}
    node.replace_all_uses_with(root)
