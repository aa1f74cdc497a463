"""What every exporter is given and gives back."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol

from edgekit.artifact import TensorSpec

if TYPE_CHECKING:
    from torch import Tensor

    from edgekit.program import Program


@dataclass(frozen=True, slots=True)
class ExportSpec:
    """How the network presents itself to whoever loads the file.

    `metadata` is written into the file where the format has a place for it; keys start with `edgekit.`.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    metadata: Mapping[str, str]

    def examples(self) -> "tuple[Tensor, ...]":
        """Zeros of the inputs' shapes, from which converters take types and sizes."""
        import torch

        return tuple(torch.zeros(spec.shape) for spec in self.inputs)

    def described(self, settings: Mapping[str, int] = MappingProxyType({})) -> str:
        """Names, shapes, metadata and settings of the runtime as one line of ASCII, for formats without a place."""
        ports = {
            side: [{"name": each.name, "shape": each.shape} for each in specs]
            for side, specs in (("inputs", self.inputs), ("outputs", self.outputs))
        }
        described = {**ports, "metadata": dict(self.metadata), "settings": dict(settings)}
        return json.dumps(described, sort_keys=True, separators=(",", ":"))


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way to write the network: its files, the loadable one first, and what tells it from the other candidates."""

    files: tuple[Path, ...]
    label: str
    notes: tuple[str, ...] = ()


class Export(Protocol):
    """Writes a program; several candidates come back best first, and the first that passes verification is kept."""

    def __call__(self, program: "Program", spec: ExportSpec, folder: Path, stem: str) -> tuple[Candidate, ...]:
        """Writes `<folder>/<stem>.<ext>` (other candidates under other stems).

        Raises:
            ConverterError: The format's converter failed.
        """
        ...
