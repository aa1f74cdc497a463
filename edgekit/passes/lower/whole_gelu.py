"""A GELU that was written by hand becomes the operator.

    x * 0.5 * (1 + erf(x / sqrt(2)))   ->  gelu(x)

The factors may come in any order, the argument as a product or a quotient. Runtimes have a kernel for the operator, and
MNN's converter looks for one of the orders and puts the approximation by tanh in its place, 70 dB off.

Rules:
1. The error function's argument is x times 1 / sqrt(2), as float32 rounds it.
2. One is added to it, and what is then multiplied is that sum, x, and numbers whose product is one half.
"""

import math
from dataclasses import dataclass

import torch
from torch.fx import Node

from edgekit.passes.base import Log
from edgekit.program import Program, arguments, constant, module_path

_aten = torch.ops.aten

_ERRORS = (_aten.erf.default, _aten.special_erf.default)
_PRODUCTS = (_aten.mul.Tensor, _aten.mul.Scalar)
_QUOTIENTS = (_aten.div.Tensor, _aten.div.Scalar)
_SUMS = (_aten.add.Tensor, _aten.add.Scalar)

_ROUNDING = 1e-7
"""Relative error of a number that was rounded to float32, and a little more."""


class WholeGelu:
    """Finds GELUs in their parts."""

    name = "whole-gelu"

    def __call__(self, program: Program, log: Log) -> None:
        for target in _ERRORS:
            for node in program.graph.find_nodes(op="call_function", target=target):
                found = _Parts(program).found(node)
                if found is None:
                    log.decline(self.name, module_path(node), "the error function is not part of a GELU")
                    continue
                product, source = found
                with program.graph.inserting_before(product):
                    gelu = program.graph.call_function(_aten.gelu.default, (source,))
                gelu.meta = dict(product.meta)
                product.replace_all_uses_with(gelu)
                log.fired[self.name] += 1


@dataclass(frozen=True, slots=True)
class _Parts:
    """Looks for the parts of a GELU in a program."""

    program: Program

    def found(self, error: Node) -> tuple[Node, Node] | None:
        """The node that gives x * 0.5 * (1 + erf(x / sqrt(2))), and x."""
        argument = self.scaled(arguments(error)["self"])
        total = _only_user(error)
        if argument is None or total is None or not math.isclose(argument[1], math.sqrt(0.5), rel_tol=_ROUNDING):
            return None
        if total.target not in _SUMS or arguments(total)["alpha"] != 1 or self.others(total, error) != [1.0]:
            return None
        return self.multiplied(total, argument[0])

    def multiplied(self, total: Node, source: Node) -> tuple[Node, Node] | None:
        """The product of the sum, x, and numbers that make one half, found by going up from the sum."""
        factor, met, node = 1.0, False, total
        while not (met and math.isclose(factor, 0.5, rel_tol=_ROUNDING)):
            product = _only_user(node)
            scaled = None if product is None else self.scaled(product)
            if product is None:
                return None
            if scaled is not None and scaled[0] is node:
                factor *= scaled[1]
            elif met or product.target not in _PRODUCTS:
                return None
            else:
                (other,) = [each for each in product.args[:2] if each is not node] or [None]
                part = (other, 1.0) if other is source else self.scaled(other)
                if part is None or part[0] is not source:
                    return None
                met, factor = True, factor * part[1]
            node = product
        return node, source

    def scaled(self, node: object) -> tuple[Node, float] | None:
        """The node and the number that a node is the product of; None for any other."""
        if not isinstance(node, Node) or node.target not in (*_PRODUCTS, *_QUOTIENTS):
            return None
        sources = [each for each in node.args[:2] if self.number(each) is None]
        if len(sources) != 1 or not isinstance(sources[0], Node):
            return None
        if node.target in _QUOTIENTS and node.args[0] is not sources[0]:
            return None
        (number,) = self.others(node, sources[0])
        return sources[0], 1 / number if node.target in _QUOTIENTS else number

    def others(self, node: Node, known: Node) -> list[float]:
        """The numbers that an operator of two operands takes besides a known one."""
        numbers = (self.number(each) for each in node.args[:2] if each is not known)
        return [number for number in numbers if number is not None]

    def number(self, operand: object) -> float | None:
        """A number, or the one that a constant holds."""
        value = constant(self.program, operand)
        if value is not None and value.numel() == 1:
            return float(value)
        return float(operand) if isinstance(operand, (int, float)) else None


def _only_user(node: Node) -> Node | None:
    return next(iter(node.users)) if len(node.users) == 1 else None
