"""torch itself, on the CPU and in float32: what a `.pt2` file computes in the framework it came from.

A file is read only when that runs no code of it (see `edgekit.archive`), because a bundle may come from anywhere.
torch keeps one number of threads for the whole process; it is set for the time of a run.

Its profile is that of `torch.profiler`. What the program calls comes in the program's order, which is what ties the two
together.
"""

import io
import json
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.export import ExportedProgram

from edgekit.archive import reason_for_distrust
from edgekit.artifact import TensorSpec
from edgekit.errors import ArtifactError, EnvironmentProblemError, first_line
from edgekit.runners.base import PROFILE_WARM_UP, OperatorTime, Profile, Runner, Tensors, check_inputs, milliseconds

EXTRA_FILE = "edgekit.json"
"""Where the exporter leaves names and metadata; a file without it has torch's names and no metadata."""


class TorchRunner:
    """A program of `torch.export`, as a module."""

    def __init__(self, exported: ExportedProgram, described: Mapping[str, Any], threads: int) -> None:
        signature = exported.graph_signature
        values = {node.name: node.meta.get("val") for node in exported.graph.nodes}
        self.inputs = _specs(signature.user_inputs, values, described.get("inputs"))
        self.outputs = _specs(signature.user_outputs, values, described.get("outputs"))
        self._metadata = {str(key): str(value) for key, value in described.get("metadata", {}).items()}
        self._module: Any = exported.module()
        self._calls = [
            (node.name, str(node.target._schema.name))  # noqa: SLF001 - where ATen keeps its names
            for node in exported.graph.nodes
            if node.op == "call_function" and isinstance(node.target, torch._ops.OpOverload)  # noqa: SLF001
        ]
        self._threads = threads

    def run(self, inputs: Mapping[str, NDArray[np.float32]]) -> Tensors:
        check_inputs(self.inputs, inputs)
        given = self._tensors(inputs)
        with torch.no_grad(), _threads(self._threads):
            result = self._module(*given)
        tensors = (result,) if isinstance(result, Tensor) else tuple(result)
        return {spec.name: value.numpy().copy() for spec, value in zip(self.outputs, tensors, strict=True)}

    def _tensors(self, inputs: Mapping[str, NDArray[np.float32]]) -> list[Tensor]:
        return [torch.tensor(np.ascontiguousarray(inputs[spec.name])) for spec in self.inputs]

    def profile(self, inputs: Mapping[str, NDArray[np.float32]], runs: int) -> Profile:
        check_inputs(self.inputs, inputs)
        run = partial(self._module, *self._tensors(inputs))
        with torch.no_grad(), _threads(self._threads):
            for _ in range(PROFILE_WARM_UP):
                run()
            with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
                taken = [milliseconds(run) for _ in range(runs)]
        times = _times(profiler, [kind for _, kind in self._calls], runs)
        rows = zip(self._calls, times, strict=True)
        return Profile(tuple(OperatorTime(name, kind, values, (name,)) for (name, kind), values in rows), tuple(taken))

    def metadata(self) -> dict[str, str]:
        return dict(self._metadata)

    def close(self) -> None:
        self._module = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _times(profiler: torch.profiler.profile, calls: list[str], runs: int) -> list[tuple[float, ...]]:
    """Milliseconds of each call of a program in each run; calls that torch's operators make among them do not count.

    Raises:
        EnvironmentProblemError: What was recorded is not what the program calls.
    """
    recorded: Any = profiler  # what it gives is not annotated
    events = [event for event in recorded.events() or () if event.cpu_parent is None and event.name in calls]
    events.sort(key=lambda event: event.time_range.start)
    if [event.name for event in events] != calls * runs:
        raise EnvironmentProblemError(
            f"torch {torch.__version__} recorded {len(events)} calls where the program makes {len(calls) * runs}, so "
            "its profile cannot be read. Use the version of constraints.txt."
        )
    times = [1e-3 * event.cpu_time_total for event in events]
    return [tuple(times[place :: len(calls)]) for place in range(len(calls))]


def _specs(names: Collection[Any], values: Mapping[str, Any], called: list[str] | None) -> tuple[TensorSpec, ...]:
    """The tensors of a program's signature, under the names the exporter gave them.

    Raises:
        ValueError: There are not as many names as tensors.
        TypeError: One is no tensor.
    """
    specs = []
    for own, name in zip(names, called or names, strict=True):
        value = values.get(own)
        if not isinstance(value, Tensor):
            raise TypeError(f"{own} is no tensor")
        specs.append(TensorSpec(name=name, shape=tuple(value.shape), dtype=str(value.dtype).removeprefix("torch.")))
    return tuple(specs)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Lets torch compute on this many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def load(path: Path, threads: int) -> Runner:
    """Loads a `.pt2` file."""
    extra = {EXTRA_FILE: ""}
    try:
        content = path.read_bytes()  # read once, so that what was checked is what is loaded
        reason = reason_for_distrust(io.BytesIO(content))
        if reason is None:
            exported = torch.export.load(io.BytesIO(content), extra_files=extra)
            return TorchRunner(exported, json.loads(extra[EXTRA_FILE] or "{}"), threads)
    except Exception as error:
        raise ArtifactError(f"torch does not load {path.name}: {first_line(error)}") from error
    raise ArtifactError(f"torch does not load {path.name}: reading it could run code in it, for {reason}.")
