"""What each operator does with channels that arrive in another order.

A node's value v is held as E(v) = v[:, order]. An operator passes an order on, absorbs it in its weights, or is
blocked:

    relu, pooling, mean over the map         order passes
    x + y, x * gate                          passes, where both have the same
    per-channel constants, batch norm        passes, constants follow:  c[order]
    dense convolution, linear                absorbs:  w[:, order]
    depthwise convolution                    passes, weights follow:  w[order]
    grouped convolution                      absorbs an order that keeps its groups whole
    concatenation                            orders one after the other
    split                                    passes, where every part has its own channels
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node

from edgekit.passes.fuse.reader import SPLITS, NotLinearError, Reader, shape_of
from edgekit.passes.fuse.shuffles import MOVES, move
from edgekit.program import arguments, insert_constant, is_getitem

_aten = torch.ops.aten


@dataclass(frozen=True, slots=True)
class Order:
    """Channel k of what is held is channel index[k] of the value; `origins` are the permutations it comes from."""

    index: Tensor
    origins: frozenset[Node]


class BlockedError(Exception):
    """An operator that needs its channels in their own order; the message says why."""


@dataclass(slots=True)
class Edits:
    """Constants to reorder, once it is known that every order finds its end."""

    reader: Reader
    planned: list[tuple[Node, str, Callable[[Tensor], Tensor]]] = field(default_factory=list)

    def plan(self, node: Node, argument: str, change: Callable[[Tensor], Tensor]) -> None:
        """Plans that one constant argument of a node is changed."""
        if arguments(node)[argument] is not None:
            self.planned.append((node, argument, change))

    def carry_out(self) -> None:
        """Makes the new constants."""
        for node, argument, change in self.planned:
            given = arguments(node)
            value = self.reader.constant(given[argument])
            assert value is not None, "only constant arguments are planned"  # noqa: S101
            stored = insert_constant(self.reader.program, node, str(given[argument].target), change(value))
            position = list(given).index(argument)
            if position < len(node.args):
                node.update_arg(position, stored)
            else:
                node.update_kwarg(argument, stored)


def pass_through(node: Node, orders: Mapping[Node, Order], edits: Edits) -> Order | None:
    """The order in which a node holds its value, given those of its operands; None for its own.

    Raises:
        BlockedError: The node needs its operands in their own order.
    """
    if is_getitem(node):
        return _part(node, orders)
    if node.target in PASSING:
        return _only(node, orders)
    rule = RULES.get(node.target)
    if rule is None:
        raise BlockedError(f"{node.target} needs the channels in their own order")
    return rule(node, arguments(node), orders, edits)


def _only(node: Node, orders: Mapping[Node, Order]) -> Order:
    (found,) = {id(order): order for used in node.all_input_nodes if (order := orders.get(used))}.values()
    return found


def _over_map(node: Node, given: dict[str, Any], orders: Mapping[Node, Order], _: Edits) -> Order:
    rank = len(shape_of(given["self"]))
    if rank != 4 or not given["dim"] or {dim % rank for dim in given["dim"]} & {0, 1}:
        raise BlockedError("the mean is over the channels")
    return _only(node, orders)


def _reshape(node: Node, _given: dict[str, Any], orders: Mapping[Node, Order], edits: Edits) -> Order:
    source = node.args[0]
    assert isinstance(source, Node), "what moves elements reads them first"  # noqa: S101
    shape, result = shape_of(source), shape_of(node)
    if len(shape) < 2 or shape[:2] != result[:2] or result[2:] not in ((), shape[2:], (1, 1)):
        raise BlockedError("a reshape mixes channels with pixels")
    # The same shape does not say that the same elements are in each channel.
    channels = torch.arange(shape[1]).reshape(-1, *[1] * (len(shape) - 2)).expand(shape).contiguous()
    moved = move(edits.reader.program, node, {source: channels})
    if moved is None or not bool((moved == torch.arange(shape[1]).reshape(-1, *[1] * (len(result) - 2))).all()):
        raise BlockedError("channels are moved in a way that is no permutation of them")
    return _only(node, orders)


def _spatial_pad(node: Node, given: dict[str, Any], orders: Mapping[Node, Order], _: Edits) -> Order:
    if len(given["pad"]) > 4 and any(given["pad"][4:]):
        raise BlockedError("channels are padded")
    return _only(node, orders)


def _elementwise(node: Node, given: dict[str, Any], orders: Mapping[Node, Order], edits: Edits) -> Order:
    shape = shape_of(node)
    tensors = [(name, value) for name, value in given.items() if isinstance(value, Node)]
    carried = [value for _, value in tensors if edits.reader.constant(value) is None and shape_of(value)[1:2] != (1,)]
    if any(len(shape_of(value)) != len(shape) for value in carried):
        raise BlockedError("operands of different rank are combined")
    found = [orders.get(value) for value in carried]
    known = [order for order in found if order is not None]
    if len(known) < len(found) or any(not torch.equal(order.index, known[0].index) for order in known):
        raise BlockedError("it meets channels in another order")
    index = known[0].index
    for name, value in tensors:
        stored = edits.reader.constant(value)
        if stored is not None:
            axis = stored.ndim - (len(shape) - 1)
            if axis >= 0 and stored.shape[axis] != 1:
                edits.plan(node, name, lambda old, axis=axis: old.index_select(axis, index))  # type: ignore[misc]
    return Order(index, frozenset().union(*(order.origins for order in known)))


def _batch_norm(node: Node, given: dict[str, Any], orders: Mapping[Node, Order], edits: Edits) -> Order:
    order = orders[given["input"]]
    for name in ("weight", "bias", "running_mean", "running_var"):
        if given[name] is not None and edits.reader.constant(given[name]) is None:
            raise BlockedError("a batch norm has computed constants")
        edits.plan(node, name, lambda old: old[order.index])
    return order


def _prelu(node: Node, given: dict[str, Any], orders: Mapping[Node, Order], edits: Edits) -> Order:
    order, slope = orders[given["self"]], edits.reader.constant(given["weight"])
    if slope is None:
        raise BlockedError("a slope is computed")
    if slope.numel() > 1:
        edits.plan(node, "weight", lambda old: old[order.index])
    return order


def _weight(node: Node, given: dict[str, Any], edits: Edits) -> Tensor:
    try:
        return edits.reader.weight(given["weight"], node)
    except NotLinearError as reason:
        raise BlockedError(str(reason)) from reason


def _linear(node: Node, given: dict[str, Any], orders: Mapping[Node, Order], edits: Edits) -> None:
    order = orders[given["input"]]
    if len(shape_of(given["input"])) != 2:
        raise BlockedError("a linear layer reads another axis than the channels")
    _weight(node, given, edits)
    edits.plan(node, "weight", lambda old: old[:, order.index])


def _convolution(node: Node, given: dict[str, Any], orders: Mapping[Node, Order], edits: Edits) -> Order | None:
    order, groups = orders[given["input"]], int(given["groups"])
    weight = _weight(node, given, edits)
    channels = len(order.index)
    if groups == 1:
        edits.plan(node, "weight", lambda old: old[:, order.index])
        return None
    size, outputs = channels // groups, weight.shape[0] // groups
    blocks = order.index.reshape(groups, size)
    group = blocks[:, 0] // size
    if not torch.equal(blocks // size, group[:, None].expand(groups, size)):
        raise BlockedError(f"the {groups} groups of a convolution read channels that it mixes")
    rows = (group[:, None] * outputs + torch.arange(outputs)).reshape(-1)
    columns = (blocks - group[:, None] * size).repeat_interleave(outputs, dim=0)

    def reorder(old: Tensor) -> Tensor:
        picked = columns.reshape(*columns.shape, *[1] * (old.ndim - 2)).expand(-1, -1, *old.shape[2:])
        return old[rows].gather(1, picked)

    edits.plan(node, "weight", reorder)
    edits.plan(node, "bias", lambda old: old[rows])
    return None if torch.equal(rows, torch.arange(len(rows))) else Order(rows, order.origins)


def _concatenation(node: Node, given: dict[str, Any], orders: Mapping[Node, Order], _: Edits) -> Order:
    if len(shape_of(node)) not in (2, 4) or given["dim"] % len(shape_of(node)) != 1:
        raise BlockedError("not concatenated along the channels")
    return joined(given["tensors"], orders)


def joined(nodes: list[Node], orders: Mapping[Node, Order]) -> Order:
    """The order of several values put one after the other."""
    start, parts, origins = 0, [], frozenset[Node]()
    for node in nodes:
        channels, order = shape_of(node)[1], orders.get(node)
        parts.append(start + (torch.arange(channels) if order is None else order.index))
        origins |= order.origins if order is not None else frozenset()
        start += channels
    return Order(torch.cat(parts), origins)


def _split(_node: Node, given: dict[str, Any], orders: Mapping[Node, Order], _: Edits) -> Order:
    if given["dim"] % len(shape_of(given["self"])) != 1:
        raise BlockedError("split along another axis than the channels")
    return orders[given["self"]]


def _part(node: Node, orders: Mapping[Node, Order]) -> Order:
    split, number = node.args
    sizes = [part.shape[1] for part in split.meta["val"]]  # type: ignore[union-attr]
    start = sum(sizes[: int(number)])  # type: ignore[arg-type]
    return _piece(orders[split], start, start + sizes[int(number)])  # type: ignore[index, arg-type]


def _slice(node: Node, given: dict[str, Any], orders: Mapping[Node, Order], _: Edits) -> Order:
    if given["dim"] % len(shape_of(node)) != 1:
        return _only(node, orders)
    start = int(given["start"] or 0) % shape_of(given["self"])[1]
    if given.get("step", 1) != 1:
        raise BlockedError("a slice takes every other channel")
    return _piece(orders[given["self"]], start, start + shape_of(node)[1])


def _piece(order: Order, start: int, stop: int) -> Order:
    """The order of channels `start` to `stop`, which have to be held together."""
    piece = order.index[start:stop]
    if int(piece.min()) < start or int(piece.max()) >= stop:
        raise BlockedError("a split parts channels that it mixes")
    return Order(piece - start, order.origins)


LAYERS = (_aten.conv2d.default, _aten.conv2d.padding, _aten.linear.default)
"""Operators that add up channels with weights."""

_NAMES = (
    "relu silu gelu sigmoid hardsigmoid hardswish tanh relu6 elu leaky_relu hardtanh clamp clamp_min clamp_max "
    "softplus mish neg abs exp sqrt rsqrt erf reciprocal clone contiguous alias detach to avg_pool2d max_pool2d "
    "dropout feature_dropout alpha_dropout feature_alpha_dropout "
    "adaptive_avg_pool2d adaptive_max_pool2d upsample_nearest2d upsample_bilinear2d"
)

PASSING = frozenset(
    getattr(getattr(_aten, name), overload)
    for name in _NAMES.split()
    for overload in getattr(_aten, name).overloads()
    if "out" not in overload.split("_")
)
"""Operators of one tensor that treat all channels alike and each by itself."""

RULES: dict[object, Callable[[Node, dict[str, Any], Mapping[Node, Order], Edits], Order | None]] = {
    _aten.mean.dim: _over_map,
    _aten.pad.default: _spatial_pad,
    _aten.constant_pad_nd.default: _spatial_pad,
    _aten.add.Tensor: _elementwise,
    _aten.add.Scalar: _elementwise,
    _aten.sub.Tensor: _elementwise,
    _aten.sub.Scalar: _elementwise,
    _aten.rsub.Tensor: _elementwise,
    _aten.rsub.Scalar: _elementwise,
    _aten.mul.Tensor: _elementwise,
    _aten.mul.Scalar: _elementwise,
    _aten.div.Tensor: _elementwise,
    _aten.div.Scalar: _elementwise,
    _aten.maximum.default: _elementwise,
    _aten.minimum.default: _elementwise,
    _aten.batch_norm.default: _batch_norm,
    _aten.prelu.default: _prelu,
    _aten.linear.default: _linear,
    _aten.conv2d.default: _convolution,
    _aten.conv2d.padding: _convolution,
    _aten.cat.default: _concatenation,
    _aten.slice.Tensor: _slice,
    _aten.narrow.default: _slice,
    **dict.fromkeys(SPLITS, _split),
    **dict.fromkeys(MOVES, _reshape),
}
"""Operator to what it does with an order."""
