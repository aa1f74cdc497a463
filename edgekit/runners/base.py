"""The contract every runtime is driven through."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter_ns
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from edgekit.artifact import Shape, TensorSpec
from edgekit.errors import MisuseError

Tensors = dict[str, NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class OperatorTime:
    """What one operator took while a runtime measured itself.

    Attributes:
        name: As the runtime calls it.
        kind: The kernel, or at least the operator, as the runtime calls it.
        times: Milliseconds in each run, or their mean alone where the runtime tells no more.
        origins: Operators of the file it computes, where the runtime tells, in its own way of naming them.
        operands: Tensors it reads, where the runtime tells.
        results: Tensors it gives, where the runtime tells.
    """

    name: str
    kind: str
    times: tuple[float, ...]
    origins: tuple[str, ...] = ()
    operands: tuple[str, ...] = ()
    results: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Profile:
    """A runtime's own account of where its time goes.

    Attributes:
        operators: In the order in which they ran.
        times: Milliseconds that each whole run took while it was measured, or their mean alone, as with the operators;
            measuring slows a runtime down.
    """

    operators: tuple[OperatorTime, ...]
    times: tuple[float, ...]


class Runner(Protocol):
    """A loaded artifact; a context manager that frees it."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def run(self, inputs: Mapping[str, NDArray[np.float32]]) -> Tensors:
        """One inference: tensors by name in, tensors by name out.

        Raises:
            MisuseError: An input is missing or has another shape than the artifact was made for.
        """
        ...

    def profile(self, inputs: Mapping[str, NDArray[np.float32]], runs: int) -> Profile:
        """What each operator takes, as the runtime's own profiler has it; loads the file a second time where it must.

        Raises:
            MisuseError: An input is missing or has another shape than the artifact was made for.
            EnvironmentProblemError: This version of the runtime has no profiler that edgekit knows how to read.
        """
        ...

    def metadata(self) -> dict[str, str]:
        """What the exporter wrote into the file, by key."""
        ...

    def close(self) -> None:
        """Frees the runtime's memory."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...


PROFILE_WARM_UP = 2
"""Runs before those that a profile counts."""


def milliseconds(call: Callable[[], object]) -> float:
    """How long a call takes."""
    started = perf_counter_ns()
    call()
    return 1e-6 * (perf_counter_ns() - started)


class Load(Protocol):
    """Loads a file in the runtime of its module."""

    def __call__(self, path: Path, threads: int) -> Runner:
        """Loads `path` for inference on this many threads."""
        ...


@dataclass(frozen=True, slots=True)
class Description:
    """What an exporter wrote into a file whose format has no place of its own for these.

    `settings` are those of the runtime with which the file was found to be the network.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    metadata: dict[str, str]
    settings: dict[str, int]


def read_description(text: str) -> Description:
    """Reads what `ExportSpec.described` wrote.

    Raises:
        ValueError: It is something else.
    """
    try:
        found = json.loads(text)
        inputs, outputs = (
            tuple(TensorSpec(name=str(each["name"]), shape=tuple(map(int, each["shape"]))) for each in found[side])
            for side in ("inputs", "outputs")
        )
        metadata = {str(key): str(value) for key, value in found["metadata"].items()}
        return Description(
            inputs, outputs, metadata, {str(key): int(value) for key, value in found["settings"].items()}
        )
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError("it does not tell its inputs and outputs, as a file that edgekit exported does") from error


def check_inputs(wanted: tuple[TensorSpec, ...], given: Mapping[str, NDArray[np.float32]]) -> None:
    """Refuses inputs an artifact was not made for, before the runtime answers in its own words.

    Raises:
        MisuseError: A name is missing or unknown, a type is not float32, or a shape is another than the one the
            artifact is locked to.
    """
    for spec in wanted:
        if spec.name not in given:
            raise MisuseError(f"Input {spec.name!r} is missing; given were: {', '.join(given) or 'none'}.")
        if given[spec.name].dtype != np.float32:
            raise MisuseError(f"Input {spec.name!r} must be float32, and is {given[spec.name].dtype}.")
        shape = given[spec.name].shape
        if shape != spec.shape:
            asked, made = _text(shape), _text(spec.shape)
            raise MisuseError(
                f"This artifact is locked to input {made}, and was given {asked}. Its kernels were materialised for "
                f"that size; export again with `edgekit export MODEL --input {asked}`."
            )
    unknown = sorted(set(given) - {spec.name for spec in wanted})
    if unknown:
        raise MisuseError(f"There is no input {unknown[0]!r}; there is {', '.join(spec.name for spec in wanted)}.")


def _text(shape: Shape) -> str:
    return "x".join(map(str, shape))
