"""Capture: an `nn.Module` becomes a program at one fixed input shape."""

import torch
from torch import Tensor, nn
from torch.fx import GraphModule

from edgekit.artifact import Shape, TensorSpec
from edgekit.errors import ModelError
from edgekit.program import Program, drop_unused_constants

INPUT_NAME = "input"
OUTPUT_NAMES = ("logits",)


def capture(model: nn.Module, shape: Shape) -> Program:
    """Traces a model in evaluation mode to ATen operators at one input shape.

    Args:
        model: The network; one tensor in, one tensor out.
        shape: (N, C, H, W) of its input.

    Raises:
        ModelError: The model is in training mode, or cannot be traced at this shape.
    """
    if model.training:
        raise ModelError("The model is in training mode, where batch norm and dropout differ. Call model.eval() first.")
    try:
        exported = torch.export.export(model, (torch.zeros(shape),), strict=False)
    except Exception as error:
        raise ModelError(
            f"{type(model).__name__} cannot be captured at input {size_text(shape)}: {first_line(error)}"
        ) from error
    traced = exported.module(check_guards=False)
    program = GraphModule(traced, traced.graph, class_name="Program")
    drop_unused_constants(program)
    program.recompile()
    return program


def output_specs(program: Program) -> tuple[TensorSpec, ...]:
    """Names and shapes of a program's outputs.

    Raises:
        ModelError: The program has other outputs than the names edgekit gives.
    """
    (returned,) = (program.graph.output_node().args[0],)
    nodes = returned if isinstance(returned, (list, tuple)) else (returned,)
    values = [node.meta["val"] for node in nodes]  # type: ignore[union-attr]
    if len(values) != len(OUTPUT_NAMES) or not all(isinstance(value, Tensor) for value in values):
        raise ModelError(f"The model returns {len(values)} outputs; edgekit exports models that return one tensor.")
    return tuple(
        TensorSpec(name=name, shape=tuple(int(side) for side in value.shape), layout="NC")
        for name, value in zip(OUTPUT_NAMES, values, strict=True)
    )


def size_text(shape: Shape) -> str:
    """(1, 3, 224, 224) as 1x3x224x224."""
    return "x".join(str(side) for side in shape)


def first_line(error: BaseException) -> str:
    """The first line of an error that says anything, for use inside a one-line message."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
