"""Writing TFLite flatbuffers, constants aligned to 16 bytes as the format demands and ARM kernels rely on."""

from typing import Any

import flatbuffers
import numpy as np

CONSTANT_ALIGNMENT = 16
FILE_IDENTIFIER = b"TFL3"

_ROOM = 1 << 16
"""Bytes to begin with; a builder grows as it needs to."""


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


def pack(model: Any) -> bytes:
    """The bytes of a `.tflite` file, given its `ModelT`."""
    builder = _AlignedBuilder(_ROOM)
    builder.Finish(model.Pack(builder), FILE_IDENTIFIER)
    return bytes(builder.Output())
