"""Constant factors move through products to a layer that can take them into its weights.

    conv(x, w, b) * (2 * gate)        ->   conv(x, 2 w, 2 b) * gate
    conv(y * (2 * gate), w)           ->   conv(y * gate, 2 w)

A product is associative, and one number scales every element of it alike, so the factor is where it costs nothing.

Rules:
1. The factor is one number, and nothing else reads what it scales.
2. The layer is a convolution or linear layer whose weight is its own, or in front of the product a batch norm. In front
   nothing else reads it; behind, nothing else reads the product.
3. What may not be fused is neither moved through nor moved to.
"""

from collections.abc import Callable

import torch
from torch.fx import Node

from edgekit.passes.base import Log
from edgekit.passes.fuse.orders import LAYERS
from edgekit.passes.fuse.reader import NotLinearError, Reader, shape_of
from edgekit.program import Program, arguments

_aten = torch.ops.aten

RULE = "factor"

_PRODUCTS = (_aten.mul.Tensor, _aten.mul.Scalar)


def move_factors(program: Program, allowed: Callable[[Node], bool], log: Log) -> None:
    """Moves every factor that a layer can take, in place."""
    reader = Reader(program)
    for product in program.graph.find_nodes(op="call_function", target=_aten.mul.Tensor):
        operands = [used for used in product.args if isinstance(used, Node) and reader.constant(used) is None]
        if len(operands) != 2 or operands[0] is operands[1] or not allowed(product):
            continue
        for scaled, other in (operands, operands[::-1]):
            source = _scaled(reader, scaled, allowed)
            if source is None or _takes(reader, source, allowed):
                continue
            reading = next(iter(product.users), product)
            factor = _factor(reader, scaled, source)
            if _takes(reader, other, allowed):
                _scale(program, factor, other, product)
            elif len(product.users) == 1 and _reads(reader, reading, product, allowed):
                _scale(program, factor, product, reading)
            else:
                continue
            product.replace_input_with(scaled, source)
            program.graph.erase_node(scaled)
            log.fired[RULE] += 1
            break


def _scaled(reader: Reader, node: Node, allowed: Callable[[Node], bool]) -> Node | None:
    """What a node multiplies by one number, if that is what it does and only one other node reads it."""
    if node.target not in _PRODUCTS or len(node.users) != 1 or not allowed(node):
        return None
    variable = [used for used in node.args if isinstance(used, Node) and reader.constant(used) is None]
    factors = [used for used in node.args if used not in variable]
    if len(variable) != 1 or len(factors) != 1 or shape_of(variable[0]) != shape_of(node):
        return None
    stored = reader.constant(factors[0])
    return variable[0] if stored is None or stored.numel() == 1 else None


def _factor(reader: Reader, scaled: Node, source: Node) -> float:
    """The number with which a node scales another."""
    (factor,) = (used for used in scaled.args if used is not source)
    stored = reader.constant(factor)
    return float(factor if stored is None else stored)  # type: ignore[arg-type]


def _takes(reader: Reader, node: Node, allowed: Callable[[Node], bool]) -> bool:
    """Whether a factor behind a node ends in it: a layer or a norm that only one other node reads."""
    if len(node.users) != 1 or not allowed(node):
        return False
    return _is_layer(reader, node) or (node.target is _aten.batch_norm.default and not arguments(node)["training"])


def _is_layer(reader: Reader, node: Node) -> bool:
    """Whether a node is a layer with a weight of its own."""
    if node.target not in LAYERS:
        return False
    try:
        reader.weight(arguments(node)["weight"], node)
    except NotLinearError:
        return False
    return True


def _reads(reader: Reader, node: Node, product: Node, allowed: Callable[[Node], bool]) -> bool:
    """Whether a node is a layer on a product, not one whose weight is the product."""
    return allowed(node) and _is_layer(reader, node) and arguments(node)["input"] is product


def _scale(program: Program, factor: float, target: Node, reading: Node) -> None:
    """Multiplies a node's value by a number, for one of those that read it."""
    with program.graph.inserting_after(target):
        new = program.graph.call_function(_aten.mul.Tensor, (target, factor))
    new.meta = dict(target.meta)
    reading.replace_input_with(target, new)
