"""TFLite through litert-torch, without TensorFlow.

Input and output are named in the file's signature. The metadata goes into the flatbuffer's own metadata table, which
means writing the file anew; constants are aligned to 16 bytes there, as the format demands and ARM kernels rely on.
"""

from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from torch import Tensor, nn

from edgekit.errors import ConverterError, first_line, root_cause
from edgekit.exporters.base import Candidate, ExportSpec
from edgekit.program import Program, as_tuple

CONSTANT_ALIGNMENT = 16
FILE_IDENTIFIER = b"TFL3"


def export(program: Program, spec: ExportSpec, folder: Path, stem: str) -> tuple[Candidate, ...]:
    """Writes `<stem>.tflite`, input and output laid out as in torch."""
    import litert_torch

    examples = dict(zip((wanted.name for wanted in spec.inputs), spec.examples(), strict=True))
    try:
        converted = litert_torch.convert(_Named(program, spec).eval(), sample_kwargs=examples)
    except Exception as error:
        raise ConverterError(f"litert-torch could not convert the program: {first_line(root_cause(error))}") from error
    path = folder / f"{stem}.tflite"
    path.write_bytes(with_metadata(converted.model_content(), spec))
    return (Candidate((path,), "flatbuffer"),)


class _Named(nn.Module):
    """The program with its inputs as keywords and its outputs in a dictionary, from which the file takes its names."""

    def __init__(self, program: Program, spec: ExportSpec) -> None:
        super().__init__()
        self.program = program
        self.spec = spec

    def forward(self, **inputs: Tensor) -> dict[str, Tensor]:
        outputs = as_tuple(self.program(*(inputs[wanted.name] for wanted in self.spec.inputs)))
        return {wanted.name: output for wanted, output in zip(self.spec.outputs, outputs, strict=True)}


class _AlignedBuilder(flatbuffers.Builder):  # type: ignore[misc]
    """Aligns byte vectors, which hold the constants, to what the schema asks for; flatbuffers in Python does not."""

    def CreateNumpyVector(self, x: np.ndarray[Any, Any]) -> int:  # noqa: N802 - overrides flatbuffers' name
        if x.dtype != np.uint8:
            return int(super().CreateNumpyVector(x))
        self.StartVector(1, x.size, CONSTANT_ALIGNMENT)
        start: int = self.head - x.size  # type: ignore[has-type]
        self.head = start
        self.Bytes[start : start + x.size] = x.tobytes()
        self.vectorNumElems = x.size
        return int(self.EndVector())


def with_metadata(content: bytes, spec: ExportSpec) -> bytes:
    """Rewrites a flatbuffer with edgekit's metadata and a description that names the model."""
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    model.description = spec.metadata.get("edgekit.model", "model")
    for key, value in spec.metadata.items():
        buffer = schema.BufferT()
        data = np.frombuffer(value.encode(), dtype=np.uint8)
        buffer.data = data  # pyright: ignore[reportAttributeAccessIssue] - declared a list; packing takes arrays too
        model.buffers = [*(model.buffers or ()), buffer]
        entry = schema.MetadataT()
        entry.name, entry.buffer = key, len(model.buffers) - 1
        model.metadata = [*(model.metadata or ()), entry]
    builder = _AlignedBuilder(len(content) + (1 << 16))
    builder.Finish(model.Pack(builder), FILE_IDENTIFIER)
    return bytes(builder.Output())
