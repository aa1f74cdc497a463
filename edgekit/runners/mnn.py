"""MNN on the CPU, in float32.

Precision is asked to be `high`: MNN otherwise computes in half precision on processors that have it. Whether it may use
Winograd's algorithm, which rounds more than a direct convolution does, the file's description says.

Its profile is taken in Python, in callbacks that MNN's sessions make before and after every operator.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from time import perf_counter_ns
from typing import Any, Self

import MNN
import numpy as np
from numpy.typing import NDArray

from edgekit.errors import ArtifactError, first_line, root_cause
from edgekit.runners.base import (
    PROFILE_WARM_UP,
    Description,
    OperatorTime,
    Profile,
    Runner,
    Tensors,
    check_inputs,
    milliseconds,
    read_description,
)

_mnn: Any = MNN  # compiled, and says nothing of its types

_PRECISION_HIGH = 1
_WINOGRAD_MEMORY_LEVEL = 3
"""A hint of `Interpreter.HintMode`, which MNN's Python package takes by number."""


_LEVEL = "winograd_memory_level"
"""What the file's description calls its value."""


class MnnRunner:
    """A module of MNN, and what the exporter wrote about it."""

    def __init__(self, module: Any, described: Description, path: Path, threads: int) -> None:
        information = module.get_info()
        self._path, self._threads, self._level = path, threads, described.settings[_LEVEL]
        self._module: Any = module
        self._metadata = described.metadata
        self._inputs: list[str] = information["inputNames"]
        self._outputs: list[str] = information["outputNames"]
        self.inputs = described.inputs
        self.outputs = described.outputs

    def run(self, inputs: Mapping[str, NDArray[np.float32]]) -> Tensors:
        check_inputs(self.inputs, inputs)
        given = [
            _mnn.expr.const(np.ascontiguousarray(inputs[name]), [*inputs[name].shape], _mnn.expr.NCHW)
            for name in self._inputs
        ]
        results = dict(zip(self._outputs, self._module.forward(given), strict=True))
        return {
            spec.name: np.array(_mnn.expr.convert(results[spec.name], _mnn.expr.NCHW).read()).reshape(spec.shape)
            for spec in self.outputs
        }

    def profile(self, inputs: Mapping[str, NDArray[np.float32]], runs: int) -> Profile:
        check_inputs(self.inputs, inputs)
        interpreter, session = _session(self._path, self._threads, self._level)
        for name, tensor in interpreter.getSessionInputAll(session).items():
            values = np.ascontiguousarray(inputs[name])
            tensor.copyFrom(_mnn.Tensor(values.shape, _mnn.Halide_Type_Float, values, _mnn.Tensor_DimensionType_Caffe))
        times: dict[str, list[float]] = {}
        kinds: dict[str, str] = {}
        started = [0]

        def begin(tensors: object, operator: Any) -> bool:  # noqa: ARG001 - MNN's signature
            started[0] = perf_counter_ns()
            return True

        def end(tensors: object, operator: Any) -> bool:  # noqa: ARG001 - MNN's signature
            ms = 1e-6 * (perf_counter_ns() - started[0])
            times.setdefault(operator.getName(), []).append(ms)
            kinds[operator.getName()] = operator.getType()
            return True

        run = partial(interpreter.runSessionWithCallBackInfo, session, begin, end)
        taken = [milliseconds(run) for _ in range(PROFILE_WARM_UP + runs)][PROFILE_WARM_UP:]
        return Profile(
            tuple(OperatorTime(name, kinds[name], tuple(each[-runs:]), (name,)) for name, each in times.items()),
            tuple(taken),
        )

    def metadata(self) -> dict[str, str]:
        return dict(self._metadata)

    def close(self) -> None:
        self._module = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _session(path: Path, threads: int, level: int) -> tuple[Any, Any]:
    """The file in MNN's other interface, which has the callbacks, set up the same way."""
    interpreter = _mnn.Interpreter(str(path))
    interpreter.setSessionHint(_WINOGRAD_MEMORY_LEVEL, level)
    return interpreter, interpreter.createSession({"backend": "CPU", "numThread": threads, "precision": "high"})


def load(path: Path, threads: int) -> Runner:
    """Loads a `.mnn` file."""
    settings = {"backend": "CPU", "numThread": threads, "precision": _PRECISION_HIGH}
    try:
        # Without names of inputs and outputs MNN takes all there are.
        described = read_description(_mnn.nn.load_module_from_file(str(path), [], []).get_info()["bizCode"])
        manager = _mnn.nn.create_runtime_manager((settings,))
        manager.set_hint(_WINOGRAD_MEMORY_LEVEL, described.settings[_LEVEL])
        module = _mnn.nn.load_module_from_file(str(path), [], [], runtime_manager=manager)
        return MnnRunner(module, described, path, threads)
    except Exception as error:
        raise ArtifactError(f"MNN does not load {path.name}: {first_line(root_cause(error))}") from error
