"""MNN's compiled tools, which make other files of a file; see `mnn_converter` for how they are called."""

import hashlib
import re
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import MNN

from edgekit.errors import ConverterError
from edgekit.process import Finished, run_script

_mnn: Any = MNN  # compiled, and says nothing of its types

CONVERTER = Path(__file__).with_name("mnn_converter.py")

_RESULT = "net.mnn"


def convert(format_: str, source: Path, options: Sequence[str], scratch: Path, what: str) -> tuple[bytes, str]:
    """Runs the converter, and gives back the file and the identifier in it, which was drawn at random.

    Args:
        format_: Of the source, as the converter calls it.
        source: What to convert.
        options: More arguments.
        scratch: A folder to work in.
        what: What an error calls it.

    Raises:
        ConverterError: It failed, or crashed.
    """
    result = scratch / _RESULT
    done = run_script(
        CONVERTER, ["-f", format_, "--modelFile", str(source.resolve()), "--MNNModel", _RESULT, *options], scratch
    )
    if done.status or not result.is_file():
        raise ConverterError(f"MNN could not convert {what}: {reason(done)}")
    return result.read_bytes(), _mnn.get_model_uuid(str(result))


def reason(done: Finished) -> str:
    """What the converter said, or that it said nothing."""
    unsupported = re.search(r"These Op Not Support: (.*)", done.output)
    if unsupported:
        names = ", ".join(dict.fromkeys(re.findall(r"ONNX::(\w+)", unsupported[1])))
        return f"it has no {names}. Write that in other operators in the model, or choose other formats with --format."
    if done.crash:
        return f"its converter crashed ({done.crash}). Choose other formats with --format."
    said = [line.strip() for line in done.output.splitlines() if line.strip() and "Converted Failed" not in line]
    return f"{said[-1] if said else 'it gives no reason'}. Choose other formats with --format."


def with_fixed_identifier(content: bytes, identifier: str) -> bytes:
    """The file with an identifier that depends on its content alone."""
    blank = content.replace(identifier.encode(), b"0" * len(identifier))
    fixed = str(uuid.UUID(bytes=hashlib.sha256(blank).digest()[:16], version=4))
    return content.replace(identifier.encode(), fixed.encode())
