"""Artifacts as graphs, one module per format."""

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import cast

from edgekit.errors import ArtifactError
from edgekit.filegraph.base import FileGraph, Read

READERS: Mapping[str, str] = MappingProxyType(
    {
        "mnn": "edgekit.filegraph.mnn",
        "ncnn": "edgekit.filegraph.ncnn",
        "onnxruntime": "edgekit.filegraph.onnx",
        "openvino": "edgekit.filegraph.openvino",
        "tflite": "edgekit.filegraph.tflite",
        "torch": "edgekit.filegraph.pt2",
    }
)
"""Runtime to the module that reads its files."""


def read_graph(runtime: str, path: Path) -> FileGraph:
    """The graph of a runtime's file, which that runtime has loaded before.

    Raises:
        ArtifactError: No reader is known for the runtime.
    """
    if runtime not in READERS:
        raise ArtifactError(f"{path.name} is for runtime {runtime!r}, whose files cannot be read yet. Update edgekit.")
    return cast("Read", import_module(READERS[runtime]).read)(path)
