"""Loading an artifact in its runtime and running it, one module per runtime."""

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import cast

from edgekit.errors import ArtifactError, MissingExtraError
from edgekit.runners.base import Load, Runner

RUNNERS: Mapping[str, tuple[str, str, str | None]] = MappingProxyType(
    {
        "onnxruntime": ("edgekit.runners.onnxruntime", "onnxruntime", None),
        "openvino": ("edgekit.runners.openvino", "openvino", "openvino"),
        "tflite": ("edgekit.runners.tflite", "ai-edge-litert", "tflite"),
        "mnn": ("edgekit.runners.mnn", "mnn", "mnn"),
        "ncnn": ("edgekit.runners.ncnn", "ncnn", "ncnn"),
        "torch": ("edgekit.runners.torch", "torch", None),
    }
)
"""Runtime to its module, its distribution and the extra that installs it."""


def load(runtime: str, path: Path, threads: int = 1) -> Runner:
    """Loads an artifact's main file in a runtime.

    Raises:
        MissingExtraError: The runtime is not installed.
        ArtifactError: There is no such runtime here, or it does not take the file.
    """
    if runtime not in RUNNERS:
        raise ArtifactError(
            f"{path.name} is for runtime {runtime!r}, which this edgekit does not know. Update edgekit."
        )
    module, package, extra = RUNNERS[runtime]
    try:
        loader = cast("Load", import_module(module).load)
    except ImportError as error:
        if extra is None:
            raise
        raise MissingExtraError(package, extra, f"Running {path.name}") from error
    return loader(path, threads)
