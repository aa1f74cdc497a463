"""Capture: an `nn.Module` becomes a program at one fixed input shape."""

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node

from edgekit.artifact import Shape, TensorSpec
from edgekit.errors import ModelError
from edgekit.program import TAKEN_NAMES, Program, drop_unused_constants, inline_contexts

INPUT_NAME = "input"
OUTPUT_NAMES = ("logits",)

_DTYPE_ASSERTION = torch.ops.aten._assert_tensor_metadata.default  # noqa: SLF001 - ATen's own name
"""Computes nothing, and would forbid to run the program in float64."""

_COPIES = (torch.ops.aten.lift_fresh_copy.default, torch.ops.aten.detach_.default, torch.ops.aten.detach.default)
"""What export wraps around a tensor that a model makes as it runs."""


def capture(model: nn.Module, shape: Shape) -> Program:
    """Traces a model in evaluation mode to ATen operators at one input shape.

    Args:
        model: The network; one tensor in, one tensor out.
        shape: (N, C, H, W) of its input.

    Raises:
        ModelError: The model is in training mode, cannot be traced at this shape, or computes in another precision.
    """
    check_capturable(model)
    try:
        exported = torch.export.export(model, (torch.zeros(shape),), strict=False)
        traced = exported.module(check_guards=False)
    except Exception as error:
        raise ModelError(
            f"{type(model).__name__} cannot be captured at input {size_text(shape)}: {first_line(error)}"
        ) from error
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
    """Name and shape of the tensor a program returns.

    Raises:
        ModelError: The program returns anything but one tensor of a fixed shape.
    """
    returned = program.graph.output_node().args[0]
    nodes = returned if isinstance(returned, (list, tuple)) else (returned,)
    values = [node.meta.get("val") if isinstance(node, Node) else node for node in nodes]
    if len(values) != 1 or len(names) != 1:
        raise ModelError(f"The model returns {len(values)} outputs; edgekit exports models that return one tensor.")
    (value,) = values
    if not isinstance(value, Tensor) or not _returns_bare_tensor(program):
        what = "its tensor in a container" if isinstance(value, Tensor) else f"a {type(value).__name__}"
        raise ModelError(f"The model returns {what}; edgekit exports models that return one tensor.")
    if not all(isinstance(side, int) for side in value.shape):
        raise ModelError("The size of the model's output depends on the values of its input. Return a fixed size.")
    return (TensorSpec(name=names[0], shape=tuple(value.shape), layout="NCHW"[: value.ndim]),)


def _returns_bare_tensor(program: Program) -> bool:
    """Whether calling the program gives the tensor itself, or it in a tuple or list, rather than in a dictionary."""
    convention = getattr(program.graph._codegen, "pytree_info", None)  # noqa: SLF001 - no public way to ask
    kind = convention.out_spec.type if convention is not None and convention.out_spec is not None else None
    return kind in (None, tuple, list)


def size_text(shape: Shape) -> str:
    """(1, 3, 224, 224) as 1x3x224x224."""
    return "x".join(str(side) for side in shape)


def first_line(error: BaseException) -> str:
    """The first line of an error that says anything, for use inside a one-line message."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
