"""How much memory a network needs at least, told before it is missing.

Where memory is overcommitted, as on Linux, a process that needs too much is not refused but killed.
"""

import psutil
import torch
from torch.fx import Node

from edgekit.errors import EnvironmentProblemError
from edgekit.program import Program, constants

FLOAT64_BYTES = 8


def check_memory(program: Program) -> None:
    """Refuses a network whose float64 run cannot fit.

    Raises:
        EnvironmentProblemError: It needs more memory than is free.
    """
    needed, free = peak_bytes(program), psutil.virtual_memory().available
    if needed > free:
        raise EnvironmentProblemError(
            f"Running this network in float64, to compare with, takes at least {needed / 2**30:.1f} GiB of memory; "
            f"{free / 2**30:.1f} GiB are free. Choose a smaller size with --input, or a machine with more memory."
        )


def peak_bytes(program: Program) -> int:
    """Float64 bytes of all constants, and of the values alive at once where these are most."""
    owners: dict[Node, Node] = {}
    last_reader: dict[Node, Node] = {}
    for node in program.graph.nodes:
        sources = node.all_input_nodes
        owners[node] = owners[sources[0]] if is_view(node) and sources else node
        last_reader.update((owners[used], node) for used in sources)
    dying: dict[Node, list[Node]] = {}
    for value, reader in last_reader.items():
        dying.setdefault(reader, []).append(value)
    alive = peak = 0
    for node in program.graph.nodes:
        alive += elements(node)
        peak = max(peak, alive)
        alive -= sum(map(elements, dying.get(node, ())))
    return FLOAT64_BYTES * (peak + sum(value.numel() for _, value in constants(program)))


def elements(node: Node) -> int:
    """How many numbers a node stores; views store none, and constants are counted apart."""
    if node.op in {"get_attr", "output"} or is_view(node):
        return 0
    value = node.meta.get("val")
    values = value if isinstance(value, (tuple, list)) else (value,)
    tensors = [each for each in values if isinstance(each, torch.Tensor)]
    return sum(tensor.numel() for tensor in tensors)


def is_view(node: Node) -> bool:
    """Whether a node gives another look at its argument's memory."""
    target = node.target
    if not isinstance(target, torch._ops.OpOverload):  # noqa: SLF001 - torch has no public name for it
        return node.op == "call_function"  # picking an element of a tuple
    return any(returned.alias_info is not None for returned in target._schema.returns)  # noqa: SLF001
