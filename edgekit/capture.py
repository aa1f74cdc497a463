"""Capture: an `nn.Module` becomes a program at one fixed input shape."""

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node

from edgekit.artifact import Shape, TensorSpec
from edgekit.errors import ModelError, first_line
from edgekit.program import TAKEN_NAMES, Program, drop_unused_constants, inline_contexts

OUTPUT_NAMES = ("logits",)

_DTYPE_ASSERTION = torch.ops.aten._assert_tensor_metadata.default  # noqa: SLF001 - ATen's own name
"""Computes nothing, and would forbid to run the program in float64."""

_COPIES = (torch.ops.aten.lift_fresh_copy.default, torch.ops.aten.detach_.default, torch.ops.aten.detach.default)
"""What export wraps around a tensor that a model makes as it runs."""


def capture(model: nn.Module, *shapes: Shape) -> Program:
    """Traces a model in evaluation mode to ATen operators at fixed input shapes.

    Args:
        model: The network; float32 tensors in, by position, one tensor or a tuple of them out.
        shapes: Of each input, such as (N, C, H, W).

    Raises:
        ModelError: The model is in training mode, cannot be traced at these shapes, or computes in another precision.
    """
    check_capturable(model)
    sizes = ", ".join(map(size_text, shapes))
    try:
        exported = torch.export.export(model, tuple(torch.zeros(shape) for shape in shapes), strict=False)
        traced = exported.module(check_guards=False)
    except Exception as error:
        raise ModelError(f"{type(model).__name__} cannot be captured at input {sizes}: {first_line(error)}") from error
    written = list(exported.graph_signature.buffers_to_mutate.values())
    if written:
        raise ModelError(
            f"{type(model).__name__} writes its buffer {written[0]!r} as it runs. Keep no state in forward."
        )
    program = GraphModule(traced, traced.graph, class_name="Program")
    inline_contexts(program)
    tidy(program)
    return program


def check_capturable(model: nn.Module) -> None:
    """Refuses what tracing would answer in words nobody understands.

    Raises:
        ModelError: The model is in training mode, or has a module of a name that cannot be traced.
    """
    if model.training:
        raise ModelError("The model is in training mode, where batch norm and dropout differ. Call model.eval() first.")
    taken = [name for name, _ in model.named_children() if hasattr(GraphModule, name) or name in TAKEN_NAMES]
    if taken:
        raise ModelError(
            f"{type(model).__name__} has a module named {taken[0]!r}, a name torch.fx keeps for itself. Rename it."
        )


def tidy(program: Program) -> None:
    """Takes out of a traced graph what computes nothing: assertions, copies of constants, constants nobody reads."""
    for node in list(program.graph.nodes):
        if node.target in _COPIES:
            node.replace_all_uses_with(node.args[0])
        if node.target in _COPIES or node.target is _DTYPE_ASSERTION:
            program.graph.erase_node(node)
    for unread in [node for node in program.graph.find_nodes(op="get_attr") if not node.users]:
        program.graph.erase_node(unread)
    drop_unused_constants(program)
    program.graph.eliminate_dead_code()
    program.recompile()


def output_specs(program: Program, names: tuple[str, ...] = OUTPUT_NAMES) -> tuple[TensorSpec, ...]:
    """Names and shapes of the tensors a program returns, in order.

    Raises:
        ModelError: It returns something else than float32 tensors of fixed shapes, or one of them twice.
    """
    returned = program.graph.output_node().args[0]
    nodes = tuple(returned) if isinstance(returned, (list, tuple)) else (returned,)
    if not _returns_in_order(program) or len(nodes) != len(names):
        raise ModelError(
            f"The model returns {len(nodes)} tensors in a container, for which there are {len(names)} names. "
            "Return one tensor or a flat tuple of them."
        )
    if len(set(nodes)) < len(nodes):
        raise ModelError("The model returns one tensor twice. Return it once.")
    return tuple(_output_spec(node, name) for node, name in zip(nodes, names, strict=True))


def _output_spec(node: object, name: str) -> TensorSpec:
    """The spec of one output."""
    value = node.meta.get("val") if isinstance(node, Node) else node
    if not isinstance(value, Tensor) or not isinstance(node, Node):
        raise ModelError(f"The model returns a {type(value).__name__}; edgekit exports models that return tensors.")
    if node.op != "call_function":
        what = "one of its inputs" if node.op == "placeholder" else "a constant"
        raise ModelError(f"The model returns {what} as {name!r}, which it does not compute. Leave it out.")
    if value.dtype is not torch.float32:
        kind = str(value.dtype).removeprefix("torch.")
        raise ModelError(
            f"The model returns {name!r} as {kind}; how close {kind} values are says nothing. Return the float32 "
            "values they are made of, such as logits, and decide on the host."
        )
    if not all(isinstance(side, int) for side in value.shape):
        raise ModelError("The size of the model's output depends on the values of its input. Return a fixed size.")
    if value.numel() == 0:
        raise ModelError(f"The model returns {name!r} empty, as {size_text(tuple(value.shape))}. Leave it out.")
    return TensorSpec(name=name, shape=tuple(value.shape), layout="NCHW"[: value.ndim])


def _returns_in_order(program: Program) -> bool:
    """Whether calling the program gives a tensor, or a tuple or list of them, rather than a dictionary."""
    convention = getattr(program.graph._codegen, "pytree_info", None)  # noqa: SLF001 - no public way to ask
    kind = convention.out_spec.type if convention is not None and convention.out_spec is not None else None
    return kind in (None, tuple, list)


def size_text(shape: Shape) -> str:
    """(1, 3, 224, 224) as 1x3x224x224."""
    return "x".join(str(side) for side in shape)
