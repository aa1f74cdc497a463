"""Maps that a network keeps with their channels last are computed with their channels first.

    permute(x, NHWC) -> layer_norm -> linear -> gelu -> add -> permute(NCHW)
                     ->     norm   -> conv2d 1x1 -> gelu -> add

Runtimes have their fastest kernels for convolutions of channels-first maps, and a transpose on the way in and out of
every block costs what it copies. What is computed stays the same: a linear layer over the last axis is a convolution
of one tap over the channels, elementwise operators do not know which axis is which, and transposes that meet cancel.

A layer norm over the channels is written in one of two forms:

    transposed   permute, layer_norm, permute: where the runtime has a fast kernel for it
    reduced      (x - mean) * rsqrt(mean((x - mean)^2) + eps), with means over the channels: where it has none

Rules:
1. Maps come from a transpose to channels last, and every operator on the way is one of those above.
2. Where a map is needed with its channels last after all, it is transposed there, once.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.fx import Node
from torch.fx.node import Argument

from edgekit.passes.base import Log
from edgekit.program import Program, arguments, constant, insert_constant, module_path

_aten = torch.ops.aten

TO_LAST, TO_FIRST = [0, 2, 3, 1], [0, 3, 1, 2]

NormForm = Literal["transposed", "reduced"]

ELEMENTWISE = frozenset(
    {
        *(_aten.add.Tensor, _aten.sub.Tensor, _aten.mul.Tensor, _aten.div.Tensor, _aten.mul.Scalar, _aten.add.Scalar),
        *(_aten.gelu.default, _aten.relu.default, _aten.silu.default, _aten.sigmoid.default, _aten.tanh.default),
        *(_aten.hardswish.default, _aten.hardsigmoid.default, _aten.clamp.default, _aten.leaky_relu.default),
        *(_aten.neg.default, _aten.exp.default, _aten.sqrt.default, _aten.relu6.default, _aten.elu.default),
    }
)
"""Operators that treat every element alike, whatever its axis."""


@dataclass(frozen=True, slots=True)
class ChannelsFirst:
    """Computes channels-last maps with their channels first.

    Attributes:
        norm: The form of layer norms over the channels.
    """

    norm: NormForm

    @property
    def name(self) -> str:
        return "channels-first"

    def __call__(self, program: Program, log: Log) -> None:
        walk = _Walk(program, log, self.norm)
        for node in list(program.graph.nodes):
            walk.visit(node)


class _Walk:
    """One walk over a program; `first` maps a channels-last node to a channels-first node of the same values."""

    def __init__(self, program: Program, log: Log, norm: NormForm) -> None:
        self.program = program
        self.log = log
        self.norm = norm
        self.first: dict[Node, Node] = {}
        self.last: dict[Node, Node] = {}

    def visit(self, node: Node) -> None:
        """Writes a node with its channels first where it can be, else gives it the channels-last maps it needs."""
        if node.target is _aten.permute.default:
            source, order = arguments(node)["self"], list(arguments(node)["dims"])
            if order == TO_FIRST and source in self.first:
                node.replace_all_uses_with(self.first[source])
                return
            if order == TO_LAST:
                self.first[node] = source
                self.last[node] = node
                return
        if not any(used in self.first for used in node.all_input_nodes):
            return
        with self.program.graph.inserting_before(node):
            made = self._translated(node)
        if made is None:
            self._restore(node)
        else:
            self.log.fired[str(node.target).removeprefix("aten.").partition(".")[0]] += 1

    def _translated(self, node: Node) -> Node | None:
        """The node with its channels first, None where it has no such form."""
        if node.target is _aten.mean.dim:
            return self._mean(node)
        value = node.meta.get("val")
        if not isinstance(value, Tensor) or value.ndim != 4:
            return None
        if node.target is _aten.linear.default:
            made = self._linear(node)
        elif node.target is _aten.layer_norm.default:
            made = self._norm(node)
        elif node.target in ELEMENTWISE:
            made = self._elementwise(node)
        else:
            return None
        if made is not None:
            self.first[node] = made
        return made

    def _add(self, like: Node, target: OpOverload, *args: Argument, order: Sequence[int] = TO_FIRST) -> Node:
        """A new node with the origin of another, whose value is that one's with its axes in this order."""
        made = self.program.graph.call_function(target, args)
        made.meta = {**like.meta, "val": like.meta["val"].permute(*order)}
        return made

    def _restore(self, node: Node) -> None:
        """Gives a node the channels-last maps it reads."""
        for used in node.all_input_nodes:
            if used not in self.first:
                continue
            if used not in self.last:
                with self.program.graph.inserting_before(node):
                    self.last[used] = self._add(used, _aten.permute.default, self.first[used], TO_LAST, order=range(4))
            node.replace_input_with(used, self.last[used])

    def _linear(self, node: Node) -> Node | None:
        given = arguments(node)
        weight = constant(self.program, given["weight"])
        if weight is None or given["input"] not in self.first:
            return None
        kernel = insert_constant(self.program, node, f"{given['weight'].target}_1x1", weight[:, :, None, None])
        return self._add(
            node, _aten.conv2d.default, self.first[given["input"]], kernel, given["bias"], [1, 1], [0, 0], [1, 1], 1
        )

    def _norm(self, node: Node) -> Node | None:
        given = arguments(node)
        scale, shift = (constant(self.program, given[name]) for name in ("weight", "bias"))
        computed = [
            name for name, found in (("weight", scale), ("bias", shift)) if given[name] is not None and found is None
        ]
        if given["input"] not in self.first or len(given["normalized_shape"]) != 1 or computed:
            return None
        source = self.first[given["input"]]
        if self.norm == "transposed":
            self._restore(node)
            made = self.program.graph.call_function(node.target, node.args, node.kwargs)  # type: ignore[arg-type]
            made.meta = dict(node.meta)
            return self._add(node, _aten.permute.default, made, TO_FIRST)
        return self._reduced_norm(node, source, scale, shift, given["eps"])

    def _reduced_norm(self, node: Node, source: Node, scale: Tensor | None, shift: Tensor | None, eps: float) -> Node:
        """Layer norm in operators that every runtime has."""
        mean = self._narrow(node, _aten.mean.dim, source, [1], True)
        centred = self._add(node, _aten.sub.Tensor, source, mean)
        square = self._add(node, _aten.mul.Tensor, centred, centred)
        variance = self._narrow(node, _aten.mean.dim, square, [1], True)
        raised = self._narrow(node, _aten.add.Tensor, variance, eps)
        made = self._add(node, _aten.mul.Tensor, centred, self._narrow(node, _aten.rsqrt.default, raised))
        for target, values, leaf in ((_aten.mul.Tensor, scale, "weight"), (_aten.add.Tensor, shift, "bias")):
            if values is not None:
                name = f"{module_path(node)}.{leaf}_map".lstrip(".")
                stored = insert_constant(self.program, node, name, values[:, None, None])
                made = self._add(node, target, made, stored)
        return made

    def _narrow(self, like: Node, target: OpOverload, *args: Argument) -> Node:
        """A new node with one channel where another has all."""
        made = self._add(like, target, *args)
        made.meta["val"] = made.meta["val"][:, :1]
        return made

    def _elementwise(self, node: Node) -> Node | None:
        """The operator on operands whose channels come first, None where one of them has no such form."""
        operands = {used: self._operand(node, used) for used in node.all_input_nodes}
        if any(operand is None for operand in operands.values()):
            return None
        args, kwargs = torch.fx.map_arg((node.args, node.kwargs), lambda used: operands[used])
        made = self.program.graph.call_function(node.target, args, kwargs)  # type: ignore[arg-type]
        made.meta = {**node.meta, "val": node.meta["val"].permute(*TO_FIRST)}
        return made

    def _operand(self, node: Node, used: Node) -> Node | None:
        """What an elementwise operator reads in the place of a channels-last operand."""
        if used in self.first:
            return self.first[used]
        values = constant(self.program, used)
        if values is None:
            return None
        whole = values.reshape((1,) * (4 - values.ndim) + tuple(values.shape))
        return insert_constant(self.program, node, f"{used.target}_map", whole.permute(TO_FIRST))

    def _mean(self, node: Node) -> Node | None:
        """A mean over height and width, which drops both."""
        given = arguments(node)
        axes = sorted(axis % 4 for axis in given["dim"] or ())
        if given["self"] not in self.first or axes != [1, 2] or given["keepdim"] or given["dtype"] is not None:
            return None
        made = self.program.graph.call_function(_aten.mean.dim, (self.first[given["self"]], [2, 3], False))
        made.meta = dict(node.meta)
        node.replace_all_uses_with(made)
        return made
