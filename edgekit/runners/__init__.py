"""Loading an artifact in its runtime and running it, one module per runtime."""

from collections.abc import Mapping
from functools import partial
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import cast

from edgekit.errors import ArtifactError, MissingExtraError
from edgekit.runners.base import Load, Runner
from edgekit.runners.parts import load_parts
from edgekit.targets.shipped.parts import SUFFIX

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


def loader(runtime: str, file_name: str) -> Load:
    """Imports a runtime; a file that describes parts is loaded as all of them.

    Raises:
        MissingExtraError: The runtime is not installed.
        ArtifactError: There is no such runtime here.
    """
    if runtime not in RUNNERS:
        raise ArtifactError(
            f"{file_name} is for runtime {runtime!r}, which this edgekit does not know. Update edgekit."
        )
    module, package, extra = RUNNERS[runtime]
    try:
        imported = import_module(module)
    except ImportError as error:
        if extra is None:
            raise
        raise MissingExtraError(package, extra, f"Running {file_name}") from error
    if file_name.endswith(SUFFIX):  # some runtimes' threads would be in each other's way
        return partial(load_parts, cast("Load", getattr(imported, "load_beside", imported.load)))
    return cast("Load", imported.load)


def load(runtime: str, path: Path, threads: int = 1) -> Runner:
    """Loads an artifact's main file in a runtime.

    Raises:
        MissingExtraError: The runtime is not installed.
        ArtifactError: There is no such runtime here, or it does not take the file.
    """
    return loader(runtime, path.name)(path, threads)
