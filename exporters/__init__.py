"""Program to files, one module per format.

`EXPORTERS` is the whole list. An exporter is loaded only when it is used, so the table costs no framework.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import cast

from edgekit.exporters.base import Export


@dataclass(frozen=True, slots=True)
class Exporter:
    """One row of the table.

    Attributes:
        format: Name of the format.
        runtime: The runtime whose lowered copy of the program is exported, and in which the result is verified.
        suffixes: Endings of the files, the loadable one first.
        module: Where `export` is.
        packages: Distributions whose versions decide the bytes.
        extra: The edgekit extra that installs them, None when they are always there.
    """

    format: str
    runtime: str
    suffixes: tuple[str, ...]
    module: str
    packages: tuple[str, ...]
    extra: str | None = None

    def load(self) -> Export:
        """Imports the export function, and with it the format's framework."""
        return cast("Export", import_module(self.module).export)


EXPORTERS: Mapping[str, Exporter] = {
    entry.format: entry
    for entry in (
        Exporter(
            format="onnx",
            runtime="onnxruntime",
            suffixes=(".onnx",),
            module="edgekit.exporters.onnx",
            packages=("onnx", "onnxscript", "onnxsim", "onnxruntime"),
        ),
        Exporter(
            format="openvino",
            runtime="openvino",
            suffixes=(".xml", ".bin"),
            module="edgekit.exporters.openvino",
            packages=("openvino",),
            extra="openvino",
        ),
        Exporter(
            format="tflite",
            runtime="tflite",
            suffixes=(".tflite",),
            module="edgekit.exporters.tflite",
            packages=("litert-torch", "litert-converter", "ai-edge-litert", "flatbuffers"),
            extra="tflite",
        ),
        Exporter(
            format="mnn",
            runtime="mnn",
            suffixes=(".mnn",),
            module="edgekit.exporters.mnn",
            packages=("mnn", "onnx", "onnxscript"),
            extra="mnn",
        ),
        Exporter(
            format="ncnn",
            runtime="ncnn",
            suffixes=(".ncnn.param", ".ncnn.bin"),
            module="edgekit.exporters.ncnn",
            packages=("ncnn", "pnnx"),
            extra="ncnn",
        ),
        Exporter(
            format="pt2",
            runtime="torch",
            suffixes=(".pt2",),
            module="edgekit.exporters.pt2",
            packages=("torch",),
        ),
    )
}
"""Format to exporter, in the order in which they run."""
