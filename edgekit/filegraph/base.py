"""What an artifact's file says it computes: its nodes, the module each came from, and the work of each."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True)
class FileNode:
    """One operator of a file.

    Attributes:
        name: Unique in the file.
        kind: The operator, as the format calls it.
        module: Path of the torch module it came from, as the exporter wrote it; None where the file does not tell.
        macs: Multiply-accumulates, padding taps counted, as in `edgekit.macs`.
        operands: The tensors it reads, constants included.
        results: The tensors it gives.
    """

    name: str
    kind: str
    module: str | None
    macs: int
    operands: tuple[str, ...]
    results: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FileGraph:
    """The nodes of a file by name, in order, and each tensor's size in bytes; its shape, where the reader tells it."""

    nodes: Mapping[str, FileNode]
    sizes: Mapping[str, int]
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict, repr=False)
    producers: Mapping[str, str] = field(init=False, repr=False)
    consumers: Mapping[str, tuple[str, ...]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        readers: dict[str, list[str]] = {}
        for node in self.nodes.values():
            for tensor in dict.fromkeys(node.operands):
                readers.setdefault(tensor, []).append(node.name)
        givers = {tensor: node.name for node in self.nodes.values() for tensor in node.results}
        object.__setattr__(self, "producers", givers)
        object.__setattr__(self, "consumers", {tensor: tuple(names) for tensor, names in readers.items()})

    @property
    def macs(self) -> int:
        """Of the whole file."""
        return sum(node.macs for node in self.nodes.values())

    def traffic(self, names: tuple[str, ...]) -> int:
        """Bytes that some nodes, computed as one, read and write: what passes between them alone does not count."""
        inside = {self.nodes[name] for name in names}
        given = {tensor for node in inside for tensor in node.results}
        read = {tensor for node in inside for tensor in node.operands} - given
        kept = {tensor for tensor in given if self._is_needed_outside(tensor, {*names})}
        return sum(self.sizes.get(tensor, 0) for tensor in read | kept)

    def _is_needed_outside(self, tensor: str, inside: set[str]) -> bool:
        readers = self.consumers.get(tensor, ())
        return not readers or any(name not in inside for name in readers)


class Read(Protocol):
    """Reads a file of one format."""

    def __call__(self, path: Path) -> FileGraph:
        """The graph of the file at `path`."""
        ...
