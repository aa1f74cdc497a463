"""The reference of a bundle as a file: with it, a bundle is verified on a machine that has neither model nor torch."""

from pathlib import Path

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from edgekit.artifact import TensorSpec
from edgekit.errors import BundleError
from edgekit.numerics import sampled
from edgekit.verify import Expected, Reference, ReferenceCase

KEY = "edgekit.reference"


class _Case(Struct, frozen=True):
    """A case without its tensors; `noise_db` has one entry for each output."""

    name: str
    noise_db: tuple[float, ...]


class _Head(Struct, frozen=True):
    """What the file's metadata says."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    cases: tuple[_Case, ...]


def write_reference(against: Reference, path: Path) -> None:
    """Stores a reference as safetensors: `<case>.input.<index>` and `<case>.output.<index>`, the rest as metadata."""
    tensors: dict[str, NDArray[np.generic]] = {}
    for case in against.cases:
        for index, image in enumerate(case.inputs):
            tensors[f"{case.name}.input.{index}"] = np.asarray(image, order="C")
        for index, expected in enumerate(case.outputs):
            tensors[f"{case.name}.output.{index}"] = np.asarray(expected.values, order="C")
    cases = tuple(_Case(case.name, tuple(each.noise_db for each in case.outputs)) for case in against.cases)
    head = _Head(against.inputs, against.outputs, cases)
    path.write_bytes(save(tensors, {KEY: msgspec.json.encode(head).decode()}))


def read_reference(path: Path) -> Reference:
    """Reads what `write_reference` wrote.

    Raises:
        BundleError: The file is missing or damaged.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            head = msgspec.json.decode(file.metadata()[KEY], type=_Head)
            cases = tuple(
                ReferenceCase(
                    case.name,
                    tuple(file.get_tensor(f"{case.name}.input.{index}") for index in range(len(head.inputs))),
                    tuple(
                        Expected(file.get_tensor(f"{case.name}.output.{index}"), noise_db)
                        for index, noise_db in enumerate(case.noise_db)
                    ),
                )
                for case in head.cases
            )
            check_shapes(head, cases)
    except (OSError, SafetensorError, msgspec.DecodeError, MemoryError, KeyError, TypeError, ValueError) as error:
        raise BundleError(f"{path} is no reference of a bundle ({error}). Export the model again.") from error
    return Reference(head.inputs, head.outputs, cases)


def check_shapes(head: _Head, cases: tuple[ReferenceCase, ...]) -> None:
    """Compares what the file holds with what it says it holds.

    Raises:
        ValueError: There is nothing to compare with, or a tensor has another shape.
    """
    if not cases or not head.inputs or not head.outputs:
        raise ValueError("it holds no case, so there is nothing to compare with")
    inputs = [spec.shape for spec in head.inputs]
    outputs = [sampled(np.empty(spec.shape, np.uint8)).shape for spec in head.outputs]
    for case in cases:
        held = [expected.values.shape for expected in case.outputs]
        if held != outputs or [image.shape for image in case.inputs] != inputs:
            raise ValueError(f"the tensors of case {case.name!r} have other shapes than it says")
