"""Which nodes of a file each operator of a runtime's profile computes.

What runtimes tell differs, and so does how it is tied to the file:

| runtime | how |
|---|---|
| ONNX Runtime | by name; a convolution it rewrote is named after its result; others by the tensors they give |
| OpenVINO | it names the operations that went into a kernel |
| TFLite | its own kernels by their place in the file; XNNPACK's by their order, see `edgekit.bench.xnnpack` |
| MNN, ncnn, torch | by name |

A node that nothing claims was fused: it belongs to the operator that computes what reads it. An operator that claims
nothing changes the layout of a tensor in memory, or cannot be tied to the file.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from edgekit.bench.xnnpack import align
from edgekit.filegraph.base import FileGraph
from edgekit.runners.base import OperatorTime

_REWRITTEN = "_nchwc"
"""What ONNX Runtime appends to the name of a convolution's result for the name of its rewritten convolution."""


@dataclass(frozen=True, slots=True)
class Claim:
    """What an operator has to do with a file.

    Attributes:
        nodes: The nodes it computes, in the file's order.
        beside: Where it computes none, the node whose operand or result it moves in memory; None where that is unknown.
    """

    nodes: tuple[str, ...]
    beside: str | None = None


def claims(runtime: str, operators: Sequence[OperatorTime], graph: FileGraph) -> tuple[Claim, ...]:
    """The claim of each operator, in order; every node is claimed at most once."""
    found = _with_fused(CLAIMANTS[runtime](operators, graph), graph)
    return tuple(
        Claim(nodes) if nodes else Claim((), _beside(operator, operators, found, graph))
        for operator, nodes in zip(operators, found, strict=True)
    )


def _once(wanted: Sequence[Sequence[str]]) -> list[list[str]]:
    """Gives each node to the first operator that wants it."""
    taken: set[str] = set()
    given = []
    for names in wanted:
        given.append([name for name in dict.fromkeys(names) if name not in taken])
        taken.update(names)
    return given


def _by_origin(operators: Sequence[OperatorTime], graph: FileGraph) -> list[list[str]]:
    """By the names the runtime tells."""
    return _once([[name for name in operator.origins if name in graph.nodes] for operator in operators])


def _by_tensor(operators: Sequence[OperatorTime], graph: FileGraph) -> list[list[str]]:
    """By name, then by the result in the name, then by results whose own node nobody has claimed."""
    wanted = _by_origin(operators, graph)
    for operator, names in zip(operators, wanted, strict=True):
        result = operator.name.removesuffix(_REWRITTEN)
        if not names and result in graph.producers:
            names.append(graph.producers[result])
    taken = {name for names in wanted for name in names}
    for operator, names in zip(operators, wanted, strict=True):
        if not names:
            made = (graph.producers[result] for result in operator.results if result in graph.producers)
            names += [name for name in made if name not in taken]
    return _once(wanted)


def _by_order(operators: Sequence[OperatorTime], graph: FileGraph) -> list[list[str]]:
    """XNNPACK's kernels in the order of the nodes it was given, the others by their place."""
    wanted = _by_origin(operators, graph)
    own = {name for names in wanted for name in names}
    delegated = [number for number, operator in enumerate(operators) if not operator.origins]
    matched = align([operators[number].kind for number in delegated], graph, own)
    for number, name in zip(delegated, matched, strict=True):
        wanted[number] = [name] if name else []
    return _once(wanted)


CLAIMANTS: Mapping[str, Callable[[Sequence[OperatorTime], FileGraph], list[list[str]]]] = MappingProxyType(
    {
        "mnn": _by_origin,
        "ncnn": _by_origin,
        "onnxruntime": _by_tensor,
        "openvino": _by_origin,
        "tflite": _by_order,
        "torch": _by_origin,
    }
)
"""Runtime to how its operators are tied to nodes."""


def _with_fused(claimed: list[list[str]], graph: FileGraph) -> list[tuple[str, ...]]:
    """Adds the nodes nobody claimed to the operator that computes what reads them, or else what they read."""
    owner = {name: number for number, names in enumerate(claimed) for name in names}
    for node in reversed([*graph.nodes.values()]):
        readers = (name for result in node.results for name in graph.consumers.get(result, ()))
        found = owner.get(node.name, next((owner[name] for name in readers if name in owner), None))
        if found is not None:
            owner[node.name] = found
    for node in graph.nodes.values():
        givers = (graph.producers[tensor] for tensor in node.operands if tensor in graph.producers)
        found = owner.get(node.name, next((owner[name] for name in givers if name in owner), None))
        if found is not None:
            owner[node.name] = found
    nodes: list[list[str]] = [[] for _ in claimed]
    for name in graph.nodes:
        if name in owner:
            nodes[owner[name]].append(name)
    return [tuple(names) for names in nodes]


def _beside(
    operator: OperatorTime, operators: Sequence[OperatorTime], claimed: list[tuple[str, ...]], graph: FileGraph
) -> str | None:
    """The node whose tensor an operator without nodes moves."""
    tensors = (*operator.results, *operator.operands)
    known = next((graph.producers[tensor] for tensor in tensors if tensor in graph.producers), None)
    if known is not None:
        return known
    for other, nodes in zip(operators, claimed, strict=True):
        if nodes and ({*operator.operands} & {*other.results} or {*operator.results} & {*other.operands}):
            return nodes[-1]
    # OpenVINO names a change of layout after what it stands between.
    named = [name for name in graph.nodes if operator.name.endswith(name)]
    named = named or [name for name in graph.nodes if operator.name.startswith(name)]
    return max(named, key=len, default=None)
