"""The program: the ATen-level `torch.fx.GraphModule` at one fixed input shape that every stage works on.

Constants (parameters, buffers, folded values) are `get_attr` nodes named by their module path. Nodes carry
`meta["val"]`, a fake tensor with shape and dtype, and the module path and source line they were captured from.
"""

import copy
import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx import Graph, GraphModule, Node
from torch.fx.passes.fake_tensor_prop import FakeTensorProp

from edgekit.artifact import GraphStats, Shape
from edgekit.errors import ModelError
from edgekit.macs import node_macs

Program = GraphModule

TAKEN_NAMES = frozenset({"meta", "graph", "code"})
"""Names that a graph module has for itself, beside those of its class; no module of a network can have them."""


def clone(program: Program) -> Program:
    """A copy with its own graph that shares the constants; safe because passes replace constants, never write them."""
    graph = Graph()
    copied = graph.graph_copy(program.graph, {}, return_output_node=True)
    value, _ = cast("tuple[Node, Node]", copied)
    graph.output(value)
    graph.set_codegen(copy.copy(program.graph._codegen))  # noqa: SLF001 - holds the calling convention
    return GraphModule(program, graph, class_name="Program")


def finish(program: Program) -> Program:
    """Cleans up after a rewrite: dead nodes and unused constants go, and the graph is checked.

    Shapes are inferred anew when a rewrite left a node without `meta["val"]`; one that puts a node in another's place
    hands the shape on, which saves a walk over the whole network.
    """
    program.graph.eliminate_dead_code()
    drop_unused_constants(program)
    program.graph.lint()
    program.recompile()
    if any("val" not in node.meta for node in program.graph.nodes if node.op == "call_function"):
        infer_shapes(program)
    return program


def infer_shapes(program: Program) -> None:
    """Writes `meta["val"]` of every node from the shapes of the inputs; nothing is computed."""
    inputs = [torch.zeros(input_shape(node), dtype=node.meta["val"].dtype) for node in placeholders(program)]
    FakeTensorProp(program, FakeTensorMode(allow_non_fake_inputs=True)).propagate(*inputs)


def placeholders(program: Program) -> list[Node]:
    """The input nodes, in order."""
    return [node for node in program.graph.nodes if node.op == "placeholder"]


def input_shape(node: Node) -> Shape:
    """The fixed shape of an input node."""
    return tuple(int(side) for side in node.meta["val"].shape)


def operators(program: Program) -> list[Node]:
    """Every node that computes something, in order; picking an element of a tuple does not count."""
    return [node for node in program.graph.nodes if node.op == "call_function" and not is_getitem(node)]


def is_getitem(node: Node) -> bool:
    """Whether a node only picks one element of a tuple."""
    return getattr(node.target, "__name__", "") == "getitem"


def operator_name(node: Node) -> str:
    """Short ATen name, such as `conv2d`."""
    target = node.target
    return target._schema.name.removeprefix("aten::") if isinstance(target, torch._ops.OpOverload) else str(target)  # noqa: SLF001


def arguments(node: Node) -> dict[str, Any]:
    """An ATen node's arguments by the names of its schema, defaults filled in."""
    schema = cast("torch._ops.OpOverload", node.target)._schema  # noqa: SLF001 - where ATen keeps its signatures
    given = dict(zip((argument.name for argument in schema.arguments), node.args, strict=False)) | node.kwargs
    defaults = {argument.name: argument.default_value for argument in schema.arguments}
    return {**defaults, **given}


def pair(value: Sequence[int] | int) -> tuple[int, int]:
    """A two-sided argument of a convolution, which may have been given once for both sides."""
    return (value, value) if isinstance(value, int) else (value[0], value[-1])


def is_depthwise(convolution: Node, weight: Tensor) -> bool:
    """Whether a `conv2d` of (N, C, H, W), C > 1, has one kernel for each channel."""
    given = arguments(convolution)
    sides = given["input"].meta["val"].shape
    return len(sides) == 4 and bool(given["groups"] == sides[1] == weight.shape[0] > 1)


def operator_counts(program: Program) -> Counter[str]:
    """How often each operator occurs."""
    return Counter(operator_name(node) for node in operators(program))


def constant(program: Program, node: object) -> Tensor | None:
    """The tensor behind a constant node, or None when the node is not a constant."""
    if not isinstance(node, Node) or node.op != "get_attr":
        return None
    value: object = program
    for part in str(node.target).split("."):
        value = getattr(value, part)
    return value if isinstance(value, Tensor) else None


def constant_names(program: Program) -> list[str]:
    """Names of the constants the graph uses, once each, in order of first use."""
    return list(dict.fromkeys(str(node.target) for node in program.graph.nodes if node.op == "get_attr"))


def constants(program: Program) -> Iterator[tuple[str, Tensor]]:
    """Name and tensor of each constant the graph uses."""
    # A tensor may be registered under several names, and any of them may be the one the graph reads.
    named = {
        **dict(program.named_parameters(remove_duplicate=False)),
        **dict(program.named_buffers(remove_duplicate=False)),
    }
    for name in constant_names(program):
        yield name, named[name]


def set_constant(program: Program, name: str, value: Tensor) -> str:
    """Stores a constant under a module path and returns the name it got.

    The tensors are shared with the programs this one was cloned from, so a name that is taken gets a number instead
    of being overwritten.
    """
    *path, leaf = name.split(".")
    owner: nn.Module = program
    for part in path:
        if not hasattr(owner, part):
            owner.add_module(part, nn.Module())
        owner = getattr(owner, part)
    chosen, number = leaf, 0
    while hasattr(owner, chosen):
        number += 1
        chosen = f"{leaf}_{number}"
    owner.register_buffer(chosen, value.detach().contiguous())
    return ".".join([*path, chosen])


def insert_like(program: Program, node: Node, target: torch._ops.OpOverload, *operands: Node | float) -> Node:
    """A call whose result has the shape and the origin of another node's, where the graph inserts now."""
    made = program.graph.call_function(target, operands)
    made.meta = dict(node.meta)
    return made


def insert_constant(program: Program, before: Node, name: str, value: Tensor) -> Node:
    """Stores a constant and puts the node that reads it before another node."""
    stored = set_constant(program, name, value)
    with program.graph.inserting_before(before):
        node = program.graph.get_attr(stored)
    node.meta["val"] = value
    return node


def drop_unused_constants(program: Program) -> None:
    """Rebuilds the module tree so that it holds only the constants the graph reads."""
    kept = list(constants(program))
    for store in (program._modules, program._parameters, program._buffers):  # noqa: SLF001 - drops all kinds alike
        store.clear()
    stored = {name: set_constant(program, name, value) for name, value in kept}
    for node in program.graph.nodes:
        if node.op == "get_attr":
            node.target = stored[str(node.target)]


_CONTEXTS = ("wrap_with_autocast", "wrap_with_set_grad_enabled")
"""What torch.export makes of `with torch.autocast(...)` and `with torch.no_grad()`: a call of a graph of its own."""


def inline_contexts(program: Program) -> None:
    """Puts the operators of contexts that change no number among the others.

    Raises:
        ModelError: A context lets torch compute in another precision.
    """
    for node in list(program.graph.nodes):
        name = getattr(node.target, "__name__", "")
        if name not in _CONTEXTS:
            continue
        # (device, dtype, enabled, cached, graph, operands...) or (enabled, graph, operands...)
        before = 4 if name == "wrap_with_autocast" else 1
        options, body, operands = node.args[:before], node.args[before], node.args[before + 1 :]
        if before == 4 and options[2]:
            raise ModelError(
                f"The model computes in {options[1]} under torch.autocast, and edgekit exports float32. "
                "Take the context out of forward."
            )
        inner = cast("GraphModule", program.get_submodule(str(body.target))).graph
        copied = dict(zip(inner.find_nodes(op="placeholder"), operands, strict=True))
        with program.graph.inserting_before(node):
            results = cast("Sequence[Node]", program.graph.graph_copy(inner, copied))
        for element in list(node.users):
            element.replace_all_uses_with(results[element.args[1]])
            program.graph.erase_node(element)
        program.graph.erase_node(node)


def run(program: Program, *inputs: Tensor) -> tuple[Tensor, ...]:
    """Runs a program; one tensor comes back as a tuple of one."""
    with torch.no_grad():
        return as_tuple(program(*inputs))


def as_tuple(returned: Tensor | Sequence[Tensor]) -> tuple[Tensor, ...]:
    """What a network returns, as a tuple."""
    return (returned,) if isinstance(returned, Tensor) else tuple(returned)


def in_float64(program: Program) -> Program:
    """The same program with every floating constant and every floating dtype argument in double precision."""
    doubled = clone(program)
    for name, value in constants(program):
        if value.is_floating_point():
            path, _, leaf = name.rpartition(".")
            owner = doubled.get_submodule(path)
            delattr(owner, leaf)  # which is the program's own tensor
            owner.register_buffer(leaf, value.detach().double())
    for node in doubled.graph.nodes:
        if node.kwargs.get("dtype") is torch.float32:
            node.kwargs = {**node.kwargs, "dtype": torch.float64}
        if torch.float32 in node.args:
            node.args = tuple(torch.float64 if arg is torch.float32 else arg for arg in node.args)
    doubled.recompile()
    return doubled


def stats(program: Program) -> GraphStats:
    """Operator nodes, constant elements and MACs of a program."""
    return GraphStats(
        operators=len(operators(program)),
        parameters=sum(value.numel() for _, value in constants(program)),
        macs=sum(node_macs(node) for node in operators(program)),
    )


def module_path(node: Node) -> str:
    """The path of the module a node was captured in, such as `stages.2.0.token_mixer`; "" for the outermost."""
    stack = node.meta.get("nn_module_stack") or {}
    return str(list(stack.values())[-1][0]) if stack else ""


def fingerprint(program: Program) -> str:
    """SHA-256 over the operators, their arguments, the shapes and every constant; independent of node names."""
    digest = hashlib.sha256()
    numbers = {node: index for index, node in enumerate(program.graph.nodes)}
    places = {name: index for index, name in enumerate(constant_names(program))}
    for node in program.graph.nodes:
        arguments = torch.fx.map_arg((node.args, node.kwargs), lambda used: f"%{numbers[used]}")
        shape = getattr(node.meta.get("val"), "shape", None)
        what = places[str(node.target)] if node.op == "get_attr" else str(node.target)
        digest.update(f"{node.op} {what} {arguments} {shape}\n".encode())
    for _, value in constants(program):
        digest.update(f"{value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.detach().contiguous().numpy().tobytes())
    return digest.hexdigest()
