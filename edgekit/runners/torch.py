"""torch itself, on the CPU and in float32: what a `.pt2` file computes in the framework it came from.

A file is read only when that runs no code of it (see `edgekit.archive`), because a bundle may come from anywhere.
torch keeps one number of threads for the whole process; it is set for the time of a run.
"""

import io
import json
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.export import ExportedProgram

from edgekit.archive import reason_for_distrust
from edgekit.artifact import TensorSpec
from edgekit.errors import ArtifactError, first_line
from edgekit.runners.base import Runner, Tensors, check_inputs

EXTRA_FILE = "edgekit.json"
"""Where the exporter leaves names and metadata; a file without it has torch's names and no metadata."""


class TorchRunner:
    """A program of `torch.export`, as a module."""

    def __init__(self, exported: ExportedProgram, described: Mapping[str, Any], threads: int) -> None:
        signature = exported.graph_signature
        values = {node.name: node.meta.get("val") for node in exported.graph.nodes}
        self.inputs = _specs(signature.user_inputs, values, described.get("inputs"))
        self.outputs = _specs(signature.user_outputs, values, described.get("outputs"))
        self._metadata = {str(key): str(value) for key, value in described.get("metadata", {}).items()}
        self._module: Any = exported.module()
        self._threads = threads

    def run(self, inputs: Mapping[str, NDArray[np.float32]]) -> Tensors:
        check_inputs(self.inputs, inputs)
        given = [torch.tensor(np.ascontiguousarray(inputs[spec.name])) for spec in self.inputs]
        with torch.no_grad(), _threads(self._threads):
            result = self._module(*given)
        tensors = (result,) if isinstance(result, Tensor) else tuple(result)
        return {spec.name: value.numpy().copy() for spec, value in zip(self.outputs, tensors, strict=True)}

    def metadata(self) -> dict[str, str]:
        return dict(self._metadata)

    def close(self) -> None:
        self._module = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _specs(names: Collection[Any], values: Mapping[str, Any], called: list[str] | None) -> tuple[TensorSpec, ...]:
    """The tensors of a program's signature, under the names the exporter gave them.

    Raises:
        ValueError: There are not as many names as tensors.
        TypeError: One is no tensor.
    """
    specs = []
    for own, name in zip(names, called or names, strict=True):
        value = values.get(own)
        if not isinstance(value, Tensor):
            raise TypeError(f"{own} is no tensor")
        specs.append(TensorSpec(name=name, shape=tuple(value.shape), dtype=str(value.dtype).removeprefix("torch.")))
    return tuple(specs)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Lets torch compute on this many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def load(path: Path, threads: int) -> Runner:
    """Loads a `.pt2` file."""
    extra = {EXTRA_FILE: ""}
    try:
        content = path.read_bytes()  # read once, so that what was checked is what is loaded
        reason = reason_for_distrust(io.BytesIO(content))
        if reason is None:
            exported = torch.export.load(io.BytesIO(content), extra_files=extra)
            return TorchRunner(exported, json.loads(extra[EXTRA_FILE] or "{}"), threads)
    except Exception as error:
        raise ArtifactError(f"torch does not load {path.name}: {first_line(error)}") from error
    raise ArtifactError(f"torch does not load {path.name}: reading it could run code in it, for {reason}.")
