"""TFLite through ai-edge-litert, with its XNNPACK kernels.

Its profile is LiteRT's own, in which XNNPACK reports its kernels in order, at a resolution of one microsecond, without
saying which operators of the file they compute.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self, cast

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray

from edgekit.artifact import TensorSpec
from edgekit.errors import ArtifactError, first_line
from edgekit.litert import KERNEL, Event, ProfiledModel
from edgekit.runners.base import PROFILE_WARM_UP, OperatorTime, Profile, Runner, Tensors, check_inputs, milliseconds


class TfliteRunner:
    """An interpreter driven through the file's signature, so that tensors go by name."""

    def __init__(self, path: Path, interpreter: Any, threads: int) -> None:
        self._path, self._threads = path, threads
        self._interpreter: Any = interpreter
        self._signature: Any = interpreter.get_signature_runner()
        self.inputs = _specs(self._signature.get_input_details())
        self.outputs = _specs(self._signature.get_output_details())

    def run(self, inputs: Mapping[str, NDArray[np.float32]]) -> Tensors:
        check_inputs(self.inputs, inputs)
        return dict(self._signature(**{spec.name: inputs[spec.name] for spec in self.inputs}))

    def profile(self, inputs: Mapping[str, NDArray[np.float32]], runs: int) -> Profile:
        check_inputs(self.inputs, inputs)
        with ProfiledModel(self._path, self._threads, inputs) as model:
            for _ in range(PROFILE_WARM_UP):
                model.run()
            taken: list[float] = []
            events = [model.profiled(lambda: taken.append(milliseconds(model.run))) for _ in range(runs)]
        return Profile(
            tuple(_operator(number, same) for number, same in enumerate(zip(*events, strict=True))), tuple(taken)
        )

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


def _operator(number: int, runs: tuple[Event, ...]) -> OperatorTime:
    """The row of the operator that ran at this place in every run."""
    first = runs[0]
    # A kernel of TFLite's own has the operator's place in the file; XNNPACK's has none.
    origins = (f"{first.index} {first.tag}",) if first.kind == KERNEL else ()
    times = tuple(1e-3 * event.microseconds for event in runs)
    return OperatorTime(f"{first.tag} #{number}", first.tag, times, origins)


def _specs(details: Mapping[str, Any]) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(name=name, shape=tuple(int(side) for side in detail["shape"])) for name, detail in details.items()
    )


def load(path: Path, threads: int) -> Runner:
    """Loads a `.tflite` file."""
    try:
        interpreter = Interpreter(model_path=str(path), num_threads=threads)
        interpreter.allocate_tensors()
        return TfliteRunner(path, interpreter, threads)
    except Exception as error:
        raise ArtifactError(f"TFLite does not load {path.name}: {first_line(error)}") from error
