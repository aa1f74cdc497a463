"""A network in parts: each is an artifact of its runtime, and those that do not wait for each other run side by side.

What a part takes and gives is in the description beside its file; `edgekit.partitioned` writes both. With several
threads a part that always runs alone gets all of them, and every other one of its own.
"""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import msgspec
from numpy.typing import NDArray

from edgekit.artifact import PartsDescription
from edgekit.errors import ArtifactError, MisuseError
from edgekit.runners.base import Load, Profile, Runner, Tensors, check_inputs
from edgekit.targets.shipped.parts import run_parts, threads_of


class PartsRunner:
    """The parts of one network, loaded."""

    def __init__(self, described: PartsDescription, runners: tuple[Runner, ...], threads: int, opened: ExitStack):
        self._described, self._runners, self._opened = described, runners, opened
        self._wires = [(part.inputs, part.outputs) for part in described.parts]
        self._pool = opened.enter_context(ThreadPoolExecutor(threads)) if threads > 1 else None
        self.inputs = described.inputs
        self.outputs = described.outputs

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> Tensors:
        check_inputs(self.inputs, inputs)
        values = dict(inputs)
        run_parts(self._wires, values, lambda number, given: self._runners[number].run(given), self._pool)
        names = (spec.name for spec in self.outputs)
        return {name: values[source] for name, source in zip(names, self._described.returns, strict=True)}

    def profile(self, inputs: Mapping[str, NDArray[Any]], runs: int) -> Profile:  # noqa: ARG002
        raise MisuseError("Parts have the operators of the whole network. Profile the whole artifact instead.")

    def metadata(self) -> dict[str, str]:
        return dict(self._described.metadata)

    def close(self) -> None:
        self._opened.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def load_parts(load: Load, path: Path, threads: int) -> Runner:
    """Loads a `.parts.json` file and the artifacts it names, which lie beside it.

    Raises:
        ArtifactError: It is damaged, or the runtime does not take one of its artifacts.
    """
    described = read_description(path)
    counts = threads_of([(part.inputs, part.outputs) for part in described.parts], threads)
    with ExitStack() as opening:
        runners = tuple(
            opening.enter_context(load(path.with_name(part.files[0]), count))
            for part, count in zip(described.parts, counts, strict=True)
        )
        return PartsRunner(described, runners, threads, opening.pop_all())


def read_description(path: Path) -> PartsDescription:
    """What a `.parts.json` file says.

    Raises:
        ArtifactError: It is damaged, or its parts are no network.
    """
    try:
        described = msgspec.json.decode(path.read_bytes(), type=PartsDescription)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ArtifactError(f"{path.name} does not describe the parts of a network: {error}.") from error
    if reason := _defect(described):
        raise ArtifactError(f"{path.name} does not describe the parts of a network: {reason}.")
    return described


def _defect(described: PartsDescription) -> str | None:
    """Why the parts cannot be run in their order."""
    there = {spec.name for spec in described.inputs}
    for part in described.parts:
        if outside := next((name for name in part.files if Path(name).name != name or name in ("", "..")), None):
            return f"{outside!a} is not the name of a file beside it"
        if not part.files:
            return f"part {part.name} has no file"
        if missing := sorted({*part.inputs} - there):
            return f"part {part.name} takes {missing[0]!r}, which nothing before it gives"
        there.update(part.outputs)
    if len(described.returns) != len(described.outputs) or not there.issuperset(described.returns):
        return "its outputs come from no part"
    return None
