"""Cross-layer equalisation: the channels between two layers get about the same range, by powers of two.

    second(f(first(x)))  ->  second'(f(first'(x))),  first' = first / s,  second' = second * s,  f(x / s) = f(x) / s

Nagel, van Baalen, Blankevoort, Welling, "Data-Free Quantization Through Weight Equalization and Bias Correction", ICCV
2019, section 4.1: with r1 and r2 the largest weights that give and read a channel, s = sqrt(r1 / r2) makes both equal
(equation 11), pair by pair until nothing changes. Rounded to a power of two, s changes exponents only, and so no bit of
what the network gives, short of overflow.

Rules:
1. Both layers are convolutions or linear layers with constant weights; the second is dense or depthwise.
2. Each tensor on the way between them has one reader.
3. What is between them is positively homogeneous: nothing, or ReLU.

Evening out what a product with a gate has on its other side, the halves of ParCNetV2's gated units, earned nothing.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.fx import Node

from edgekit.passes.base import Log
from edgekit.program import Program, arguments, constant, insert_constant, is_depthwise, module_path

_aten = torch.ops.aten

_LAYERS = (_aten.conv2d.default, _aten.linear.default)
_MOST_ROUNDS = 20


@dataclass(frozen=True, slots=True)
class _Pair:
    """Two layers whose channels meet."""

    first: Node
    second: Node


Weights = dict[Node, tuple[Tensor, Tensor | None]]
"""The weight and the bias of layers while they are evened out."""


class Equalise:
    """Evens out the ranges of channels between layers."""

    name = "equalise"

    def __call__(self, program: Program, log: Log) -> None:
        pairs = list(_pairs(program, log))
        weights = {layer: _constants(program, layer) for pair in pairs for layer in (pair.first, pair.second)}
        uneven: dict[_Pair, None] = {}
        for _ in range(_MOST_ROUNDS):
            found = [pair for pair in pairs if _even_out(pair, weights)]
            if not found:
                break
            uneven |= dict.fromkeys(found)
        for layer in dict.fromkeys(layer for pair in uneven for layer in (pair.first, pair.second)):
            _write(program, layer, *weights[layer])
        if uneven:
            log.fired[self.name] += len(uneven)


def _pairs(program: Program, log: Log) -> Iterator[_Pair]:
    """The pairs of layers that the rules allow, in the order of the network."""
    for first in program.graph.nodes:
        if first.op != "call_function" or first.target not in _LAYERS:
            continue
        if constant(program, arguments(first)["weight"]) is None:
            continue
        second = _follow(first)
        reason = _why_not(program, first, second)
        if second is not None and reason is None:
            yield _Pair(first, second)
        elif reason:
            log.decline(Equalise.name, module_path(first), reason)


def _follow(first: Node) -> Node | None:
    """The layer that alone reads what another gives, behind a ReLU or not; None where there is none."""
    node = first
    while len(node.users) == 1:
        (reader,) = node.users
        if reader.target in _LAYERS:
            return reader if arguments(reader)["input"] is node else None
        if reader.target is not _aten.relu.default:
            return None
        node = reader
    return None


def _why_not(program: Program, first: Node, second: Node | None) -> str | None:
    """None where the rules allow it, "" where they were never meant to, else the reason for declining."""
    if second is None:
        return ""
    weight = constant(program, arguments(second)["weight"])
    if weight is None or first.target is not second.target:
        return ""
    bias = arguments(first)["bias"]
    if bias is not None and constant(program, bias) is None:
        return "the layer's bias is computed"
    groups = arguments(second).get("groups", 1)
    if groups != 1 and not is_depthwise(second, weight):
        return "the layer behind it has groups"
    return None


def _constants(program: Program, layer: Node) -> tuple[Tensor, Tensor | None]:
    given = arguments(layer)
    weight = constant(program, given["weight"])
    assert weight is not None, "the rules ask for it"  # noqa: S101
    return weight, constant(program, given["bias"])


def _even_out(pair: _Pair, weights: Weights) -> bool:
    """Scales the channels between two layers; gives back whether any changed."""
    (given, bias), (reading, other) = weights[pair.first], weights[pair.second]
    depthwise = pair.second.target is _aten.conv2d.default and is_depthwise(pair.second, reading)
    largest = given.abs().flatten(1).amax(1)
    read = reading.abs().flatten(1).amax(1) if depthwise else reading.abs().transpose(0, 1).flatten(1).amax(1)
    ratio = torch.where((largest > 0) & (read > 0), largest / read, torch.ones_like(read))
    scale = torch.exp2(torch.round(torch.log2(ratio) / 2))
    if bool((scale == 1).all()):
        return False
    along = (-1, *[1] * (given.ndim - 1))
    across = along if depthwise else (1, -1, *[1] * (reading.ndim - 2))
    weights[pair.first] = given / scale.reshape(along), None if bias is None else bias / scale
    weights[pair.second] = reading * scale.reshape(across), other
    return True


def _write(program: Program, layer: Node, weight: Tensor, bias: Tensor | None) -> None:
    """Gives a layer other constants."""
    given = arguments(layer)
    for name, value in (("weight", weight), ("bias", bias)):
        if value is not None:
            node = insert_constant(program, layer, f"{given[name].target}_even", value)
            layer.replace_input_with(given[name], node)
