"""A program as a torch module of its own, for people who go on without edgekit.

The graph stays; what is made anew is everything around it:

    inputs       named, positional; the outputs are one tensor, or a tuple of several
    weights      copies, floating ones as parameters, under the paths of the modules they came from
    metadata     the module path of each node, and nothing that tells when or where the program was made
"""

import keyword
import re
from collections.abc import Collection, Sequence

import torch
from torch import Tensor, nn
from torch.fx import Graph, GraphModule, Node

from edgekit.program import Program, constants, placeholders

MODULE_TYPE = "torch.nn.modules.module.Module"
"""Stands for the class of every module in node metadata: the user's own could name files of one machine."""

_NUMBERED = re.compile(r"(?P<path>(?:.+\.)?(?:weight|bias|scale|shift))_\d+")
"""What passes call the constant that takes another's place while both are there."""

_PLAIN_PATH = re.compile(r"[\w.]*")
"""A module path that torch can write down and read back, which it does separated by commas and semicolons."""


def as_module(
    program: Program,
    names: Sequence[str] = (),
    *,
    class_name: str = "Program",
    trainable: bool = True,
    buffers: Collection[int] = (),
) -> GraphModule:
    """A module that computes what a program does and shares nothing with it.

    Args:
        program: What it computes.
        names: Names of its inputs, in order; those of the program where there are none.
        class_name: The name the module's class gets.
        trainable: Whether its parameters ask for gradients.
        buffers: Addresses (`data_ptr`) of constants that stay buffers; integer ones always do.
    """
    stored, places = _stored(program, trainable=trainable, buffers=buffers)
    graph, copies = Graph(), dict[Node, Node]()
    arguments = dict(zip(placeholders(program), identifiers(names), strict=False))
    for node in program.graph.nodes:
        if node.op == "output":
            continue
        if node in arguments:
            # Not a copy with another target: its code would be `x = y`, and overwrite an input that is called x.
            copies[node] = graph.placeholder(arguments[node])
            copies[node].meta = plain_metadata(node)
            continue
        copy = copies[node] = graph.node_copy(node, lambda used: copies[used])
        if node.op == "get_attr":
            copy.target = places[str(node.target)]
        copy.meta = plain_metadata(node)
    returned = program.graph.output_node().args[0]
    results = [copies[node] for node in (returned if isinstance(returned, (list, tuple)) else (returned,))]  # type: ignore[index]
    graph.output(results[0] if len(results) == 1 else tuple(results))
    return GraphModule(stored, graph, class_name=class_name).eval()


def identifiers(names: Sequence[str]) -> tuple[str, ...]:
    """Names as Python can have them for arguments, each once: `input.1` becomes `input_1`."""
    taken: list[str] = []
    for name in names:
        plain = re.sub(r"\W", "_", name, flags=re.ASCII)
        plain = plain if plain.isidentifier() and not keyword.iskeyword(plain) else f"input_{plain}"
        while plain in taken:
            plain += "_"
        taken.append(plain)
    return tuple(taken)


def plain_metadata(node: Node) -> dict[str, object]:
    """Of a node's metadata the paths of the modules around it, outermost first, as torch can store them."""
    stack = node.meta.get("nn_module_stack") or {}
    paths = dict.fromkeys(str(path) for path, _ in stack.values())
    kept = {path: (path, MODULE_TYPE) for path in paths if _PLAIN_PATH.fullmatch(path)}
    return {"nn_module_stack": kept} if kept else {}


def _stored(program: Program, *, trainable: bool, buffers: Collection[int]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Copies of a program's constants by their new names, and the new name of each constant; one tensor has one."""
    stored: dict[str, Tensor] = {}
    places: dict[str, str] = {}
    same: dict[object, str] = {}
    known = dict(constants(program))
    for name, value in known.items():
        identity = (value.data_ptr(), value.dtype, tuple(value.shape), value.stride()) if value.numel() else name
        if identity not in same:
            same[identity] = _plain_name(name, known.keys() | stored.keys())
            copy = value.detach().clone(memory_format=torch.contiguous_format)
            is_parameter = value.is_floating_point() and value.data_ptr() not in buffers
            stored[same[identity]] = nn.Parameter(copy, requires_grad=trainable) if is_parameter else copy
        places[name] = same[identity]
    return stored, places


def _plain_name(name: str, taken: Collection[str]) -> str:
    """A constant's name without the number a pass gave it, where that one is free: `conv.weight_1` -> `conv.weight`."""
    match = _NUMBERED.fullmatch(name)
    return match["path"] if match and match["path"] not in taken else name
