"""OpenVINO on the CPU, with the arithmetic the file asks for.

Its profile is `get_profiling_info` of a model compiled with `PERF_COUNT`; the compiled graph tells which operations of
the file went into each kernel. OpenVINO reports a mean over all runs since it compiled the model, in whole
microseconds, so all that can be had is one mean over the runs after the warm-up, good to about a microsecond.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any, Self

import numpy as np
import openvino
from numpy.typing import NDArray

from edgekit.artifact import TensorSpec
from edgekit.errors import ArtifactError, first_line
from edgekit.runners.base import PROFILE_WARM_UP, OperatorTime, Profile, Runner, Tensors, check_inputs, milliseconds

_NO_KERNEL = frozenset({"Parameter", "Constant", "Result", "Input", "Const", "Output"})


class OpenVinoRunner:
    """A compiled OpenVINO model with one request."""

    def __init__(self, model: Any, compiled: Any, threads: int) -> None:
        self._model: Any = model
        self._threads = threads
        self._request: Any = compiled.create_infer_request()
        # The compiled model may have more names for a port, those of nodes that were merged into it.
        self.inputs = tuple(_spec(port) for port in model.inputs)
        self.outputs = tuple(_spec(port) for port in model.outputs)

    def run(self, inputs: Mapping[str, NDArray[np.float32]]) -> Tensors:
        check_inputs(self.inputs, inputs)
        results = self._request.infer({spec.name: inputs[spec.name] for spec in self.inputs})
        return {spec.name: np.array(results[index]) for index, spec in enumerate(self.outputs)}

    def profile(self, inputs: Mapping[str, NDArray[np.float32]], runs: int) -> Profile:
        check_inputs(self.inputs, inputs)
        compiled = _compile(self._model, self._threads, PERF_COUNT=True)
        request = compiled.create_infer_request()
        run = partial(request.infer, {spec.name: inputs[spec.name] for spec in self.inputs})
        for _ in range(PROFILE_WARM_UP):
            run()
        before = {entry.node_name: _microseconds(entry) for entry in request.get_profiling_info()}
        taken = [milliseconds(run) for _ in range(runs)]
        origins = _origins(compiled)
        operators = []
        for entry in request.get_profiling_info():
            name = entry.node_name
            if name in origins:  # the others went into one of these
                total = (PROFILE_WARM_UP + runs) * _microseconds(entry) - PROFILE_WARM_UP * before[name]
                kind = f"{entry.node_type} {entry.exec_type}"
                operators.append(OperatorTime(name, kind, (1e-3 * max(0.0, total / runs),), origins[name]))
        return Profile(tuple(operators), (fmean(taken),))

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


def _microseconds(entry: Any) -> float:
    """The time in an entry of the profile."""
    return 1e6 * float(entry.real_time.total_seconds())


def _origins(compiled: Any) -> dict[str, tuple[str, ...]]:
    """The operations of the file in each kernel; a kernel that only moves data has none."""
    origins = {}
    for node in compiled.get_runtime_model().get_ordered_ops():
        about = node.get_rt_info()
        if about["layerType"].astype(str) not in _NO_KERNEL:
            names = about["originalLayersNames"].astype(str).split(",")
            origins[node.get_friendly_name()] = tuple(filter(None, names))
    return origins


def _compile(model: Any, threads: int, **more: Any) -> Any:
    """Compiles a model the way every run is set up."""
    hints = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY", **_runtime_options(model), **more}
    return openvino.Core().compile_model(model, "CPU", hints)


def load(path: Path, threads: int) -> Runner:
    """Loads an `.xml` file and the `.bin` beside it."""
    return _load(path, threads)


def load_beside(path: Path, threads: int) -> Runner:
    """Loads an `.xml` file beside which others run: OpenVINO would pin the threads of all to the same processors."""
    return _load(path, threads, ENABLE_CPU_PINNING=False)


def _load(path: Path, threads: int, **more: Any) -> Runner:
    try:
        model = openvino.Core().read_model(str(path))
        return OpenVinoRunner(model, _compile(model, threads, **more), threads)
    except Exception as error:
        raise ArtifactError(f"OpenVINO does not load {path.name}: {first_line(error)}") from error


def _runtime_options(model: Any) -> dict[str, str]:
    """The options the file carries; passed on by hand, so that no version of the runtime can overlook them."""
    if not model.has_rt_info("runtime_options"):
        return {}
    entries = model.get_rt_info("runtime_options").astype(dict)
    return {key: str(value.value) for key, value in entries.items()}
