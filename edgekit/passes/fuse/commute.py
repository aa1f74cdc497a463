"""Average pooling moves in front of pointwise layers, which then have fewer pixels to work on.

    avg_pool2d(conv1x1(x, w, b), k, s)   ->   conv1x1(avg_pool2d(x, k, s), w, b)        1 / s^2 of the MACs

A mean over pixels and a sum over channels commute, and the mean of a shift is the shift.

Rules:
1. The layers are 1x1 convolutions, batch norms, scales and shifts, and nothing else reads what is between them.
2. The pooling has a stride. Where it has padding no layer may shift: the mean of a shift and zeros is not the shift.
"""

from collections.abc import Callable

import torch
from torch.fx import Node

from edgekit.passes.base import Log
from edgekit.passes.fuse.affine import ONE, ZERO
from edgekit.passes.fuse.forms import Apply
from edgekit.passes.fuse.reader import NotLinearError, Reader
from edgekit.passes.fuse.steps import step_of
from edgekit.program import Program, module_path

_aten = torch.ops.aten

RULE = "pool first"


def pool_first(program: Program, allowed: Callable[[Node], bool], log: Log) -> None:
    """Moves every pooling with a stride in front of the pointwise layers it reads."""
    reader = Reader(program)
    for pool in program.graph.find_nodes(op="call_function", target=_aten.avg_pool2d.default):
        chain = _pointwise_before(reader, pool, allowed, log) if allowed(pool) else []
        if chain:
            _swap(program, pool, chain)
            reader = Reader(program)  # which knows the nodes just written
            log.fired[RULE] += 1


def _step(reader: Reader, node: Node) -> Apply | None:
    """A node as one operator on one operand."""
    try:
        step = step_of(reader, node)
    except NotLinearError:  # the search for regions will tell the reason
        return None
    return step if isinstance(step, Apply) else None


def _pointwise_before(reader: Reader, pool: Node, allowed: Callable[[Node], bool], log: Log) -> list[tuple[Node, Node]]:
    """The layers a pooling may pass, the last one first, each with its operand."""
    pooling, chain = _step(reader, pool), []
    if pooling is None or pooling.operator.stride == ONE:
        return []
    node = pooling.operand
    while len(node.users) == 1 and allowed(node):
        step = _step(reader, node)
        if step is None or not step.operator.pointwise or step.operator.unit:
            break
        if step.shift is not None and pooling.operator.offset != ZERO:
            log.decline(RULE, module_path(pool), "average pooling with padding after a shift: not exact at the border")
            break
        chain.append((node, step.operand))
        node = step.operand
    return chain


def _swap(program: Program, pool: Node, chain: list[tuple[Node, Node]]) -> None:
    """Writes the pooling first and the layers behind it."""
    source = current = chain[-1][1]
    first = pool.args[0]
    assert isinstance(first, Node), "a pooling reads a node"  # noqa: S101
    for node, operand in [(pool, first), *reversed(chain)]:
        replaced = {operand: current}
        args, kwargs = torch.fx.map_arg((node.args, node.kwargs), lambda used, by=replaced: by.get(used, used))  # type: ignore[misc]
        with program.graph.inserting_before(pool):
            current = program.graph.call_function(node.target, args, kwargs)  # type: ignore[arg-type]
        channels = (source if node is pool else node).meta["val"].shape[1]
        shape = (pool.meta["val"].shape[0], channels, *pool.meta["val"].shape[2:])
        current.meta = {**node.meta, "val": pool.meta["val"].new_empty(shape)}
    pool.replace_all_uses_with(current)
    # Left in the graph they would still count as users of the weights.
    for node in (pool, *(node for node, _ in chain)):
        program.graph.erase_node(node)
