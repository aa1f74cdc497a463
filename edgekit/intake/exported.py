"""A program that was saved with `torch.export.save`: `model.pt2`.

It brings its weights along. Sizes that were exported as dynamic take the value asked for; the others are fixed.
"""

import functools
import io
import logging
import zipfile
from pathlib import Path

import torch
from torch import Tensor
from torch.fx import GraphModule

from edgekit.archive import reason_for_distrust
from edgekit.artifact import ModelCard, Shape, SizeRule, TensorSpec
from edgekit.errors import MisuseError, ModelError
from edgekit.files import sha256
from edgekit.intake.adapt import adapt
from edgekit.intake.sheet import Sheet, make_card
from edgekit.intake.source import Asked, Built, WeightsPolicy, shapes_by_name
from edgekit.intake.zoo import no_kernel_policy
from edgekit.user_code import described

logger = logging.getLogger(__name__)

Sizes = tuple[int | torch.SymInt, ...]

DYNAMIC_SIDE = 224
"""Height and width of a program that takes any, when none is asked for; other dynamic sides are 1."""


class ExportedSource:
    """A `.pt2` file."""

    weights: WeightsPolicy = "fixed"

    def __init__(self, path: Path, *, trust: bool = False) -> None:
        self.text = str(path)
        self.name = path.stem
        self._path = path
        self._trust = trust
        self._built: dict[str, Built] = {}

    def inputs(self, asked: Asked = None) -> tuple[TensorSpec, ...]:
        return self.build(asked).inputs

    def identity(self) -> dict[str, str]:
        return {"pt2": sha256(self._path)}

    def card(self, asked: Asked = None) -> ModelCard:
        return make_card(self.name, "exported", Sheet(), self.build(asked), SizeRule(), ())

    def build(self, asked: Asked = None, kernel_policy: str | None = None) -> Built:
        no_kernel_policy(self.text, kernel_policy)
        key = repr(asked)
        if key not in self._built:
            program = self._program
            known = program_inputs(program)
            shapes = shapes_by_name(asked, tuple(known), self.text)
            inputs = tuple(self._spec(name, value, shapes.get(name)) for name, value in known.items())
            self._built[key] = adapt(program, inputs, doing=self.text)
        return self._built[key]

    @functools.cached_property
    def _program(self) -> GraphModule:
        """The program of the file.

        Raises:
            ModelError: The file is damaged, might run code, or was exported in training mode.
        """
        exported = load(self._path, trust=self._trust)
        traced = exported.module(check_guards=False)
        program = GraphModule(traced, traced.graph, class_name="Program")
        for module in program.modules():
            module.training = False  # a program has no mode; torch forbids calling eval() on it
        check_mode(program, self._path)
        return program

    def _spec(self, name: str, value: Tensor, wanted: Shape | None) -> TensorSpec:
        """The input at the size asked for.

        Raises:
            MisuseError: A side that is fixed was asked to be another.
        """
        sizes: Sizes = tuple(value.shape)
        shape = wanted or tuple(default_side(sizes, axis) for axis in range(len(sizes)))
        fits = len(shape) == len(sizes) and all(
            isinstance(own, torch.SymInt) or own == side for own, side in zip(sizes, shape, strict=True)
        )
        if not fits:
            raise MisuseError(
                f"{self._path} was exported for input {sizes_text(sizes)} and cannot take {sizes_text(shape)}. "
                "Leave --input out, or export it again with dynamic_shapes, or at that size."
            )
        dtype = str(value.dtype).removeprefix("torch.")
        return TensorSpec(name=name, shape=shape, dtype=dtype, layout="NCHW" if len(shape) == 4 else "")


def load(path: Path, *, trust: bool) -> torch.export.ExportedProgram:
    """Reads a `.pt2` file, and unless it is trusted, only when that runs nothing in it.

    Raises:
        ModelError: It is damaged, or reading it might run code.
    """
    try:
        content = path.read_bytes()  # read once, so that what was checked is what is loaded
        reason = None if trust else reason_for_distrust(io.BytesIO(content))
    except (zipfile.BadZipFile, ValueError, KeyError, TypeError, OSError, RecursionError) as error:
        raise ModelError(
            f"{path} is no torch.export program, or is damaged ({described(error)}). Write it with torch.export.save."
        ) from error
    if reason is not None:
        raise ModelError(
            f"{path} was not read, because torch.export.load could run code in it: {reason}. "
            "If you trust whoever made it, repeat with --trust."
        )
    try:
        return torch.export.load(io.BytesIO(content))
    except Exception as error:
        raise ModelError(
            f"{path} cannot be read by torch {torch.__version__} ({described(error)}). Export it again with it."
        ) from error


def program_inputs(program: GraphModule) -> dict[str, Tensor]:
    """The inputs of a program by name, each a tensor without values.

    Raises:
        ModelError: One is not a tensor.
    """
    found = {str(node.target): node.meta.get("val") for node in program.graph.nodes if node.op == "placeholder"}
    for name, value in found.items():
        if not isinstance(value, Tensor):
            raise ModelError(f"Input {name!r} of the program is no tensor. Export it with tensors only.")
    return {name: value for name, value in found.items() if isinstance(value, Tensor)}


def check_mode(program: GraphModule, path: Path) -> None:
    """Refuses a program that was exported in training mode.

    Raises:
        ModelError: It has batch norm or dropout in training mode.
    """
    for node in program.graph.nodes:
        if node.op != "call_function":
            continue
        name = str(node.target)
        if (".batch_norm." in name or "dropout" in name) and any(argument is True for argument in node.args[:6]):
            raise ModelError(
                f"{path} was exported in training mode: {name.removeprefix('aten.')} is active. "
                "Call model.eval() before torch.export.export."
            )


def default_side(sizes: Sizes, axis: int) -> int:
    """A side when none was asked for: its own, or a usual one where it is dynamic."""
    own = sizes[axis]
    if not isinstance(own, torch.SymInt):
        return own
    return DYNAMIC_SIDE if axis >= 2 and len(sizes) == 4 else 1


def sizes_text(sizes: Sizes | Shape) -> str:
    """1x3x?x?, a question mark for a dynamic side."""
    return "x".join("?" if isinstance(side, torch.SymInt) else str(side) for side in sizes)
