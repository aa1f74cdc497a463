"""Forms: what a node computes, as operators on other nodes plus one shift per channel.

    v = sum_k L_k(source_k) + b

A node that is linear has a `Step`, its operator on its direct operands. Steps are chained into forms; where that is not
exact, `apply` gives the reason instead of a form.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.fx import Node

from edgekit.passes.fuse import affine
from edgekit.passes.fuse.affine import Operator, Pair

Vector = Callable[[], Tensor]


@dataclass(frozen=True, slots=True)
class Term:
    """An operator on the value of one node."""

    source: Node
    operator: Operator


@dataclass(frozen=True, slots=True)
class Form:
    """A sum of terms and a shift, made as (O,) in float64; no shift is None."""

    terms: tuple[Term, ...]
    shift: Vector | None = None


@dataclass(frozen=True, slots=True)
class Apply:
    """One operand, one operator, one shift."""

    operand: Node
    operator: Operator
    shift: Vector | None = None

    @property
    def operands(self) -> tuple[Node, ...]:
        """The nodes read."""
        return (self.operand,)


@dataclass(frozen=True, slots=True)
class Sum:
    """Operands of one shape, each times a number, added."""

    operands: tuple[Node, ...]
    factors: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Stack:
    """Operands one after the other along the channels."""

    operands: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Rows:
    """Channels `start` to `stop` of one operand."""

    operand: Node
    start: int
    stop: int

    @property
    def operands(self) -> tuple[Node, ...]:
        """The nodes read."""
        return (self.operand,)


Step = Apply | Sum | Stack | Rows


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the channels of a node's value are, how many, and its height and width (1 where it is no map)."""

    axis: int
    rank: int
    channels: int
    size: Pair


def leaf(node: Node, channels: int) -> Form:
    """The form that takes a node's value as it is."""
    return Form((Term(node, affine.identity(channels)),))


def apply(step: Step, inputs: list[Form], layouts: Callable[[Node], Layout], out: Layout) -> Form | str:
    """The form of a step whose operands have the given forms; or why there is none."""
    match step:
        case Apply():
            return _through(step, inputs[0], layouts, out)
        case Sum():
            return _sum(step, inputs)
        case Stack():
            return _stack(inputs)
        case Rows():
            return _rows(step, inputs[0])


def _through(step: Apply, inner: Form, layouts: Callable[[Node], Layout], out: Layout) -> Form | str:
    middle = layouts(step.operand).size
    terms: list[Term] = []
    for term in inner.terms:
        sizes = (layouts(term.source).size, middle, out.size)
        reason = affine.inexact(step.operator, term.operator, sizes, shift=inner.shift is not None)
        if reason is not None:
            return reason
        terms = merged(terms, Term(term.source, affine.compose(step.operator, term.operator)))
    if inner.shift is None:
        return Form(tuple(terms), step.shift)
    before, after, operator = inner.shift, step.shift, step.operator

    def shift() -> Tensor:
        moved = affine.applied_to_constant(operator, before())
        return moved if after is None else moved + after()

    return Form(tuple(terms), shift)


def _sum(step: Sum, inputs: list[Form]) -> Form:
    terms: list[Term] = []
    for form, factor in zip(inputs, step.factors, strict=True):
        for term in form.terms:
            terms = merged(terms, replace(term, operator=affine.times(term.operator, factor)))
    shifts = [(form.shift, factor) for form, factor in zip(inputs, step.factors, strict=True) if form.shift is not None]
    if not shifts:
        return Form(tuple(terms))
    return Form(tuple(terms), lambda: torch.stack([shift() * factor for shift, factor in shifts]).sum(dim=0))


def _stack(inputs: list[Form]) -> Form | str:
    if any(len(form.terms) != 1 for form in inputs) or len({form.terms[0].source for form in inputs}) != 1:
        return "parts of different sources are concatenated"
    operator = affine.stack([form.terms[0].operator for form in inputs])
    if operator is None:
        return "kernel sizes, strides or padding differ"
    terms = (Term(inputs[0].terms[0].source, operator),)
    if all(form.shift is None for form in inputs):
        return Form(terms)
    return Form(terms, lambda: torch.cat([_vector(form) for form in inputs]))


def _vector(form: Form) -> Tensor:
    """A form's shift, zeros where it has none."""
    if form.shift is not None:
        return form.shift()
    return torch.zeros(form.terms[0].operator.outputs, dtype=torch.float64)


def _rows(step: Rows, inner: Form) -> Form | str:
    terms: list[Term] = []
    for term in inner.terms:
        part = affine.rows(term.operator, step.start, step.stop)
        if part is None:
            return "part of a grouped or per-channel operator reads part of its input"
        terms.append(Term(term.source, part))
    before = inner.shift
    return Form(tuple(terms), None if before is None else lambda: before()[step.start : step.stop])


def multiplications(operator: Operator) -> int:
    """MACs for each output pixel; factors of single channels count nothing."""
    return 0 if operator.diagonal else operator.elements


def merged(terms: list[Term], new: Term) -> list[Term]:
    """The terms with one more; it joins the first one on the same source that costs no more MACs with it than apart."""
    for index, term in enumerate(terms):
        if term.source is not new.source:
            continue
        joint = affine.add(term.operator, new.operator)
        apart = multiplications(term.operator) + multiplications(new.operator)
        if joint is not None and multiplications(joint) <= apart:
            # What was too dear to join one of the two may be cheap for both together.
            return merged([*terms[:index], *terms[index + 1 :]], Term(term.source, joint))
    return [*terms, new]
