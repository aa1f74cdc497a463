"""Tensors as raw little-endian bytes in files, with numpy where there is one."""

from __future__ import annotations

from typing import Any, BinaryIO

CODES = {"float32": "f", "float64": "d", "int8": "b", "uint8": "B", "int32": "i", "int64": "q"}
"""Type of an element to its letter in `struct`'s and `memoryview`'s language."""


def read_array(path: str, dtype: str, shape: list[int]) -> Any:
    """A numpy array, or a memoryview of the same shape where numpy is not installed."""
    with open(path, "rb") as file:
        content = bytearray(file.read())
    try:
        import numpy as np
    except ImportError:
        view: Any = memoryview(content)
        return view.cast(CODES[dtype], shape)
    return np.frombuffer(content, dtype=dtype).reshape(shape)


def write_array(file: BinaryIO, name: str, array: Any) -> dict[str, Any]:
    """Appends a tensor to a file, and says where it is: its name, type, shape and offset in bytes."""
    view: Any = memoryview(array)
    code = view.format.lstrip("<=@")
    dtype = next((known for known, letter in CODES.items() if letter == code), None)
    if dtype is None and code == "l":  # a C long, which numpy uses for int64 on 64-bit systems and int32 on others
        dtype = f"int{8 * view.itemsize}"
    if dtype is None:
        raise TypeError(f"output {name!r} has elements of the unknown type {view.format!r}")
    place = {"name": name, "dtype": dtype, "shape": list(view.shape), "offset": file.tell()}
    file.write(view.tobytes())
    return place
