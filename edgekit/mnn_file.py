"""The operators and weights in a `.mnn` file: a flatbuffer of MNN's schema, of which this part matters here.

    Net               oplists 10
    Op                inputIndexes 4, main 8, name 10, outputIndexes 12, type 14
    Convolution2D     weight 6, quanParameter 10
    IDSTQuan          buffer 4, type 8                 type 3 for half floats, others for integers
    Blob              dataType 8, uint8s 10, float32s 18

A number is a field's place in the table of places ("vtable") that every table of a flatbuffer points to.

MNN's converter stores weights in fewer bits everywhere or nowhere: also the coefficients of polynomials, where half
floats cost a network 50 dB. `restored` gives operators their floats back. It appends these to the file, and for the
operator's table a table of places that says so: nothing that is there moves. Digits that half floats lack the converter
cuts off, which costs 10 dB against rounding to the nearest; `rounded` writes the better ones in their place.
"""

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Storage = Literal["float", "half", "integer"]


class Type(IntEnum):
    """Operators that hold constants, multiply with them, or only lay a tensor out anew."""

    CONST = 11
    CONVOLUTION = 12
    DEPTHWISE = 13
    DECONVOLUTION = 17
    DEPTHWISE_DECONVOLUTION = 18
    MATMUL = 39
    PERMUTE = 46
    RESHAPE = 73
    CONVERT = 129


CONVOLUTIONS = frozenset({Type.CONVOLUTION, Type.DEPTHWISE, Type.DECONVOLUTION, Type.DEPTHWISE_DECONVOLUTION})

LAYOUTS = frozenset({Type.PERMUTE, Type.RESHAPE, Type.CONVERT})

_OPERATORS = 10
_INPUTS, _MAIN, _NAME, _OUTPUTS, _TYPE = 4, 8, 10, 12, 14
_WEIGHT, _QUANTIZED = 6, 10
_BUFFER, _CODING = 4, 8
_HALF_CODING = 3
_DATA_TYPE, _BYTES, _FLOATS = 8, 10, 18
_DT_FLOAT, _DT_HALF = 1, 19

_FLOAT, _HALF = np.dtype("<f4"), np.dtype("<f2")
_PLACE, _SIGNED, _UNSIGNED = struct.Struct("<H"), struct.Struct("<i"), struct.Struct("<I")
_ALIGNMENT = 8


@dataclass(frozen=True, slots=True)
class Operator:
    """An operator of a file.

    Attributes:
        type: Its number in MNN's schema.
        inputs: Numbers of the tensors it reads.
        outputs: Numbers of those it gives.
        main: Where the table with its parameters is; None where it has none.
    """

    name: str
    type: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    main: int | None


def operators(content: bytes) -> tuple[Operator, ...]:
    """The operators of a file, in order."""
    return tuple(_operators(content))


def _operators(content: bytes) -> Iterator[Operator]:
    start, count = _vector(content, _target(content, 0), _OPERATORS)
    for index in range(count):
        table = _target(content, start + 4 * index)
        name, length = _vector(content, table, _NAME)
        main = _field(content, table, _MAIN)
        kind = _field(content, table, _TYPE)
        yield Operator(
            name=content[name : name + length].decode(),
            type=_number(content, kind) if kind else 0,
            inputs=_numbers(content, table, _INPUTS),
            outputs=_numbers(content, table, _OUTPUTS),
            main=_target(content, main) if main else None,
        )


def floats(content: bytes, operator: Operator) -> NDArray[np.float32] | None:
    """The constants of an operator; None where it has none, or has them in fewer bits."""
    if storage(content, operator) != "float" or operator.main is None:
        return None
    place = _FLOATS if operator.type == Type.CONST else _WEIGHT
    start, count = _vector(content, operator.main, place)
    return np.frombuffer(content, _FLOAT, count, start)


def halves(content: bytes, operator: Operator) -> NDArray[np.float16] | None:
    """The half floats of an operator; None where it has none."""
    if storage(content, operator) != "half" or operator.main is None:
        return None
    start, size = _half_bytes(content, operator.main, constant=operator.type == Type.CONST)
    return np.frombuffer(content, _HALF, size // _HALF.itemsize, start)


def _half_bytes(content: bytes, table: int, *, constant: bool) -> tuple[int, int]:
    """Where the half floats of an operator's table are, and how many bytes."""
    coded = table if constant else _target(content, _field(content, table, _QUANTIZED) or 0)
    return _vector(content, coded, _BYTES if constant else _BUFFER)


def storage(content: bytes, operator: Operator) -> Storage | None:
    """How the constants of an operator are stored; None where it has none, or whole numbers by its nature."""
    if operator.main is None:
        return None
    if operator.type == Type.CONST:
        kind = _field(content, operator.main, _DATA_TYPE)
        known: Mapping[int, Storage] = {_DT_FLOAT: "float", _DT_HALF: "half"}
        found = known.get(_number(content, kind) if kind else _DT_FLOAT)
        return found if found != "float" or _vector(content, operator.main, _FLOATS)[1] else None
    if operator.type not in CONVOLUTIONS:
        return None
    coded = _field(content, operator.main, _QUANTIZED)
    if coded is None:
        return "float" if _vector(content, operator.main, _WEIGHT)[1] else None
    coding = _field(content, _target(content, coded), _CODING)
    return "half" if coding and _number(content, coding) == _HALF_CODING else "integer"


def restored(content: bytes, constants: Mapping[int, NDArray[np.float32]]) -> bytes:
    """A file whose operators, by their number in it, have these constants as floats, as before it was made smaller."""
    changed = bytearray(content)
    for index, operator in enumerate(_operators(content)):
        if index in constants and operator.main is not None and storage(content, operator) != "float":
            _restore(changed, operator.main, constants[index], constant=operator.type == Type.CONST)
    return bytes(changed)


def rounded(content: bytes, halves: Mapping[int, NDArray[np.float16]]) -> bytes:
    """A file whose operators, by their number in it, have these half floats for theirs, as many as these."""
    changed = bytearray(content)
    for index, operator in enumerate(_operators(content)):
        if index in halves and operator.main is not None:
            start, size = _half_bytes(content, operator.main, constant=operator.type == Type.CONST)
            changed[start : start + size] = halves[index].tobytes()
    return bytes(changed)


def _restore(content: bytearray, table: int, values: NDArray[np.float32], *, constant: bool) -> None:
    """Lets a table's field of fewer bits be that of its floats, which are put at the end."""
    before, after = (_BYTES, _FLOATS) if constant else (_QUANTIZED, _WEIGHT)
    places = _places(content, table)
    places += bytes(max(0, after + _PLACE.size - len(places)))
    (offset,) = _PLACE.unpack_from(places, before)
    _PLACE.pack_into(places, 0, len(places))
    _PLACE.pack_into(places, before, 0)
    _PLACE.pack_into(places, after, offset)
    _SIGNED.pack_into(content, table, table - _append(content, places))
    stored = _UNSIGNED.pack(values.size) + values.astype(_FLOAT).tobytes()
    _UNSIGNED.pack_into(content, table + offset, _append(content, stored) - (table + offset))
    if constant and (kind := _field(content, table, _DATA_TYPE)):
        _SIGNED.pack_into(content, kind, _DT_FLOAT)


def _append(content: bytearray, part: bytes | bytearray) -> int:
    """Puts something at the end, aligned, and gives back where that is."""
    content += bytes(-len(content) % _ALIGNMENT)
    place = len(content)
    content += part
    return place


def _places(content: bytes | bytearray, table: int) -> bytearray:
    """A table's table of places: the sizes of both in bytes, and where each field is, 0 for one that is not there."""
    start = table - _number(content, table)
    (size,) = _PLACE.unpack_from(content, start)
    return bytearray(content[start : start + size])


def _field(content: bytes | bytearray, table: int, place: int) -> int | None:
    """Where a field is."""
    places = _places(content, table)
    offset = _PLACE.unpack_from(places, place)[0] if place < len(places) else 0
    return table + offset if offset else None


def _number(content: bytes | bytearray, place: int) -> int:
    return int(_SIGNED.unpack_from(content, place)[0])


def _target(content: bytes | bytearray, place: int) -> int:
    """What a reference at some place refers to."""
    return place + int(_UNSIGNED.unpack_from(content, place)[0])


def _vector(content: bytes | bytearray, table: int, place: int) -> tuple[int, int]:
    """Where the elements of a field are, and how many; zeros where there are none."""
    found = _field(content, table, place)
    if found is None:
        return 0, 0
    start = _target(content, found)
    return start + _UNSIGNED.size, int(_UNSIGNED.unpack_from(content, start)[0])


def _numbers(content: bytes | bytearray, table: int, place: int) -> tuple[int, ...]:
    start, count = _vector(content, table, place)
    return struct.unpack_from(f"<{count}i", content, start)
