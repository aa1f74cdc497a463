"""Sigmoid and SiLU become a quotient with an exponential, where a runtime's own sigmoid is inexact.

    sigmoid(x) = 1 / (1 + exp(-x)),   silu(x) = x / (1 + exp(-x))

For TFLite: tflite-runtime on ARMv7 computes LOGISTIC with the processor's estimate of a reciprocal, 114 dB of one map,
which leaves 88 to 95 dB of a ParNet; EXP and DIV have 147 dB, in 60 instead of 21 instructions an element. XNNPACK, on
all other boards, takes both, and SiLU in 8.4 instead of 10.1. Where the exponential is infinite, below -88, the
quotient is the right zero.

Rule: every `sigmoid` and every `silu`.
"""

from functools import partial

import torch
from torch.fx import Node

from edgekit.passes.base import Log
from edgekit.program import Program, arguments, insert_like

_aten = torch.ops.aten

ONE = 1.0


class DividedSigmoid:
    """Writes sigmoids as quotients."""

    name = "divided-sigmoid"

    def __call__(self, program: Program, log: Log) -> None:
        for target in (_aten.sigmoid.default, _aten.silu.default):
            for node in program.graph.find_nodes(op="call_function", target=target):
                with program.graph.inserting_before(node):
                    node.replace_all_uses_with(_quotient(program, node))
                log.fired[self.name] += 1


def _quotient(program: Program, node: Node) -> Node:
    """The nodes that compute it; all of them have its shape."""
    add = partial(insert_like, program, node)
    x: Node = arguments(node)["self"]
    below = add(_aten.add.Tensor, add(_aten.exp.default, add(_aten.neg.default, x)), ONE)
    if node.target is _aten.silu.default:
        return add(_aten.div.Tensor, x, below)
    return add(_aten.reciprocal.default, below)
