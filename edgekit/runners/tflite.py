"""TFLite through ai-edge-litert, with its XNNPACK kernels."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self, cast

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray

from edgekit.artifact import TensorSpec
from edgekit.errors import ArtifactError, first_line
from edgekit.runners.base import Runner, Tensors, check_inputs


class TfliteRunner:
    """An interpreter driven through the file's signature, so that tensors go by name."""

    def __init__(self, path: Path, interpreter: Any) -> None:
        self._path = path
        self._interpreter: Any = interpreter
        self._signature: Any = interpreter.get_signature_runner()
        self.inputs = _specs(self._signature.get_input_details())
        self.outputs = _specs(self._signature.get_output_details())

    def run(self, inputs: Mapping[str, NDArray[np.float32]]) -> Tensors:
        check_inputs(self.inputs, inputs)
        return dict(self._signature(**{spec.name: inputs[spec.name] for spec in self.inputs}))

    def metadata(self) -> dict[str, str]:
        model = cast("Any", schema.Model.GetRootAs(self._path.read_bytes(), 0))  # its types say all may be absent
        entries = [model.Metadata(index) for index in range(model.MetadataLength())]
        return {
            entry.Name().decode(): model.Buffers(entry.Buffer()).DataAsNumpy().tobytes().decode()
            for entry in entries
            if entry.Name().startswith(b"edgekit.")
        }

    def close(self) -> None:
        self._signature = self._interpreter = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _specs(details: Mapping[str, Any]) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(name=name, shape=tuple(int(side) for side in detail["shape"])) for name, detail in details.items()
    )


def load(path: Path, threads: int) -> Runner:
    """Loads a `.tflite` file."""
    try:
        interpreter = Interpreter(model_path=str(path), num_threads=threads)
        interpreter.allocate_tensors()
        return TfliteRunner(path, interpreter)
    except Exception as error:
        raise ArtifactError(f"TFLite does not load {path.name}: {first_line(error)}") from error
