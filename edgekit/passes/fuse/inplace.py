"""In-place operators become their functional twins, so that a node's value is one value.

    a = conv(x); b = a.add_(y); c = relu(a)   ->   a = conv(x); b = add(a, y); c = relu(b)

Rules:
1. Whoever reads the written tensor afterwards reads the result.
2. A tensor that shares its memory with another one that is read afterwards is left alone, and so is a constant.
"""

from collections.abc import Iterator

import torch
from torch._ops import OpOverload
from torch.fx import Node

from edgekit.passes.base import Log
from edgekit.program import Program, module_path

RULE = "in-place"


def make_functional(program: Program, log: Log) -> None:
    """Replaces every in-place operator whose target has no other name."""
    order = {node: index for index, node in enumerate(program.graph.nodes)}
    for node in list(program.graph.nodes):
        twin = _functional_twin(node)
        if twin is None:
            continue
        written = node.args[0]
        assert isinstance(written, Node), "in-place operators write their first argument"  # noqa: S101
        if written.op == "get_attr":
            log.decline(RULE, module_path(node), "a constant is written")
            continue
        if any(order[user] > order[node] for alias in _aliases(written) for user in alias.users):
            log.decline(RULE, module_path(node), "the tensor written is read under another name")
            continue
        for user in [user for user in written.users if order.get(user, -1) > order[node]]:
            user.replace_input_with(written, node)
        node.target = twin
        log.fired[RULE] += 1


def relax_views(program: Program) -> None:
    """`view` needs a tensor laid out in memory as it was captured, which a rewrite may change; `reshape` takes any."""
    for node in program.graph.find_nodes(op="call_function", target=torch.ops.aten.view.default):
        node.target = torch.ops.aten.reshape.default


def _functional_twin(node: Node) -> OpOverload | None:
    """`relu` for `relu_`, None for what is not in place."""
    target = node.target
    if not isinstance(target, OpOverload) or not target._schema.is_mutable:  # noqa: SLF001
        return None
    packet, overload = str(target).removeprefix("aten.").split(".")
    twin = getattr(torch.ops.aten, packet.removesuffix("_"), None) if packet.endswith("_") else None
    found = getattr(twin, overload, None)
    return found if isinstance(found, OpOverload) else None


def _aliases(node: Node) -> Iterator[Node]:
    """Other nodes whose value may lie in the same memory: what this one views, and the views of it and of those."""
    seen, pending = {node}, [node]
    while pending:
        current = pending.pop()
        family = [user for user in current.users if _is_view(user)]
        if _is_view(current):
            family.append(current.all_input_nodes[0])
        for other in family:
            if other not in seen:
                seen.add(other)
                pending.append(other)
                yield other


def _is_view(node: Node) -> bool:
    """Whether a node's value may share the memory of its first input."""
    if isinstance(node.target, OpOverload):
        infos = [argument.alias_info for argument in node.target._schema.arguments]  # noqa: SLF001
        return bool(node.all_input_nodes) and any(info is not None and not info.is_write for info in infos)
    return getattr(node.target, "__name__", "") == "getitem"
