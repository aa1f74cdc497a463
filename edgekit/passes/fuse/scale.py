"""Scale and shift of a layer or group norm, taken out so that the layers that follow can absorb them.

    layer_norm(x, w, b)             ->  layer_norm(x) * w + b
    permute(layer_norm(x, w, b))    ->  permute(layer_norm(x)) * w' + b'          w' on the axis the channels moved to

The scale and shift are then linear steps like any other. Where nothing absorbed them they are put back: a norm that
scales costs no more than one that does not.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.fx import Node

from edgekit.passes.base import Log
from edgekit.program import Program, arguments, constant, insert_constant, module_path

_aten = torch.ops.aten

RULE = "norm"

_MOVES = (_aten.permute.default, _aten.transpose.int, _aten.contiguous.default, _aten.clone.default)


@dataclass(frozen=True, slots=True)
class Exposed:
    """A norm whose scale and shift were taken out: what gave its value before, and what does now."""

    original: Node
    outer: Node


def expose_norms(program: Program, allowed: Callable[[Node], bool]) -> list[Exposed]:
    """Takes scale and shift out of every norm that has constant ones."""
    found = []
    for node in list(program.graph.nodes):
        if node.target in (_aten.layer_norm.default, _aten.group_norm.default) and allowed(node):
            exposed = _expose(program, node)
            if exposed is not None:
                found.append(exposed)
    return found


def restore_norms(exposed: list[Exposed], log: Log) -> None:
    """Puts scale and shift back where they are still in use, and counts those that are gone."""
    for norm in exposed:
        if norm.outer.users:
            norm.outer.replace_all_uses_with(norm.original)
        else:
            log.fired[RULE] += 1


def _expose(program: Program, norm: Node) -> Exposed | None:
    given = arguments(norm)
    values = {name: constant(program, given[name]) for name in ("weight", "bias")}
    if not norm.users or values["weight"] is None or (given["bias"] is not None and values["bias"] is None):
        return None
    if norm.target is _aten.layer_norm.default and len(given["normalized_shape"]) != 1:
        return None
    chain = _moves_behind(norm)
    last = chain[-1] if chain else norm
    axis = _axis_behind(norm, chain)
    with program.graph.inserting_after(last):
        outer = program.graph.call_function(norm.target, tuple({**given, "weight": None, "bias": None}.values()))  # type: ignore[arg-type]
    outer.meta = dict(norm.meta)
    users = list(last.users)
    for move in chain:
        with program.graph.inserting_after(outer):
            outer = program.graph.call_function(move.target, (outer, *move.args[1:]), dict(move.kwargs))  # type: ignore[arg-type]
        outer.meta = dict(move.meta)
    for name, target in (("weight", _aten.mul.Tensor), ("bias", _aten.add.Tensor)):
        value = values[name]
        if value is not None:
            outer = _attach(program, outer, target, _on_axis(value, axis, last), f"{module_path(norm)}.{name}")
    for user in users:
        user.replace_input_with(last, outer)
    return Exposed(last, outer)


def _attach(program: Program, source: Node, target: object, value: Tensor, name: str) -> Node:
    """Applies a constant to a node's value, right behind it."""
    with program.graph.inserting_after(source):
        node = program.graph.call_function(target, (source,))  # type: ignore[arg-type]
    node.args = (source, insert_constant(program, node, name.lstrip("."), value))
    node.meta = dict(source.meta)
    return node


def _moves_behind(norm: Node) -> list[Node]:
    """The operators that only move a norm's result about, as far as there is one user."""
    chain: list[Node] = []
    node = norm
    while len(node.users) == 1:
        (user,) = node.users
        if user.target not in _MOVES or not user.users:
            break
        chain.append(user)
        node = user
    return chain


def _axis_behind(norm: Node, chain: list[Node]) -> int:
    """The axis of the channels after the moves."""
    rank = norm.meta["val"].ndim
    axis = rank - 1 if norm.target is _aten.layer_norm.default else 1
    for move in chain:
        given = arguments(move)
        if move.target is _aten.permute.default:
            axis = [dim % rank for dim in given["dims"]].index(axis)
        elif move.target is _aten.transpose.int:
            first, second = given["dim0"] % rank, given["dim1"] % rank
            axis = {first: second, second: first}.get(axis, axis)
    return axis


def _on_axis(value: Tensor, axis: int, node: Node) -> Tensor:
    """(C,) shaped to meet one axis of a node's value."""
    return value.detach().reshape(-1, *[1] * (node.meta["val"].ndim - 1 - axis))
