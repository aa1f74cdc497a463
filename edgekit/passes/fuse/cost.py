"""What a form costs to compute, which decides the form that is written.

Costs compare by MACs first, so that nothing is merged into something that multiplies more; then by what moves through
memory, which is what removing an operator saves; then by parameters.

    moves = elements written + weights read + OPERATOR_MOVES for each operator
"""

from collections.abc import Callable
from math import prod
from typing import NamedTuple

from torch.fx import Node

from edgekit.macs import node_macs
from edgekit.passes.fuse.affine import Operator, Pair
from edgekit.passes.fuse.forms import Form, Layout

OPERATOR_MOVES = 4096
"""Starting an operator takes about as long as moving this many elements."""


class Cost(NamedTuple):
    """MACs, elements moved, parameters; compared in this order."""

    macs: float = 0
    moves: float = 0
    parameters: float = 0

    def plus(self, other: "Cost") -> "Cost":
        """Both together."""
        return Cost(self.macs + other.macs, self.moves + other.moves, self.parameters + other.parameters)

    def share(self, users: int) -> "Cost":
        """The part of one of several users."""
        return Cost(self.macs / users, self.moves / users, self.parameters / users)


FREE = Cost()


class Placement(NamedTuple):
    """How one axis is written as a convolution: zero taps put before and after the kernel, symmetric padding."""

    before: int
    after: int
    padding: int


def place(operator: Operator, source: Pair, out: Pair) -> tuple[Placement, Placement] | None:
    """The placements on both axes; None where the operator is no symmetrically padded convolution of these sizes."""
    axes = [_place_axis(operator, source, out, axis) for axis in (0, 1)]
    return (axes[0], axes[1]) if axes[0] is not None and axes[1] is not None else None


def _place_axis(operator: Operator, sources: Pair, outs: Pair, axis: int) -> Placement | None:
    taps, stride, dilation, offset = (
        getattr(operator, name)[axis] for name in ("kernel", "stride", "dilation", "offset")
    )
    least = max(0, -(offset // dilation))
    for extra in range(3):
        for before in range(least, least + extra + 1):
            after = least + extra - before
            padding = offset + before * dilation
            span = dilation * (taps + before + after - 1) + 1
            if (sources[axis] + 2 * padding - span) // stride + 1 == outs[axis]:
                return Placement(before, after, padding)
    return None


def form_cost(form: Form, layouts: Callable[[Node], Layout], out: Layout, positions: int) -> Cost | None:
    """What writing a form anew costs; None where it cannot be written.

    Args:
        form: What to compute.
        layouts: Layout of any node.
        out: Layout of the result.
        positions: Elements of the result for each channel.
    """
    elements = positions * out.channels
    written = elements + OPERATOR_MOVES
    total, has_weight = Cost(moves=written * (len(form.terms) - 1)), False
    if all(term.operator.unit < 0 for term in form.terms):
        total = total.plus(Cost(0, written))  # nothing to subtract from, so the first has to be negated
    for term in form.terms:
        operator = term.operator
        if operator.unit:
            continue
        if operator.diagonal:
            total = total.plus(Cost(0, written + out.channels, out.channels))
            continue
        weights = _written_weights(operator, layouts(term.source), out)
        if weights is None:
            return None
        has_weight = True
        total = total.plus(Cost(weights * positions, written + weights, weights))
    if form.shift is not None:
        total = total.plus(Cost(0, out.channels + (0 if has_weight else written), out.channels))
    return total


def _written_weights(operator: Operator, source: Layout, out: Layout) -> int | None:
    """Weights of the layer that an operator is written as; None where there is no such layer."""
    if out.axis == out.rank - 1:
        return operator.outputs * operator.inputs if operator.pointwise else None
    placed = place(operator, source.size, out.size) if (out.axis, out.rank) == (1, 4) else None
    if placed is None:
        return None
    taps = prod(k + p.before + p.after for k, p in zip(operator.kernel, placed, strict=True))
    return operator.outputs * (operator.inputs // operator.groups) * taps


def node_cost(node: Node, parameters: int) -> Cost:
    """What a node costs as it is."""
    value = node.meta["val"]
    elements = value.numel() if hasattr(value, "numel") else sum(part.numel() for part in value)
    return Cost(node_macs(node), elements + parameters + OPERATOR_MOVES, parameters)
