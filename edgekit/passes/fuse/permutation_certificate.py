"""The certificate of a permutation that was taken out: what moved maps, what is left, whose weights are in its order.

Nothing is computed, so nothing may differ. A value v is held as E(v) = v[:, order], and measured is

    at the permutation        what is left gives E(permuted), from held inputs
    on the way                op'(E(x)) = E'(op(x)) for each operator that an order reaches, alone

where op has the constants it had and op' those it has now. Operators that treat every channel alike are not measured.

Sums in another order round differently, which would hide a wrong weight behind a tolerance. So inputs are small whole
numbers, and the weights of layers are exchanged for whole numbers too, 16 bits made from those of each weight: such
sums are exact in any order up to 2^53, which takes 10^10 products, and a single weight in the wrong place changes them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor
from torch.fx import Node
from torch.fx.node import Argument

from edgekit.artifact import RegionCertificate
from edgekit.errors import ParityError
from edgekit.numerics import EQUAL_DB
from edgekit.passes.fuse.certificate import interpret, measure, source_line
from edgekit.passes.fuse.orders import LAYERS, PASSING, Order
from edgekit.passes.fuse.reader import SPLITS, Reader, shape_of
from edgekit.passes.fuse.shuffles import Shuffle
from edgekit.program import arguments, is_getitem, module_path, pair

LARGEST = 8
"""Inputs are whole numbers from 1 to this, with either sign."""


@dataclass(slots=True)
class Witness:
    """Measures the operators that the orders of one program reach. Made before constants are changed.

    Attributes:
        orders: How each node's value is held where not in its own order.
        ways: For each permutation, the operators that its order reaches before it ends or meets another permutation.
        given: What each operator on a way was given before.
        differences: What was measured, by operator.
        changed: The operators that have other constants now.
    """

    reader: Reader
    shuffles: Mapping[Node, Shuffle]
    orders: Mapping[Node, Order]
    ways: dict[Node, list[Node]] = field(init=False)
    given: dict[Node, tuple[Argument, Argument]] = field(init=False)
    differences: dict[Node, float] = field(init=False, default_factory=dict)
    changed: set[Node] = field(init=False, default_factory=set)

    def __post_init__(self) -> None:
        self.ways = {shuffle: _way(shuffle, self.orders, self.shuffles) for shuffle in self.shuffles}
        self.given = {node: (node.args, node.kwargs) for way in self.ways.values() for node in way}

    def observe(self) -> None:
        """Measures every operator, once the constants are changed and before any permutation is taken out."""
        self.changed = {node for node, given in self.given.items() if given != (node.args, node.kwargs)}
        self.differences = {node: self._difference(node) for node in self.given}

    def certify(self, found: Shuffle, now: Shuffle, new: Node) -> RegionCertificate:
        """The certificate of one permutation, while its operators and those that are left are both in the graph.

        Args:
            found: The permutation as it was found.
            now: The same, with inputs that are permutations themselves replaced by what they became.
            new: What gives its result now.

        Raises:
            ParityError: Something differs.
        """
        program, node = self.reader.program, found.node
        kept = _between(new, set(now.inputs))
        chain = [each for each in program.graph.nodes if each in found.inside or each is node]
        left = [each for each in program.graph.nodes if each in kept]
        self._refuse(node, node, self._moved(found, now, chain, left, new))
        for operator in self.ways[node]:
            self._refuse(node, operator, self.differences[operator])
        changed = [each for each in self.ways[node] if each in self.changed]
        after = measure(program, left)
        return RegionCertificate(
            rule="permutation",
            site=module_path(node) or node.name,
            source_line=source_line(node),
            decision=f"{len(after.operators)} operators move maps where {len(chain)} did",
            before=measure(program, chain),
            after=after,
            max_abs=0.0,
            snr_db=EQUAL_DB,
            bound=0.0,
            used=0.0,
            reordered=tuple(dict.fromkeys(module_path(each) or each.name for each in changed)),
        )

    def _refuse(self, shuffle: Node, where: Node, difference: float) -> None:
        if difference != 0.0:
            site, place = module_path(shuffle) or shuffle.name, module_path(where) or where.name
            raise ParityError(
                f"Taking out the permutation {site} ({source_line(shuffle)}) changes what {place} computes by "
                f"{difference:.3g}, where nothing may differ. Leave it out with --no-fuse '{site}', and please report "
                "it."
            )

    def _moved(self, found: Shuffle, now: Shuffle, chain: list[Node], left: list[Node], new: Node) -> float:
        """How far what is left is from the permutation's result, as that is held."""
        natural = {used: _whole_numbers(shape_of(used), seed) for seed, used in enumerate(dict.fromkeys(now.inputs))}
        pairs = zip(now.inputs, found.inputs, strict=True)
        held = {used: self._hold(natural[used], was) for used, was in pairs}
        program = self.reader.program
        expected, _ = interpret(program, chain, natural, found.node, _as_is)
        actual, _ = interpret(program, left, held, new, _as_is)
        return _apart(self._hold(expected, found.node), actual)

    def _difference(self, node: Node) -> float:
        """How far an operator on held inputs with new constants is from its old result, as that is held."""
        if node.target in SPLITS or node.target in PASSING:
            return 0.0  # the parts of a split are measured one by one
        first = node.args[0] if is_getitem(node) else node
        assert isinstance(first, Node), "only parts of splits are picked"  # noqa: S101
        sources = [used for used in first.all_input_nodes if self.reader.constant(used) is None]
        natural = {used: _whole_numbers(_probe_shape(first, used), seed) for seed, used in enumerate(sources)}
        held = {used: self._hold(value, used) for used, value in natural.items()}
        before, after = self.given.get(first, (first.args, first.kwargs)), (first.args, first.kwargs)
        constants = self._constants(first, (before, after))
        expected = _call(first, before, {**constants, **natural})
        actual = _call(first, after, {**constants, **held})
        if is_getitem(node):
            expected, actual = expected[node.args[1]], actual[node.args[1]]
        return _apart(self._hold(expected, node), actual)

    def _constants(self, node: Node, given: Argument) -> dict[Node, Tensor]:
        """The constants an operator was given before and is given now; whole numbers in their place for a layer."""
        names: list[Node] = []
        torch.fx.map_arg(given, names.append)
        found = {used: value for used in names if (value := self.reader.constant(used)) is not None}
        if node.target not in LAYERS:
            return {used: value.double() if value.is_floating_point() else value for used, value in found.items()}
        return {used: _numbered(value) for used, value in found.items()}

    def _hold(self, value: Tensor, node: Node) -> Tensor:
        order = self.orders.get(node)
        return value if order is None else value.index_select(1, order.index)


def _call(node: Node, given: tuple[Argument, Argument], known: Mapping[Node, Tensor]) -> Any:
    """Runs one operator on other arguments than its own."""
    args, kwargs = cast("tuple[Any, Any]", torch.fx.map_arg(given, lambda used: known[used]))
    return node.target(*args, **kwargs)  # type: ignore[operator]


def _way(shuffle: Node, orders: Mapping[Node, Order], shuffles: Mapping[Node, Shuffle]) -> list[Node]:
    """The operators that a permutation's order reaches before it ends or meets another permutation."""
    others = {node for each in shuffles.values() for node in (*each.inside, each.node)}
    seen: dict[Node, None] = {}
    pending = [shuffle] if shuffle in orders else []
    while pending:
        for user in pending.pop(0).users:
            if user not in seen and user not in others:
                seen[user] = None
                pending += [user] if user in orders else []
    return list(seen)


def _between(last: Node, inputs: set[Node]) -> set[Node]:
    """The nodes that compute one from others, constants among them."""
    seen: set[Node] = set()
    pending = [last]
    while pending:
        node = pending.pop()
        if node not in inputs and node not in seen:
            seen.add(node)
            pending += node.all_input_nodes
    return seen


def _whole_numbers(shape: tuple[int, ...], seed: int) -> Tensor:
    """Whole numbers but zero, the same every time."""
    generator = torch.Generator().manual_seed(seed)
    size = torch.randint(1, LARGEST + 1, shape, generator=generator)
    return (size * (torch.randint(0, 2, shape, generator=generator) * 2 - 1)).double()


def _numbered(weights: Tensor) -> Tensor:
    """A whole number below 2^16 for each weight, from its bits; equal ones for equal weights."""
    bits = weights.float().contiguous().view(torch.int32)
    return ((bits ^ (bits >> 16)) & 0xFFFF).double()


def _probe_shape(node: Node, source: Node) -> tuple[int, ...]:
    """The shape of a source for measuring one operator: a convolution needs no more than its kernel covers."""
    shape = shape_of(source)
    if node.target not in LAYERS or len(shape) != 4:
        return shape
    given = arguments(node)
    taps = shape_of(given["weight"])[2:]
    sides = [d * (k - 1) + 2 for d, k in zip(pair(given["dilation"]), taps, strict=True)]
    return (1, shape[1], *(min(own, side) for own, side in zip(shape[2:], sides, strict=True)))


def _apart(expected: Tensor, actual: Tensor) -> float:
    """Largest |difference|; infinity where one is NaN and the other is not, or their shapes differ."""
    if expected.shape != actual.shape:
        return torch.inf
    same = (expected == actual) | (expected.isnan() & actual.isnan())
    return float(torch.where(same, 0.0, (expected - actual).abs()).nan_to_num(nan=torch.inf).max())


def _as_is(value: Tensor) -> Tensor:
    return value
