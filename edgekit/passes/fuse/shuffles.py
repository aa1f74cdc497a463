"""Recognising channel permutations, however they are written.

    view, transpose, view          a shuffle                  channel_shuffle, index_select, x[:, [2, 1, 0]], flip
    stack, flatten                 an interleaved concat      cat, view, transpose, view

A chain of operators that only move elements is run once on the numbers of its elements. Where the result is the input's
maps in another order, whole and in place, the chain is a permutation: nothing has to be known about how it was written.

    s[:, k] = cat(inputs)[:, order[k]]
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor
from torch.fx import Node

from edgekit.passes.fuse.reader import shape_of
from edgekit.program import Program, constant

_aten = torch.ops.aten

MOVES = frozenset(
    {
        _aten.view.default,
        _aten.reshape.default,
        _aten.unflatten.int,
        _aten.flatten.using_ints,
        _aten.transpose.int,
        _aten.permute.default,
        _aten.contiguous.default,
        _aten.clone.default,
        _aten.squeeze.dim,
        _aten.squeeze.default,
        _aten.unsqueeze.default,
        _aten.channel_shuffle.default,
        _aten.native_channel_shuffle.default,
        _aten.index_select.default,
        _aten.index.Tensor,
        _aten.flip.default,
    }
)
"""Operators of one tensor that only move its elements."""

_JOINS = (_aten.stack.default, _aten.cat.default)


@dataclass(frozen=True, slots=True)
class Shuffle:
    """A permutation of the channels of one input, or of several put one after the other."""

    node: Node
    inputs: tuple[Node, ...]
    order: Tensor
    inside: frozenset[Node]


def find_shuffles(program: Program, allowed: Callable[[Node], bool]) -> dict[Node, Shuffle]:
    """Every permutation of channels in a program, by the node that gives its result."""
    found: dict[Node, Shuffle] = {}
    taken: set[Node] = set()
    for node in program.graph.nodes:
        if node in taken or not allowed(node):
            continue
        shuffle = _shuffle_from(program, node)
        if shuffle is not None:
            found[shuffle.node] = shuffle
            taken |= shuffle.inside | {shuffle.node}
    return found


def _shuffle_from(program: Program, head: Node) -> Shuffle | None:
    """The permutation that starts at a node, if there is one."""
    if head.target in _JOINS:
        read = cast("Sequence[object]", head.args[0])
    elif head.target in MOVES:
        read = (head.args[0],)
    else:
        return None
    inputs = tuple(used for used in read if isinstance(used, Node) and used.op != "get_attr")
    shapes = [shape_of(used) for used in inputs]
    if len(inputs) != len(read) or any(len(s) != 4 or (s[0], *s[2:]) != (shapes[0][0], *shapes[0][2:]) for s in shapes):
        return None
    whole = (shapes[0][0], sum(shape[1] for shape in shapes), *shapes[0][2:])
    numbers = torch.arange(torch.Size(whole).numel()).reshape(whole)
    values = dict(zip(inputs, torch.split(numbers, [shape[1] for shape in shapes], dim=1), strict=True))
    return _follow(program, head, inputs, values, whole)


def _follow(
    program: Program, head: Node, inputs: Sequence[Node], values: dict[Node, Tensor], whole: tuple[int, ...]
) -> Shuffle | None:
    """Moves the numbers along the chain until they are a permutation of the channels."""
    chain, node = [head], head
    while True:
        moved = move(program, node, values)
        if moved is None:
            return None
        values[node] = moved
        order = _order_of(values[node], whole)
        if order is not None and not torch.equal(order, torch.arange(whole[1])):
            return Shuffle(node, tuple(inputs), order, frozenset(chain[:-1]))
        followers = list(node.users)
        if len(followers) != 1 or followers[0].target not in MOVES:
            return None
        node = followers[0]
        chain.append(node)


def move(program: Program, node: Node, values: Mapping[Node, Tensor]) -> Tensor | None:
    """What an operator makes of the numbers of its input's elements; None where it reads what is only computed."""
    known = {used: stored for used in node.all_input_nodes if (stored := constant(program, used)) is not None}
    if any(used not in known and used not in values for used in node.all_input_nodes):
        return None
    args, kwargs = torch.fx.map_arg(
        (node.args, node.kwargs), lambda used: known[used] if used in known else values[used]
    )
    return torch.as_tensor(node.target(*args, **kwargs))  # type: ignore[operator]


def _order_of(numbers: Tensor, whole: tuple[int, ...]) -> Tensor | None:
    """The order of the channels, where every element is still at its place in the map and every channel there once."""
    if tuple(numbers.shape) != whole:
        return None
    area = whole[2] * whole[3]
    order = numbers[0, :, 0, 0] // area
    expected = torch.arange(torch.Size(whole).numel()).reshape(whole)[:, order]
    complete = torch.equal(order.sort().values, torch.arange(whole[1]))
    return order if complete and torch.equal(numbers, expected) else None
