"""Writing a form as ATen nodes: every kernel and shift is made in float64 and rounded once.

term with taps      conv2d, or linear where the channels are last; takes the shift as its bias
factors only        mul by (C, 1, 1)
identity            the source itself
shift left over     add of (C, 1, 1)
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.fx import Node
from torch.nn import functional

from edgekit.passes.fuse.affine import Operator, with_groups
from edgekit.passes.fuse.cost import place
from edgekit.passes.fuse.forms import Form, Layout, Term
from edgekit.passes.fuse.reader import Reader
from edgekit.program import insert_constant, module_path

_aten = torch.ops.aten


@dataclass(slots=True)
class Writer:
    """Writes the form of one node in front of it.

    Attributes:
        node: The node that is replaced.
        resolve: What a source has become.
        written: The nodes made, in order.
    """

    reader: Reader
    node: Node
    resolve: Callable[[Node], Node]
    written: list[Node] = field(default_factory=list)

    def write(self, form: Form) -> Node:
        """Writes a form and returns the node that computes it."""
        shift = form.shift() if form.shift is not None else None
        # The terms that can carry the shift come first, and none that would have to be negated.
        terms = sorted(form.terms, key=lambda term: (term.operator.unit < 0, term.operator.diagonal))
        total: Node | None = None
        for term in terms:
            has_taps = not term.operator.diagonal
            value = self._term(term, shift if has_taps else None)
            if has_taps:
                shift = None
            if total is None:
                total = value
            else:
                total = self._call(_aten.sub.Tensor if term.operator.unit < 0 else _aten.add.Tensor, total, value)
            if total is value and term.operator.unit < 0:
                total = self._call(_aten.neg.default, value)
        assert total is not None, "a form has at least one term"  # noqa: S101
        return total if shift is None else self._call(_aten.add.Tensor, total, self._per_channel(shift, "shift"))

    def _term(self, term: Term, shift: Tensor | None) -> Node:
        source, operator = self.resolve(term.source), term.operator
        if operator.unit:
            return source
        layout = self.reader.layout(self.node)
        if operator.diagonal:
            return self._call(_aten.mul.Tensor, source, self._per_channel(operator.make().reshape(-1), "scale"))
        bias = None if shift is None else self._constant(shift, "bias")
        if layout.axis == layout.rank - 1:
            weight = with_groups(operator.make(), operator.groups, 1).flatten(1)
            return self._call(_aten.linear.default, source, self._constant(weight, "weight"), bias)
        return self._convolution(source, operator, self.reader.layout(term.source), bias)

    def _convolution(self, source: Node, operator: Operator, layout: Layout, bias: Node | None) -> Node:
        placed = place(operator, layout.size, self.reader.layout(self.node).size)
        assert placed is not None, "a form without placement costs infinitely much"  # noqa: S101
        rows, columns = placed
        weight, margins = operator.make(), (columns.before, columns.after, rows.before, rows.after)
        if any(margins):
            weight = functional.pad(weight, margins)
        return self._call(
            _aten.conv2d.default,
            source,
            self._constant(weight, "weight"),
            bias,
            list(operator.stride),
            [rows.padding, columns.padding],
            list(operator.dilation),
            operator.groups,
        )

    def _per_channel(self, values: Tensor, name: str) -> Node:
        layout = self.reader.layout(self.node)
        return self._constant(values.reshape(-1, *[1] * (layout.rank - 1 - layout.axis)), name)

    def _constant(self, value: Tensor, name: str) -> Node:
        path = f"{module_path(self.node)}.{name}".lstrip(".")
        node = insert_constant(self.reader.program, self.node, path, value.to(torch.float32))
        self.written.append(node)
        return node

    def _call(self, target: object, *args: object) -> Node:
        with self.reader.program.graph.inserting_before(self.node):
            made = self.reader.program.graph.call_function(target, args)  # type: ignore[arg-type]
        made.meta = dict(self.node.meta)
        self.written.append(made)
        return made
