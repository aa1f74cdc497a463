"""Finding maximal linear regions: for every linear node, the cheapest exact form and where it starts.

A linear node may take each operand as it is, a cut, or with the operand's own form chained in. All exact combinations
are costed, the few cheapest on each set of sources are kept as candidates for what follows, and what is needed
downstream decides:

    plan(v) = min over forms of v:  cost(form) + sum over cuts u of plan(u) / users(u)

A node with several users may be chained into some and cut by others. Then it is computed anyway, and counts nothing in
the next round; rounds end when no more such nodes appear.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from math import inf

import torch
from torch.fx import Node

from edgekit.passes.fuse.cost import FREE, Cost, form_cost, node_cost
from edgekit.passes.fuse.forms import Apply, Form, Stack, Step, Sum, Term, apply, leaf
from edgekit.passes.fuse.reader import SPLITS, NotLinearError, Reader
from edgekit.passes.fuse.steps import step_of
from edgekit.program import module_path

CANDIDATES = 6
"""Forms of one node that are remembered, each on another set of sources."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One way to compute a node.

    Attributes:
        form: What is computed; None where the node itself has to compute it.
        sources: The nodes it starts from.
        own: Cost of the form alone.
        upstream: Cost of those sources that are linear nodes too.
        absorbed: The nodes that are chained into the form.
        native: Whether the node is left as it is.
    """

    form: Form | None
    sources: tuple[Node, ...]
    own: Cost
    upstream: Cost
    absorbed: frozenset[Node] = frozenset()
    native: bool = False

    @property
    def total(self) -> Cost:
        """Cost of the form and everything before it."""
        return self.own.plus(self.upstream)

    @property
    def rank(self) -> tuple[Cost, bool, int]:
        """The cheapest comes first; where equal, what changes least."""
        return self.total, not self.native, len(self.absorbed)


@dataclass(slots=True)
class Planner:
    """Plans every linear node of a program."""

    reader: Reader
    steps: dict[Node, Step]
    plans: dict[Node, list[Plan]] = field(default_factory=dict)
    kept: set[Node] = field(default_factory=set)

    def solve(self) -> dict[Node, Plan]:
        """The plan of each linear node that has to be computed, in graph order."""
        while True:
            self.plans = {}
            for node in self.steps:
                self.plans[node] = self._candidates(node)
            needed = self._needed()
            chained = {node for plan in needed.values() for node in plan.absorbed}
            shared = {node for node in chained & needed.keys() if node not in self.kept}
            if not shared:
                return {node: needed[node] for node in self.steps if node in needed}
            self.kept |= shared

    def best(self, node: Node) -> Plan:
        """The cheapest plan of a linear node."""
        return self.plans[node][0]

    def consumers(self, node: Node) -> int:
        """How many nodes use a node's value, looking through splits."""
        return sum(len(user.users) if self._is_transparent(user) else 1 for user in node.users) or 1

    def _is_transparent(self, node: Node) -> bool:
        """Whether a node is a split whose parts are all read as rows of its operand."""
        return node.target in SPLITS and all(part in self.steps for part in node.users)

    def _needed(self) -> dict[Node, Plan]:
        pending = [
            node
            for node in self.steps
            if any(user not in self.steps and not self._is_transparent(user) for user in node.users)
        ]
        needed: dict[Node, Plan] = {}
        while pending:
            node = pending.pop()
            if node not in needed:
                needed[node] = self.best(node)
                pending += [source for source in needed[node].sources if source in self.steps]
        return needed

    def _candidates(self, node: Node) -> list[Plan]:
        # A batch norm holds four values for each channel; on its own it becomes one scale and one shift.
        plans = [] if node.target is torch.ops.aten.batch_norm.default else [self._native(node)]
        for chosen in self._combinations(node):
            plan = self._chain(node, chosen)
            if plan is not None:
                plans.append(plan)
        plans.sort(key=lambda plan: plan.rank)
        by_sources: dict[object, Plan] = {}
        for plan in plans:
            by_sources.setdefault(_signature(plan), plan)
        return list(by_sources.values())[:CANDIDATES]

    def _native(self, node: Node) -> Plan:
        step = self.steps[node]
        inputs = [self._leaf(operand) for operand in step.operands]
        forms = [plan.form for plan in inputs if plan.form is not None]
        form = apply(step, forms, self.reader.layout, self.reader.layout(node))
        upstream = FREE
        for plan in inputs:
            upstream = upstream.plus(plan.upstream)
        constants = [self.reader.constant(used) for used in node.all_input_nodes]
        parameters = sum(value.numel() for value in constants if value is not None)
        own = node_cost(node, parameters)
        factors_only = isinstance(step, Apply) and step.operator.diagonal
        return Plan(
            None if isinstance(form, str) else form,
            step.operands,
            own._replace(macs=0) if factors_only else own,
            upstream,
            native=True,
        )

    def _leaf(self, node: Node) -> Plan:
        form = leaf(node, self.reader.layout(node).channels)
        known = node in self.steps and node not in self.kept
        upstream = self.best(node).total.share(self.consumers(node)) if known else FREE
        return Plan(form, (node,), FREE, upstream)

    def _options(self, operand: Node) -> list[Plan]:
        """An operand as it is, and with each of its forms chained in."""
        chained = [
            replace(plan, absorbed=plan.absorbed | {operand})
            for plan in self.plans.get(operand, [])
            if plan.form is not None
        ]
        return [self._leaf(operand), *chained]

    def _combinations(self, node: Node) -> Iterator[Sequence[Plan]]:
        step = self.steps[node]
        options = [self._options(operand) for operand in step.operands]
        if not isinstance(step, Stack):
            yield from product(*options)
            return
        # A concatenation only has a form on one source, so nothing else is worth trying.
        for source in {plan.sources[0]: None for plan in options[0] if len(plan.sources) == 1}:
            matching = [[plan for plan in found if plan.sources == (source,)] for found in options]
            if all(matching):
                yield [found[0] for found in matching]

    def _chain(self, node: Node, chosen: Sequence[Plan]) -> Plan | None:
        forms = [plan.form for plan in chosen if plan.form is not None]
        form = apply(self.steps[node], forms, self.reader.layout, self.reader.layout(node))
        if isinstance(form, str):
            return None
        own = form_cost(form, self.reader.layout, self.reader.layout(node), self.reader.positions(node))
        upstream = FREE
        for plan in chosen:
            upstream = upstream.plus(plan.upstream)
        return Plan(
            form,
            tuple(dict.fromkeys(term.source for term in form.terms)),
            # A form that cannot be written may still be chained into one that can.
            own if own is not None else Cost(inf, inf, inf),
            upstream,
            frozenset().union(*(plan.absorbed for plan in chosen)),
        )


def _signature(plan: Plan) -> object:
    """What has to be equal for two plans to serve the same nodes downstream; only the cheaper one is remembered."""
    if plan.form is None:
        return "native"
    return tuple(sorted((term.source.name, term.operator.stride) for term in plan.form.terms))


def linear_steps(
    reader: Reader, allowed: Callable[[Node], bool], decline: Callable[[str, Node, str], None]
) -> dict[Node, Step]:
    """The linear nodes of a program that may be touched, in graph order, with what they compute."""
    steps: dict[Node, Step] = {}
    for node in reader.program.graph.nodes:
        if node.op != "call_function" or not allowed(node):
            continue
        try:
            step = step_of(reader, node)
        except NotLinearError as reason:
            decline("linear", node, str(reason))
            continue
        if step is not None:
            steps[node] = step
    return steps


def explain_cuts(planner: Planner, node: Node, plan: Plan) -> Iterator[str]:
    """Why a node's plan starts where it does, and why the branches of a sum in it stay apart."""
    for term in plan.form.terms if plan.form is not None else ():
        if term.source in planner.steps:
            yield from _why_cut(planner, node, term, plan)
    for inner in (*plan.absorbed, node):
        if isinstance(planner.steps[inner], Sum):
            yield from _unmerged(planner, inner)


def _why_cut(planner: Planner, node: Node, term: Term, plan: Plan) -> Iterator[str]:
    """Why a term does not reach through its source; nothing where that would save nothing."""
    reader, source = planner.reader, planner.best(term.source)
    if source.form is None:
        if isinstance(planner.steps[term.source], Stack) and not term.operator.unit:
            yield "parts of different sources are concatenated"
        return
    form = apply(Apply(term.source, term.operator), [source.form], reader.layout, reader.layout(node))
    if isinstance(form, str):
        yield form
        return
    merged = form_cost(form, reader.layout, reader.layout(node), reader.positions(node))
    before = plan.own.plus(source.own)
    if merged is None:
        yield "no symmetrically padded convolution computes both"
    elif merged.macs > before.macs:
        yield f"two cost less: one operator would take {merged.macs:,.0f} MACs instead of {before.macs:,.0f}"
    elif planner.consumers(term.source) > 1 and (merged.macs, merged.moves) < (before.macs, before.moves):
        others = [user for user in term.source.users if user.users and user not in {node, *plan.absorbed}]
        yield f"its value is also used by {', '.join(sorted({module_path(user) or user.name for user in others}))}"


def _unmerged(planner: Planner, node: Node) -> Iterator[str]:
    """Why the branches of a sum did not become one."""
    reader = planner.reader
    known = [planner.best(used).form if used in planner.steps else None for used in planner.steps[node].operands]
    forms = [
        form if form is not None else leaf(used, reader.layout(used).channels)
        for form, used in zip(known, planner.steps[node].operands, strict=True)
    ]
    full = apply(planner.steps[node], forms, reader.layout, reader.layout(node))
    terms = () if isinstance(full, str) else full.terms
    origins: dict[Node, list[int]] = {}
    for index, term in enumerate(terms):
        origins.setdefault(_before_padding(term.source), []).append(index)
    for indices in origins.values():
        members = [terms[index] for index in indices]
        if len({term.source for term in members}) > 1:
            yield "padding modes differ"
        elif len({term.operator.stride for term in members}) > 1:
            yield "strides differ"
        elif len(members) > 1:
            yield "two cost less: one kernel for both branches would take more MACs"


def _before_padding(source: Node) -> Node:
    """What a padding operator pads."""
    padded = str(source.target).startswith("aten.") and "pad" in str(source.target).split(".")[1].split("_")
    return source.all_input_nodes[0] if padded else source
