"""ncnn: a network from its `.param` and `.bin` files, for one image at a time, in float32.

What the exporter found the network to need is in the last line of the `.param` file: the shapes of its outputs, which
ncnn has without the batch, and which of ncnn's faster but less exact algorithms are to be left out.
"""

from __future__ import annotations

import os
from typing import Any, Mapping

from edgekit.targets.shipped.description import read_description

MARK = "# edgekit "
NARROWER = (
    *("use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic"),
    *("use_bf16_packed", "use_bf16_storage", "use_vulkan_compute"),
)
"""Options that let ncnn compute in less than float32; a version may lack some."""

CHOICES = ("use_winograd_convolution", "use_winograd43_convolution", "use_winograd63_convolution")
"""Options that a file may set."""


class NcnnModel:
    """A network of ncnn."""

    kernels = "fp32"

    def __init__(self, files: list[str], threads: int) -> None:
        import ncnn

        self._ncnn: Any = ncnn
        self._net = self._ncnn.Net()
        described = _describe(files[0])
        self._shapes = {each["name"]: each["shape"] for each in described["outputs"]}
        self._set(threads, described["settings"])
        for file, load in zip(files, (self._net.load_param, self._net.load_model)):
            if load(file) != 0:
                raise ValueError(f"ncnn does not read {os.path.basename(file)}")
        self.inputs = sorted(self._net.input_names())
        self._names = list(self._net.output_names())
        self._given: dict[str, Any] = {}
        self._results: list[Any] = []

    def _set(self, threads: int, settings: Mapping[str, int]) -> None:
        options = self._net.opt
        options.num_threads = threads
        for option in NARROWER:
            if hasattr(options, option):
                setattr(options, option, False)
        for option in CHOICES:
            if option in settings:
                setattr(options, option, bool(settings[option]))

    def bind(self, inputs: Mapping[str, Any]) -> None:
        for name, array in inputs.items():
            if array.shape[0] != 1:
                raise ValueError(f"ncnn takes batches of one, and {name!r} is one of {array.shape[0]}")
        self._given = {name: self._ncnn.Mat(_without_batch(array)).clone() for name, array in inputs.items()}

    def run(self) -> None:
        extractor = self._net.create_extractor()
        for name, mat in self._given.items():
            extractor.input(name, mat)
        self._results = [extractor.extract(name)[1] for name in self._names]

    def outputs(self) -> list[tuple[str, Any]]:
        return [(name, _shaped(mat, self._shapes.get(name))) for name, mat in zip(self._names, self._results)]


def _describe(param: str) -> dict[str, Any]:
    with open(param, encoding="utf-8") as file:
        _, mark, text = file.read().rstrip().rpartition(MARK)
    return read_description(text if mark else "")


def _without_batch(array: Any) -> Any:
    view: Any = memoryview(array)
    return view.cast("B").cast(view.format, view.shape[1:])


def _shaped(mat: Any, shape: list[int] | None) -> Any:
    """What a matrix holds in the shape it should have, which is at least with the batch that ncnn leaves out."""
    view: Any = memoryview(mat)
    return memoryview(bytearray(view.tobytes())).cast(view.format, tuple(shape or (1, *view.shape)))
