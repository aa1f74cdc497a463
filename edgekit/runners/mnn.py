"""MNN on the CPU, in float32.

Precision is asked to be `high`: MNN otherwise computes in half precision on processors that have it. Whether it may use
Winograd's algorithm, which rounds more than a direct convolution does, the file's description says.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import MNN
import numpy as np
from numpy.typing import NDArray

from edgekit.errors import ArtifactError, EnvironmentProblemError, first_line, root_cause
from edgekit.runners.base import Description, Profile, Runner, Tensors, check_inputs, read_description

_mnn: Any = MNN  # compiled, and says nothing of its types

_PRECISION_HIGH = 1
_WINOGRAD_MEMORY_LEVEL = 3
"""A hint of `Interpreter.HintMode`, which MNN's Python package takes by number."""


class MnnRunner:
    """A module of MNN, and what the exporter wrote about it."""

    def __init__(self, module: Any, described: Description) -> None:
        information = module.get_info()
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

    def profile(self, inputs: Mapping[str, NDArray[np.float32]], runs: int) -> Profile:  # noqa: ARG002 - the contract
        raise EnvironmentProblemError("MNN's Python package has no profiler. Profile another format of the bundle.")

    def metadata(self) -> dict[str, str]:
        return dict(self._metadata)

    def close(self) -> None:
        self._module = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def load(path: Path, threads: int) -> Runner:
    """Loads a `.mnn` file."""
    settings = {"backend": "CPU", "numThread": threads, "precision": _PRECISION_HIGH}
    try:
        # Without names of inputs and outputs MNN takes all there are.
        described = read_description(_mnn.nn.load_module_from_file(str(path), [], []).get_info()["bizCode"])
        manager = _mnn.nn.create_runtime_manager((settings,))
        manager.set_hint(_WINOGRAD_MEMORY_LEVEL, described.settings["winograd_memory_level"])
        return MnnRunner(_mnn.nn.load_module_from_file(str(path), [], [], runtime_manager=manager), described)
    except Exception as error:
        raise ArtifactError(f"MNN does not load {path.name}: {first_line(root_cause(error))}") from error
