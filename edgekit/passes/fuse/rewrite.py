"""Carrying out the plans: every region is written, certified, and only then put in the old one's place."""

from collections.abc import Callable
from dataclasses import dataclass, field

from torch.fx import Node

from edgekit.artifact import RegionCertificate
from edgekit.passes.base import Log
from edgekit.passes.fuse.certificate import Region, certify
from edgekit.passes.fuse.cost import Cost
from edgekit.passes.fuse.emit import Writer
from edgekit.passes.fuse.forms import Apply, Form
from edgekit.passes.fuse.probes import shapes
from edgekit.passes.fuse.reader import SPLITS, Reader
from edgekit.passes.fuse.regions import Plan, Planner, explain_cuts, linear_steps
from edgekit.program import Program, module_path

Certify = Callable[[Program, Region], RegionCertificate]


@dataclass(slots=True)
class Rewriter:
    """Rewrites the regions of one program."""

    program: Program
    planner: Planner
    log: Log
    certify: Certify = certify
    replaced: dict[Node, Node] = field(default_factory=dict)
    absorbed: set[Node] = field(default_factory=set)
    order: dict[Node, int] = field(init=False)

    def __post_init__(self) -> None:
        self.order = {node: index for index, node in enumerate(self.program.graph.nodes)}

    def run(self) -> list[RegionCertificate]:
        """Rewrites every region that a cheaper form was found for."""
        certificates, told = [], set()
        for node, plan in self.planner.solve().items():
            for reason in explain_cuts(self.planner, node, plan):
                if (module_path(node), reason) not in told:
                    told.add((module_path(node), reason))
                    self.log.decline("compose", module_path(node) or node.name, reason)
            if not plan.native:
                certificates.append(self._rewrite(node, plan))
        for old, new in self.replaced.items():
            old.replace_all_uses_with(new)
        # Dead code elimination keeps what could be random, and a dropout is.
        for old in sorted(self.absorbed, key=lambda node: -self.order[node]):
            if not old.users:
                self.program.graph.erase_node(old)
        return certificates

    def _rewrite(self, node: Node, plan: Plan) -> RegionCertificate:
        assert plan.form is not None, "only native plans have no form"  # noqa: S101
        writer = Writer(self.planner.reader, node, lambda source: self.replaced.get(source, source))
        new = writer.write(plan.form)
        self.replaced[node] = new
        before = self._with_splits([*plan.absorbed, node])
        self.absorbed.update(before)
        region = self._region(node, new, plan, plan.form, before, tuple(writer.written))
        self.log.fired[region.rule] += 1
        return self.certify(self.program, region)

    def _with_splits(self, nodes: list[Node]) -> tuple[Node, ...]:
        """The nodes with the splits whose parts are among them, in order."""
        splits = {node.args[0] for node in nodes if isinstance(node.args[0], Node) and node.args[0].target in SPLITS}
        return tuple(sorted({*nodes, *splits}, key=lambda node: self.order[node]))

    def _region(
        self, node: Node, new: Node, plan: Plan, form: Form, before: tuple[Node, ...], after: tuple[Node, ...]
    ) -> Region:
        layout = self.planner.reader.layout(node)
        steps = [self.planner.steps[inner] for inner in (*plan.absorbed, node)]
        inner = [step.operator for step in steps if isinstance(step, Apply)]
        return Region(
            rule=rule_name(form, layout.axis == layout.rank - 1),
            decision=decision(plan.own, before, after),
            old=node,
            new=new,
            before=before,
            after=after,
            sources={source: self.replaced.get(source, source) for source in plan.sources},
            shapes=shapes(form, inner, layout.axis),
            taps=sum(term.operator.elements // term.operator.outputs + 1 for term in form.terms),
            channel_axis=layout.axis,
        )


def rule_name(form: Form, channels_last: bool) -> str:
    """What a form becomes."""
    operator, *others = (term.operator for term in form.terms)
    if others:
        return "sum"
    if operator.diagonal:
        return "identity" if operator.unit == 1 and form.shift is None else "affine"
    return "linear" if channels_last else "convolution"


def decision(own: Cost, before: tuple[Node, ...], after: tuple[Node, ...]) -> str:
    """Why a form was written, in one line."""
    count = sum(node.op == "call_function" for node in after)
    return f"{count} operators and {own.macs:,.0f} MACs compute what {len(before)} operators did"


def fuse_regions(program: Program, allowed: Callable[[Node], bool], log: Log) -> list[RegionCertificate]:
    """Plans and rewrites all regions of a program in place."""
    reader = Reader(program)

    def decline(rule: str, node: Node, reason: str) -> None:
        log.decline(rule, module_path(node) or node.name, reason)

    planner = Planner(reader, linear_steps(reader, allowed, decline))
    return Rewriter(program, planner, log).run()
