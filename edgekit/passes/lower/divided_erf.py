"""The argument of an error function is divided instead of multiplied.

    erf(c x)  ->  erf(x / (1 / c))

For MNN 3.6, whose converter takes x (erf(c x) + 1) / 2 with c = 0.70710677 for a GELU and puts the approximation by
tanh in its place, some 70 dB off. It looks for the product; a quotient it leaves alone. This is how people write GELU
by hand; the operator itself is `sigmoid-gelu`'s.

Rule: the argument is a product with a number other than zero, which only error functions read.
"""

import torch
from torch.fx import Node

from edgekit.passes.base import Log
from edgekit.program import Program, arguments

_aten = torch.ops.aten

_ERRORS = (_aten.erf.default, _aten.special_erf.default)


class DividedErf:
    """Writes error functions such that MNN's converter does not take them for a part of a GELU."""

    name = "divided-erf"

    def __call__(self, program: Program, log: Log) -> None:
        for target in (_aten.mul.Tensor, _aten.mul.Scalar):
            for product in program.graph.find_nodes(op="call_function", target=target):
                factor = arguments(product)["other"]
                if isinstance(factor, Node) or factor == 0 or not _only_for_errors(product):
                    continue
                with program.graph.inserting_before(product):
                    quotient = program.graph.call_function(_aten.div.Tensor, (product.args[0], 1 / factor))
                quotient.meta = dict(product.meta)
                product.replace_all_uses_with(quotient)
                log.fired[self.name] += 1


def _only_for_errors(node: Node) -> bool:
    return bool(node.users) and all(user.target in _ERRORS for user in node.users)
