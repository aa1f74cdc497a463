"""Cutting a program into parts that may run at the same time: the branches of a network, and what is around them.

A pattern of module paths such as `streams.*` names the branches. Let B(n) be the branches from which node n can be
reached, and F(n) those that can be reached from it. Along an edge B only grows and F only shrinks, so nodes with equal
(B, F) are connected through such nodes alone, and a part for each (B, F) never waits for itself:

    inputs --> stem, F = {0, 1, 2} --> branch 0 ----------------------> merge, B = {0, 1} --> merge, B = {0, 1, 2}
                   |--> stem, F = {1, 2} --> branch 1 -------------------^                        ^
                            |--> branch 2 --------------------------------------------------------|

What only one branch needs, or only needs one branch, becomes part of it. Parts are programs of their own, which share
the constants; the composition of all is proved to be the whole.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from graphlib import CycleError, TopologicalSorter

import torch
from torch import Tensor
from torch.fx import Graph, GraphModule, Node

from edgekit.artifact import Parity, PartitionCertificate, PartRow
from edgekit.errors import MisuseError, ParityError
from edgekit.numerics import compare_one, worst
from edgekit.passes.base import Probes
from edgekit.program import Program, drop_unused_constants, is_getitem, module_path, operators, placeholders, stats
from edgekit.reference import Function, program_in_float64

EXACT_DB = 250.0
"""Parts compute what the whole does, in the same order; in float64 nothing but the order of a sum may differ."""

_Signature = tuple[frozenset[str], frozenset[str]]


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a program.

    Attributes:
        name: `stem`, the path of a branch's module, or `merge`, with a number where there are several.
        program: What it computes, from `inputs` to `outputs`, in order.
        inputs: Names of the values it takes: inputs of the whole, or outputs of other parts.
        outputs: Names of the values that others, or the user of the whole, take from it.
    """

    name: str
    program: Program
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Partition:
    """Parts in an order in which they can run one after another, and the values the whole takes and gives."""

    parts: tuple[Part, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def partition(program: Program, pattern: str) -> Partition:
    """Cuts a program at its branches; the program stays as it is.

    Args:
        program: What is cut.
        pattern: Path of a branch's module, with `*` for what tells branches apart, such as `streams.*`.

    Raises:
        MisuseError: There are not two branches or more, or they cannot be told apart.
    """
    branches = {node: _branch(module_path(node), pattern) for node in operators(program)}
    names = dict.fromkeys(name for name in branches.values() if name)
    if len(names) < 2:
        found = f"only {next(iter(names))}" if names else "none"
        raise MisuseError(f"{pattern!r} must name two branches or more to cut at, and names {found}.")
    assigned = _assigned(program, branches)
    order = _in_order(assigned, pattern)
    groups = {name: [node for node in assigned if assigned[node] == name] for name in order}
    returned = results(program)
    return Partition(
        parts=tuple(_part(program, name, nodes, assigned, returned) for name, nodes in groups.items()),
        inputs=tuple(node.name for node in placeholders(program)),
        outputs=tuple(node.name for node in returned),
    )


def _branch(path: str, pattern: str) -> str | None:
    """The branch a module belongs to: as much of its path as the pattern describes."""
    parts, wanted = path.split("."), pattern.split(".")
    head = parts[: len(wanted)]
    matches = len(head) == len(wanted) and all(map(fnmatchcase, head, wanted))
    return ".".join(head) if matches else None


def _assigned(program: Program, branches: Mapping[Node, str | None]) -> dict[Node, str]:
    """The part of every node that computes something, in the program's order."""
    nodes = [node for node in program.graph.nodes if node.op == "call_function"]
    before = _reaching(nodes, branches, forward=True)
    after = _reaching(nodes, branches, forward=False)
    assigned: dict[Node, str] = {}
    names: dict[_Signature, str] = {}
    for node in nodes:
        if is_getitem(node):
            assigned[node] = assigned[node.all_input_nodes[0]]
            continue
        around = before[node] | after[node]
        own = branches.get(node) or (next(iter(around)) if len(around) == 1 else None)
        assigned[node] = own or names.setdefault((before[node], after[node]), _name(before[node], names))
    return assigned


def _reaching(
    nodes: Sequence[Node], branches: Mapping[Node, str | None], *, forward: bool
) -> dict[Node, frozenset[str]]:
    """The branches from which each node can be reached, or else those that can be reached from it."""
    found: dict[Node, frozenset[str]] = {}
    for node in nodes if forward else reversed(nodes):
        neighbours = node.all_input_nodes if forward else node.users
        near = [other for other in neighbours if other in found]
        own = {branches[other] for other in near if branches.get(other)}
        found[node] = frozenset(name for name in own if name).union(*(found[other] for other in near))
    return found


def _name(before: frozenset[str], taken: Mapping[_Signature, str]) -> str:
    """A name for what is in no branch."""
    kind = "merge" if before else "stem"
    number = sum(name.startswith(kind) for name in taken.values())
    return f"{kind}.{number}" if number else kind


def _in_order(assigned: Mapping[Node, str], pattern: str) -> list[str]:
    """The parts, those first on which others wait.

    Raises:
        MisuseError: Parts wait for each other.
    """
    waits: dict[str, dict[str, None]] = {name: {} for name in assigned.values()}  # sets have no order to rely on
    for node, name in assigned.items():
        waits[name] |= {assigned[used]: None for used in node.all_input_nodes if assigned.get(used, name) != name}
    try:
        return list(TopologicalSorter(waits).static_order())
    except CycleError as error:
        raise MisuseError(
            f"What {pattern!r} names are no branches that could run apart: {' and '.join(sorted(set(error.args[1])))} "
            "wait for each other."
        ) from error


def results(program: Program) -> list[Node]:
    """The nodes whose values a program gives back."""
    returned = program.graph.output_node().args[0]
    return [
        node for node in (returned if isinstance(returned, (list, tuple)) else (returned,)) if isinstance(node, Node)
    ]


def _part(
    program: Program, name: str, nodes: Sequence[Node], assigned: Mapping[Node, str], returned: Sequence[Node]
) -> Part:
    """The nodes of one part as a program."""
    used = dict.fromkeys(source for node in nodes for source in node.all_input_nodes if assigned.get(source) != name)
    inputs = [source for source in used if source.op != "get_attr"]
    outputs = [
        node for node in nodes if node in returned or any(assigned.get(user, name) != name for user in node.users)
    ]
    graph, copies = Graph(), dict[Node, Node]()
    for source in inputs:
        copies[source] = graph.placeholder(source.name)
        copies[source].meta = dict(source.meta)
    for node in (*(source for source in used if source.op == "get_attr"), *nodes):
        copies[node] = graph.node_copy(node, lambda source: copies[source])
    given = [copies[node] for node in outputs]
    graph.output(given[0] if len(given) == 1 else tuple(given))
    made = GraphModule(program, graph, class_name="Program")
    drop_unused_constants(made)
    made.recompile()
    return Part(name, made, tuple(node.name for node in inputs), tuple(node.name for node in outputs))


def compose(cut: Partition, functions: Mapping[str, Function]) -> Function:
    """All parts, each as a function by its name, one after another."""

    def forward(*inputs: Tensor) -> tuple[Tensor, ...]:
        values = dict(zip(cut.inputs, inputs, strict=True))
        for part in cut.parts:
            returned = functions[part.name](*(values[name] for name in part.inputs))
            values |= dict(zip(part.outputs, returned, strict=True))
        return tuple(values[name] for name in cut.outputs)

    return forward


def certify(program: Program, cut: Partition, pattern: str, probes: Probes) -> PartitionCertificate:
    """Proves in float64 that the parts together are the program.

    Raises:
        ParityError: They are not.
    """
    whole = program_in_float64(program)
    together = compose(cut, {part.name: program_in_float64(part.program) for part in cut.parts})
    parities: list[Parity] = []
    for probe in probes:
        double = tuple(tensor.double() for tensor in probe)
        parities += map(compare_one, whole(*double), together(*double))
    parity = worst(parities)
    if parity.snr_db < EXACT_DB or parity.nonfinite:
        raise ParityError(
            f"Cut at {pattern!r}, the parts are not the network: {parity.snr_db:.1f} dB, {EXACT_DB:.0f} required. This "
            "is a defect of edgekit, please report it."
        )
    return PartitionCertificate(pattern=pattern, parts=tuple(map(_row, cut.parts)), parity=parity, gate_db=EXACT_DB)


def _row(part: Part) -> PartRow:
    returned = results(part.program)
    return PartRow(
        name=part.name,
        size=stats(part.program),
        inputs=part.inputs,
        outputs=part.outputs,
        input_bytes=sum(map(_bytes, placeholders(part.program))),
        output_bytes=sum(map(_bytes, returned)),
    )


def _bytes(node: Node) -> int:
    """Size of a node's value."""
    value: torch.Tensor = node.meta["val"]
    return value.numel() * value.element_size()
