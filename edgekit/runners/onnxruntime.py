"""ONNX Runtime on the CPU."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from edgekit.artifact import TensorSpec
from edgekit.errors import ArtifactError, first_line
from edgekit.runners.base import Runner, Tensors, check_inputs


class OnnxRuntimeRunner:
    """A session of ONNX Runtime."""

    def __init__(self, session: Any) -> None:
        self._session: Any = session
        self.inputs = tuple(TensorSpec(name=i.name, shape=tuple(i.shape)) for i in session.get_inputs())
        self.outputs = tuple(TensorSpec(name=o.name, shape=tuple(o.shape)) for o in session.get_outputs())

    def run(self, inputs: Mapping[str, NDArray[np.float32]]) -> Tensors:
        check_inputs(self.inputs, inputs)
        names = [spec.name for spec in self.outputs]
        return dict(zip(names, self._session.run(names, dict(inputs)), strict=True))

    def metadata(self) -> dict[str, str]:
        return dict(self._session.get_modelmeta().custom_metadata_map)

    def close(self) -> None:
        self._session = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def load(path: Path, threads: int) -> Runner:
    """Loads an `.onnx` file."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise ArtifactError(f"ONNX Runtime does not load {path.name}: {first_line(error)}") from error
    return OnnxRuntimeRunner(session)
