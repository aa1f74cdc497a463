"""MNN: a module on the CPU, in full precision.

What the exporter found the network to need is in the file: the shapes of its outputs, and how far MNN may go with
Winograd's algorithm, which is fast and rounds more.
"""

from __future__ import annotations

from typing import Any, Mapping

from edgekit.targets.shipped.description import read_description

PRECISION_HIGH = 1
WINOGRAD_MEMORY_LEVEL = 3
"""Number of the hint among MNN's."""

LEVEL_KEY = "winograd_memory_level"


class MnnModel:
    """A module of MNN."""

    kernels = "precision high"

    def __init__(self, files: list[str], threads: int) -> None:
        import MNN

        self._mnn: Any = MNN
        # Without names of inputs and outputs MNN takes all there are.
        described = read_description(self._mnn.nn.load_module_from_file(files[0], [], []).get_info()["bizCode"])
        settings = {"backend": "CPU", "numThread": threads, "precision": PRECISION_HIGH}
        manager = self._mnn.nn.create_runtime_manager((settings,))
        if LEVEL_KEY in described["settings"]:
            manager.set_hint(WINOGRAD_MEMORY_LEVEL, described["settings"][LEVEL_KEY])
        self._module = self._mnn.nn.load_module_from_file(files[0], [], [], runtime_manager=manager)
        information = self._module.get_info()
        self._order: list[str] = information["inputNames"]
        self._names: list[str] = information["outputNames"]
        self._shapes = {each["name"]: each["shape"] for each in described["outputs"]}
        self.inputs = sorted(self._order)
        self._given: list[Any] = []
        self._results: list[Any] = []

    def bind(self, inputs: Mapping[str, Any]) -> None:
        const, layout = self._mnn.expr.const, self._mnn.expr.NCHW
        self._given = [const(inputs[name], list(inputs[name].shape), layout) for name in self._order]

    def run(self) -> None:
        self._results = self._module.forward(self._given)

    def outputs(self) -> list[tuple[str, Any]]:
        return [(name, self._read(name, value)) for name, value in zip(self._names, self._results)]

    def _read(self, name: str, value: Any) -> Any:
        import numpy as np

        values = np.array(self._mnn.expr.convert(value, self._mnn.expr.NCHW).read())
        return values.reshape(self._shapes[name]) if name in self._shapes else values
