"""OpenVINO on the CPU, with the arithmetic the file asks for."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
import openvino
from numpy.typing import NDArray

from edgekit.artifact import TensorSpec
from edgekit.errors import ArtifactError, first_line
from edgekit.runners.base import Runner, Tensors, check_inputs


class OpenVinoRunner:
    """A compiled OpenVINO model with one request."""

    def __init__(self, model: Any, compiled: Any) -> None:
        self._model: Any = model
        self._request: Any = compiled.create_infer_request()
        # The compiled model may have more names for a port, those of nodes that were merged into it.
        self.inputs = tuple(_spec(port) for port in model.inputs)
        self.outputs = tuple(_spec(port) for port in model.outputs)

    def run(self, inputs: Mapping[str, NDArray[np.float32]]) -> Tensors:
        check_inputs(self.inputs, inputs)
        results = self._request.infer({spec.name: inputs[spec.name] for spec in self.inputs})
        return {spec.name: np.array(results[index]) for index, spec in enumerate(self.outputs)}

    def metadata(self) -> dict[str, str]:
        if not self._model.has_rt_info("edgekit"):
            return {}
        entries = self._model.get_rt_info("edgekit").astype(dict)
        return {f"edgekit.{key}": str(value.value) for key, value in entries.items()}

    def close(self) -> None:
        self._request = self._model = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _spec(port: Any) -> TensorSpec:
    return TensorSpec(name=port.get_any_name(), shape=tuple(port.shape))


def load(path: Path, threads: int) -> Runner:
    """Loads an `.xml` file and the `.bin` beside it."""
    core = openvino.Core()
    try:
        model = core.read_model(str(path))
        hints = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY", **_runtime_options(model)}
        compiled = core.compile_model(model, "CPU", hints)
    except Exception as error:
        raise ArtifactError(f"OpenVINO does not load {path.name}: {first_line(error)}") from error
    return OpenVinoRunner(model, compiled)


def _runtime_options(model: Any) -> dict[str, str]:
    """The options the file carries; passed on by hand, so that no version of the runtime can overlook them."""
    if not model.has_rt_info("runtime_options"):
        return {}
    entries = model.get_rt_info("runtime_options").astype(dict)
    return {key: str(value.value) for key, value in entries.items()}
