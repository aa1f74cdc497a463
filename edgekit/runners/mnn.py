"""MNN on the CPU, in float32.

Two settings are not in the file, and are set here. Precision `high`: MNN otherwise computes in half precision on
processors that have it. WINOGRAD_MEMORY_LEVEL 1: the default takes Winograd's algorithm with large tiles, whose
transforms round so much that ParNet-S comes out at 80 dB, and costs some 15 % less time.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import MNN
import numpy as np
from numpy.typing import NDArray

from edgekit.errors import ArtifactError, EnvironmentProblemError, first_line, root_cause
from edgekit.runners.base import Profile, Runner, Tensors, check_inputs, read_description

_PRECISION_HIGH = 1
_WINOGRAD_MEMORY_LEVEL, _SMALL_TILES = 3, 1
"""A hint of `Interpreter.HintMode`, which MNN's Python package takes by number, and its value."""


class MnnRunner:
    """A module of MNN, and what the exporter wrote about it."""

    def __init__(self, module: Any) -> None:
        information = module.get_info()
        self._module: Any = module
        self._described = read_description(information["bizCode"])
        self._inputs: list[str] = information["inputNames"]
        self._outputs: list[str] = information["outputNames"]
        self.inputs = self._described.inputs
        self.outputs = self._described.outputs

    def run(self, inputs: Mapping[str, NDArray[np.float32]]) -> Tensors:
        check_inputs(self.inputs, inputs)
        given = [
            MNN.expr.const(np.ascontiguousarray(inputs[name]), [*inputs[name].shape], MNN.expr.NCHW)
            for name in self._inputs
        ]
        results = dict(zip(self._outputs, self._module.forward(given), strict=True))
        return {
            spec.name: np.array(MNN.expr.convert(results[spec.name], MNN.expr.NCHW).read()).reshape(spec.shape)
            for spec in self.outputs
        }

    def profile(self, inputs: Mapping[str, NDArray[np.float32]], runs: int) -> Profile:  # noqa: ARG002 - the contract
        raise EnvironmentProblemError("MNN's Python package has no profiler. Profile another format of the bundle.")

    def metadata(self) -> dict[str, str]:
        return dict(self._described.metadata)

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
        manager = MNN.nn.create_runtime_manager((settings,))
        manager.set_hint(_WINOGRAD_MEMORY_LEVEL, _SMALL_TILES)
        # Without names of inputs and outputs MNN takes all there are.
        return MnnRunner(MNN.nn.load_module_from_file(str(path), [], [], runtime_manager=manager))
    except Exception as error:
        raise ArtifactError(f"MNN does not load {path.name}: {first_line(root_cause(error))}") from error
