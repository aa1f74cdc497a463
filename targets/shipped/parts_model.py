"""A network in parts on a board: every part is a model of the runtime, and as many run at once as there are threads."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable, Mapping

from edgekit.targets.shipped.parts import SUFFIX, read_parts, run_parts, threads_of

Load = Callable[[Any, int], Any]
"""Files, the loadable one first, and threads, to a model."""


class PartsModel:
    """The parts of one network, behind the calls of a model."""

    def __init__(self, load: Load, files: list[str], threads: int) -> None:
        described = read_parts(files[0])
        places = {os.path.basename(file): file for file in files}
        self._wires = [(each["inputs"], each["outputs"]) for each in described["parts"]]
        self._models = [
            load([places[name] for name in each["files"]], count)
            for each, count in zip(described["parts"], threads_of(self._wires, threads))
        ]
        self._pool = ThreadPoolExecutor(threads) if threads > 1 else None
        self._sources = dict(zip((each["name"] for each in described["outputs"]), described["returns"]))
        self.inputs = sorted(each["name"] for each in described["inputs"])
        self.kernels = " ".join(sorted({model.kernels for model in self._models}))
        self._given: dict[str, Any] = {}
        self._values: dict[str, Any] = {}

    def bind(self, inputs: Mapping[str, Any]) -> None:
        unknown = sorted(set(inputs) - set(self.inputs))
        if unknown:
            raise ValueError(f"there is no input {unknown[0]!r}")
        self._given = dict(inputs)

    def run(self) -> None:
        self._values = dict(self._given)
        run_parts(self._wires, self._values, self._run_part, self._pool)

    def _run_part(self, number: int, given: Mapping[str, Any]) -> dict[str, Any]:
        model = self._models[number]
        model.bind(given)
        model.run()
        return dict(model.outputs())

    def outputs(self) -> list[tuple[str, Any]]:
        return [(name, self._values[source]) for name, source in self._sources.items()]


def load_any(loads: tuple[Load, Load], files: list[str], threads: int) -> Any:
    """A model of one file, or of parts where that is what the first file describes; each is loaded in its own way."""
    load, load_beside = loads
    return PartsModel(load_beside, files, threads) if files[0].endswith(SUFFIX) else load(files, threads)
