"""An ONNX graph as an `nn.Module`, one submodule per node, that computes it with torch operators at fixed input sizes.

Sizes are fixed, so all that ONNX computes from shapes is known beforehand: one run on zeros tells which values do not
depend on the input. Those are stored, the nodes that made them are dropped, and so are nodes that no output needs. What
is left has no Python value that depends on a tensor, so torch.export captures it like any other network, and
`.double()` makes it the float64 reference.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from edgekit.artifact import Shape
from edgekit.errors import ModelError
from edgekit.intake.onnx_call import Call, Operator, Values
from edgekit.intake.onnx_file import OnnxGraph, Step
from edgekit.intake.onnx_shapes import FROM_SHAPES_ALONE
from edgekit.user_code import described

KNOWN_LIMIT = 1 << 16
"""Values are handed to operators as numbers up to this many elements; shapes and axes are far smaller."""


class OnnxNode(nn.Module):
    """One node: its operator, and the inputs that are constant as buffers."""

    def __init__(self, step: Step, operator: Operator, opset: int, constants: Mapping[int, Tensor]) -> None:
        super().__init__()
        self._step, self._operator, self._opset = step, operator, opset
        self._known = tuple(known_values(constants.get(index)) for index in range(len(step.inputs)))
        self._constant = tuple(constants)
        self.live = tuple(name for index, name in enumerate(step.inputs) if name and index not in constants)
        for index, value in constants.items():
            self.register_buffer(f"input_{index}", value)

    def forward(self, *live: Tensor) -> tuple[Tensor, ...]:
        given = iter(live)
        inputs = tuple(
            getattr(self, f"input_{index}") if index in self._constant else next(given) if name else None
            for index, name in enumerate(self._step.inputs)
        )
        call = Call(inputs, self._known, self._step.attributes, self._opset, len(self._step.outputs))
        return as_tuple(self._operator(call))


class OnnxNetwork(nn.Module):
    """A graph at fixed input sizes; takes its inputs in order and returns one tensor or a tuple of them.

    Args:
        graph: The graph.
        operators: What computes its nodes.
        shapes: The sizes of its inputs, by name.

    Raises:
        ModelError: A node cannot be computed, or needs sizes that depend on the input's values.
    """

    def __init__(self, graph: OnnxGraph, operators: Mapping[str, Operator], shapes: Mapping[str, Shape]) -> None:
        super().__init__()
        known = constant_values(graph, operators, shapes)
        self._inputs, self._outputs = tuple(graph.inputs), graph.outputs
        self._order: list[tuple[str, tuple[str, ...]]] = []
        for step in needed_steps(graph, known):
            constants = {index: known[name] for index, name in enumerate(step.inputs) if name in known}
            path = self._path(step)
            self.add_module(path, OnnxNode(step, operators[step.operator], graph.opset, constants))
            self._order.append((path, step.outputs))
        for index, name in enumerate(graph.outputs):
            if name in known:
                self.register_buffer(f"output_{index}", known[name])

    def forward(self, *inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        values = dict(zip(self._inputs, inputs, strict=True))
        nodes = [(self.get_submodule(path), outputs) for path, outputs in self._order]
        uses = Counter(name for node, _ in nodes if isinstance(node, OnnxNode) for name in node.live)
        uses.update(self._outputs)
        for node, outputs in nodes:
            assert isinstance(node, OnnxNode)  # noqa: S101 - only nodes are in the order
            results = node(*(values[name] for name in node.live))
            values.update(zip(outputs, results, strict=False))
            for name in node.live:
                uses[name] -= 1
                if not uses[name]:
                    values.pop(name, None)
        found = tuple(
            values[name] if name in values else getattr(self, f"output_{index}")
            for index, name in enumerate(self._outputs)
        )
        return found[0] if len(found) == 1 else found

    def _path(self, step: Step) -> str:
        """A name for a node's submodule that is free."""
        wanted = re.sub(r"\W", "_", step.name).strip("_") or step.operator
        number, path = 1, wanted
        while hasattr(self, path):
            number += 1
            path = f"{wanted}_{number}"
        return path


def constant_values(
    graph: OnnxGraph, operators: Mapping[str, Operator], shapes: Mapping[str, Shape]
) -> dict[str, Tensor]:
    """Every value that is the same for all inputs of these sizes, from one run on zeros.

    Raises:
        ModelError: A node cannot be computed at these sizes.
    """
    known = {name: torch.from_numpy(np.array(value)) for name, value in graph.constants.items()}
    values = {name: torch.zeros(shapes[name], dtype=dtype_named(kind)) for name, (kind, _) in graph.inputs.items()}
    uses = Counter(name for step in graph.steps for name in step.inputs)
    for step in graph.steps:
        missing = [name for name in step.inputs if name and name not in known and name not in values]
        if missing:
            raise ModelError(f"Node {step.name} ({step.operator}) reads {missing[0]!r}, which no node before it makes.")
        inputs = tuple((known[name] if name in known else values[name]) if name else None for name in step.inputs)
        numbers = tuple(known_values(known.get(name)) for name in step.inputs)
        call = Call(inputs, numbers, step.attributes, graph.opset, len(step.outputs))
        results = run_step(step, operators[step.operator], call)
        fixed = step.operator in FROM_SHAPES_ALONE or all(name in known for name in step.inputs if name)
        (known if fixed else values).update(zip(step.outputs, results, strict=False))
        for name in step.inputs:
            uses[name] -= 1
            if not uses[name]:
                values.pop(name, None)
    return known


def run_step(step: Step, operator: Operator, call: Call) -> tuple[Tensor, ...]:
    """A node's outputs.

    Raises:
        ModelError: It cannot be computed; the message names the node.
    """
    try:
        with torch.no_grad():
            return as_tuple(operator(call))
    except Exception as error:
        reason = str(error) if isinstance(error, ModelError) else described(error)
        sizes = ", ".join("x".join(map(str, value.shape)) or "scalar" for value in call.tensors)
        raise ModelError(f"Node {step.name} ({step.operator} of {sizes or 'nothing'}): {reason}.") from error


def needed_steps(graph: OnnxGraph, known: Mapping[str, Tensor]) -> Sequence[Step]:
    """The nodes whose result depends on the input and that an output depends on."""
    wanted, kept = set(graph.outputs), []
    for step in reversed(graph.steps):
        if any(name in wanted and name not in known for name in step.outputs):
            kept.append(step)
            wanted.update(step.inputs)
    return kept[::-1]


def known_values(value: Tensor | None) -> Values | None:
    """A constant's values as numbers, unless it is a large one."""
    return None if value is None or value.numel() > KNOWN_LIMIT else value.detach().numpy()


def as_tuple(result: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """One tensor as a tuple of one."""
    return (result,) if isinstance(result, Tensor) else result


def dtype_named(name: str) -> torch.dtype:
    """A torch dtype by numpy's name."""
    dtype = getattr(torch, name)
    assert isinstance(dtype, torch.dtype)  # noqa: S101 - numpy and torch share these names
    return dtype
