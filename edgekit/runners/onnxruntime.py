"""ONNX Runtime on the CPU.

Its profile is the trace that `enable_profiling` leaves, and the graph it made of the file, which tells what each of its
operators reads and gives: some have names of their own, and some are in no file, such as changes of the memory layout.
"""

import json
import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from edgekit.artifact import TensorSpec
from edgekit.errors import ArtifactError, first_line
from edgekit.runners.base import PROFILE_WARM_UP, OperatorTime, Profile, Runner, Tensors, check_inputs, milliseconds

_TIMED = "_kernel_time"
"""What a trace appends to the name of an operator."""


class OnnxRuntimeRunner:
    """A session of ONNX Runtime."""

    def __init__(self, session: Any, path: Path, threads: int) -> None:
        self._session: Any = session
        self._path, self._threads = path, threads
        self.inputs = tuple(TensorSpec(name=i.name, shape=tuple(i.shape)) for i in session.get_inputs())
        self.outputs = tuple(TensorSpec(name=o.name, shape=tuple(o.shape)) for o in session.get_outputs())

    def run(self, inputs: Mapping[str, NDArray[np.float32]]) -> Tensors:
        check_inputs(self.inputs, inputs)
        names = [spec.name for spec in self.outputs]
        return dict(zip(names, self._session.run(names, dict(inputs)), strict=True))

    def profile(self, inputs: Mapping[str, NDArray[np.float32]], runs: int) -> Profile:
        check_inputs(self.inputs, inputs)
        with tempfile.TemporaryDirectory() as folder:
            options = _options(self._threads)
            options.enable_profiling, options.profile_file_prefix = True, f"{folder}/trace"
            options.optimized_model_filepath = f"{folder}/optimized.onnx"
            session = onnxruntime.InferenceSession(str(self._path), options, providers=["CPUExecutionProvider"])
            run = partial(session.run, None, dict(inputs))
            taken = [milliseconds(run) for _ in range(PROFILE_WARM_UP + runs)][PROFILE_WARM_UP:]
            trace = json.loads(Path(session.end_profiling()).read_bytes())
            tensors = _tensors(Path(options.optimized_model_filepath))
        return Profile(tuple(_operators(trace, tensors, runs)), tuple(taken))

    def metadata(self) -> dict[str, str]:
        return dict(self._session.get_modelmeta().custom_metadata_map)

    def close(self) -> None:
        self._session = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _tensors(path: Path) -> dict[str, tuple[tuple[str, ...], tuple[str, ...]]]:
    """What each node of an ONNX file reads and gives."""
    import onnx  # a board that only runs artifacts has none

    nodes = onnx.load(path).graph.node
    return {node.name: (tuple(filter(None, node.input)), tuple(node.output)) for node in nodes}


def _operators(
    trace: list[dict[str, Any]], tensors: dict[str, tuple[tuple[str, ...], tuple[str, ...]]], runs: int
) -> list[OperatorTime]:
    """One row per operator, with its times in the last runs."""
    times: dict[str, list[float]] = {}
    kinds: dict[str, str] = {}
    for event in trace:
        if event["cat"] == "Node" and event["name"].endswith(_TIMED):
            name = event["name"].removesuffix(_TIMED)
            times.setdefault(name, []).append(1e-3 * event["dur"])
            kinds[name] = event["args"]["op_name"]
    return [
        OperatorTime(name, kinds[name], tuple(taken[-runs:]), (name,), *tensors.get(name, ((), ())))
        for name, taken in times.items()
    ]


def _options(threads: int) -> Any:
    """How a session is set up."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return options


def load(path: Path, threads: int) -> Runner:
    """Loads an `.onnx` file."""
    return _load(path, threads, _options(threads))


def load_beside(path: Path, threads: int) -> Runner:
    """Loads an `.onnx` file beside which others run: threads without work leave the processors to these."""
    options = _options(threads)
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return _load(path, threads, options)


def _load(path: Path, threads: int, options: Any) -> Runner:
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise ArtifactError(f"ONNX Runtime does not load {path.name}: {first_line(error)}") from error
    return OnnxRuntimeRunner(session, path, threads)
