"""A job as it travels: files under their SHA-256, and a description that names them so."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgekit.errors import MisuseError
from edgekit.files import sha256
from edgekit.targets.job import Arrays, Job, Task
from edgekit.targets.link import Content

DTYPES = ("float32", "float64", "int8", "uint8", "int32", "int64")
"""What inputs may be made of; the runner knows no others."""

SETTINGS = ("measure", "repeats", "settle", "warmup", "threads")
"""What of a job the runner goes by; the rest is for whoever starts it."""


def pack(job: Job) -> tuple[dict[str, Content], bytes]:
    """Everything that a job needs, by SHA-256, and its description in JSON.

    Raises:
        MisuseError: The job cannot be carried out as it is.
    """
    _check(job)
    blobs: dict[str, Content] = {}
    tasks = [_pack_task(number, task, blobs) for number, task in enumerate(job.tasks)]
    settings = {name: getattr(job, name) for name in SETTINGS}
    return blobs, msgspec.json.encode({**settings, "tasks": tasks})


def _check(job: Job) -> None:
    keys = [task.key for task in job.tasks]
    if not keys:
        raise MisuseError("A job needs at least one artifact.")
    if len(set(keys)) < len(keys):
        raise MisuseError("Two artifacts of a job have the same key.")
    if job.measure == "instructions" and job.threads != 1:
        raise MisuseError("Instructions are counted with one thread; with more, those spent waiting are counted too.")
    for task in job.tasks:
        if not task.cases:
            raise MisuseError(f"Artifact {task.key} has no inputs to run on.")
        missing = [file for file in task.files if not file.is_file()]
        if missing or not task.files:
            raise MisuseError(f"Artifact {task.key} has no file {missing[0] if missing else 'at all'}.")


def _pack_task(number: int, task: Task, blobs: dict[str, Content]) -> dict[str, object]:
    files = [{"name": file.name, "sha256": _keep(blobs, file)} for file in task.files]
    cases = [{name: _pack_array(array, blobs) for name, array in case.items()} for case in task.cases]
    return {"number": number, "runtime": task.runtime, "turn": task.turn, "files": files, "cases": cases}


def _pack_array(array: NDArray[np.generic], blobs: dict[str, Content]) -> dict[str, object]:
    if array.dtype.name not in DTYPES:
        raise MisuseError(f"An input of {array.dtype} cannot be sent; known are {', '.join(DTYPES)}.")
    little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    return {"sha256": _keep(blobs, little.tobytes()), "dtype": array.dtype.name, "shape": list(array.shape)}


def _keep(blobs: dict[str, Content], content: Content) -> str:
    digest = sha256(content) if isinstance(content, Path) else hashlib.sha256(content).hexdigest()
    blobs[digest] = content
    return digest


def unpack_outputs(places: Sequence[Sequence[Mapping[str, Any]]], results: bytes) -> tuple[Arrays, ...]:
    """Tensors by name for every case, from where the runner says they are in its results."""
    return tuple({str(place["name"]): _array(place, results) for place in case} for case in places)


def _array(place: Mapping[str, Any], results: bytes) -> NDArray[np.generic]:
    where = msgspec.convert(place, _Place)
    dtype = np.dtype(where.dtype).newbyteorder("<")
    size = int(np.prod(where.shape, dtype=np.int64))
    flat = np.frombuffer(results, dtype, count=size, offset=where.offset)
    return flat.reshape(where.shape).astype(np.dtype(where.dtype))


class _Place(msgspec.Struct, frozen=True):
    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int
