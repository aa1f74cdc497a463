"""LiteRT's C interface, as far as its profiler needs it.

Python is given no way to LiteRT's profiler, but the shared library of `ai-edge-litert` exports the C functions, and
with profiling on XNNPACK reports each of its kernels. The declarations are those of the headers in `litert/c` of the
project's repository. They may change with any release, and a wrong one would crash the process, so nothing is called
in versions other than those it was tried with.
"""

import ctypes
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from ctypes import byref, c_char_p, c_int, c_int64, c_size_t, c_uint64, c_void_p
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.errors import EnvironmentProblemError

PACKAGE = "ai-edge-litert"
TRIED = ("2.3.",)
"""Beginnings of the versions whose declarations are these."""

KERNEL, DELEGATED = 1 << 1, 1 << 3
"""Kinds of event: an operator of the file in a kernel of TFLite's own, and a kernel of XNNPACK."""

_CPU = 1
_WRITE = 1
_PROFILED = ("runtime_options_string", "enable_profiling = true\n")
_SIGNATURE = c_size_t(0)
_NAMED_TENSOR_BYTES = 256
"""More than a `LiteRtRankedTensorType` takes; it is only handed on."""

_keep = ctypes.CFUNCTYPE(None, c_void_p)(lambda _: None)
"""Frees nothing: Python owns what options point to."""


class _RawEvent(ctypes.Structure):
    """`ProfiledEventData`."""

    _fields_ = (
        ("tag", c_char_p),
        ("kind", c_int),
        ("start_us", c_uint64),
        ("taken_us", c_uint64),
        ("memory", c_int64 * 6),
        ("index", c_uint64),
        ("subgraph", c_uint64),
        ("source", c_int),
    )


@dataclass(frozen=True, slots=True)
class Event:
    """One operator of one run: its kernel, `KERNEL` or `DELEGATED`, its number, and what it took."""

    tag: str
    kind: int
    index: int
    microseconds: int


class ProfiledModel:
    """A `.tflite` file in LiteRT with the profiler on; a context manager that frees it.

    Raises:
        EnvironmentProblemError: It is a version of LiteRT that this was not tried with, or a call failed.
    """

    def __init__(self, path: Path, threads: int, inputs: Mapping[str, NDArray[np.float32]]) -> None:
        self._library = _library()
        self._contents: list[Any] = []
        with ExitStack() as stack:
            environment = self._new(stack, "Environment", c_int(0), None)
            name = c_char_p(str(path).encode())
            model = self._new(stack, "Model", environment, name, create="LiteRtCreateModelFromFile")
            options = self._options(stack, threads)
            self._compiled = self._new(stack, "CompiledModel", environment, model, options)
            self._profiler = c_void_p()
            self._call("LiteRtCompiledModelGetProfiler", self._compiled, byref(self._profiler))
            signature = c_void_p()
            self._call("LiteRtGetModelSignature", model, _SIGNATURE, byref(signature))
            self._inputs = self._buffers(stack, environment, signature, "Input")
            self._outputs = self._buffers(stack, environment, signature, "Output")
            for index, buffer in enumerate(self._inputs):
                self._fill(buffer, inputs[self._input_name(signature, index)])
            self._stack = stack.pop_all()

    def __enter__(self) -> "ProfiledModel":
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def run(self) -> None:
        """One inference."""
        self._call(
            "LiteRtRunCompiledModel",
            self._compiled,
            _SIGNATURE,
            *(c_size_t(len(self._inputs)), self._inputs, c_size_t(len(self._outputs)), self._outputs),
        )

    def profiled(self, run: Callable[[], None]) -> list[Event]:
        """The operators of what is run, in the order in which they ran."""
        self._call("LiteRtResetProfiler", self._profiler)
        self._call("LiteRtStartProfiler", self._profiler)
        run()
        self._call("LiteRtStopProfiler", self._profiler)
        count = c_int()
        self._call("LiteRtGetNumProfilerEvents", self._profiler, byref(count))
        raw = (_RawEvent * count.value)()
        self._call("LiteRtGetProfilerEvents", self._profiler, count, raw)
        return [
            Event(event.tag.decode(), event.kind, event.index, event.taken_us)
            for event in raw
            if event.kind in (KERNEL, DELEGATED)
        ]

    def _call(self, name: str, *arguments: Any) -> None:
        status = getattr(self._library, name)(*arguments)
        if status:
            raise EnvironmentProblemError(f"LiteRT's profiler cannot be used: {name} failed with status {status}.")

    def _new(self, stack: ExitStack, kind: str, *arguments: Any, create: str = "") -> c_void_p:
        """A new object, which goes when the stack does."""
        made = c_void_p()
        self._call(create or f"LiteRtCreate{kind}", *arguments, byref(made))
        destroy = getattr(self._library, f"LiteRtDestroy{kind}")
        destroy.restype = None
        stack.callback(destroy, made)
        return made

    def _options(self, stack: ExitStack, threads: int) -> c_void_p:
        """The CPU with this many threads, and the profiler on."""
        options = self._new(stack, "Options")
        self._call("LiteRtSetOptionsHardwareAccelerators", options, c_int(_CPU))
        for identifier, text in (_PROFILED, ("xnnpack", f"num_threads = {threads}\n")):
            content = ctypes.create_string_buffer(text.encode())
            self._contents.append(content)  # the options only point to it
            opaque = c_void_p()
            place = ctypes.cast(content, c_void_p)
            self._call("LiteRtCreateOpaqueOptions", c_char_p(identifier.encode()), place, _keep, byref(opaque))
            self._call("LiteRtAddOpaqueOptions", options, opaque)  # which then owns it
        return options

    def _buffers(self, stack: ExitStack, environment: c_void_p, signature: c_void_p, side: str) -> Any:
        """A buffer for every input or output of the signature."""
        count = c_size_t()
        self._call(f"LiteRtGetNumSignature{side}s", signature, byref(count))
        return (c_void_p * count.value)(
            *(self._buffer(stack, environment, signature, side, c_size_t(index)) for index in range(count.value))
        )

    def _buffer(
        self, stack: ExitStack, environment: c_void_p, signature: c_void_p, side: str, index: c_size_t
    ) -> c_void_p:
        tensor, needed, kind = c_void_p(), c_void_p(), ctypes.create_string_buffer(_NAMED_TENSOR_BYTES)
        self._call(f"LiteRtGetSignature{side}TensorByIndex", signature, index, byref(tensor))
        self._call("LiteRtGetRankedTensorType", tensor, kind)
        needs = f"LiteRtGetCompiledModel{side}BufferRequirements"
        self._call(needs, self._compiled, _SIGNATURE, index, byref(needed))
        create = "LiteRtCreateManagedTensorBufferFromRequirements"
        return self._new(stack, "TensorBuffer", environment, kind, needed, create=create)

    def _input_name(self, signature: c_void_p, index: int) -> str:
        name = c_char_p()
        self._call("LiteRtGetSignatureInputName", signature, c_size_t(index), byref(name))
        return (name.value or b"").decode()

    def _fill(self, buffer: int, values: NDArray[np.float32]) -> None:
        """Writes a tensor into its buffer."""
        plain, place, size = np.ascontiguousarray(values), c_void_p(), c_size_t()
        self._call("LiteRtGetTensorBufferPackedSize", c_void_p(buffer), byref(size))
        if size.value != plain.nbytes:
            raise EnvironmentProblemError(f"LiteRT wants {size.value} bytes for an input of {plain.nbytes}.")
        self._call("LiteRtLockTensorBuffer", c_void_p(buffer), byref(place), c_int(_WRITE))
        ctypes.memmove(place, plain.ctypes.data, plain.nbytes)
        self._call("LiteRtUnlockTensorBuffer", c_void_p(buffer))


def _library() -> ctypes.CDLL:
    """The shared library, in a version whose declarations are known.

    Raises:
        EnvironmentProblemError: It is another version, or there is none.
    """
    installed = version(PACKAGE)
    if not installed.startswith(TRIED):
        raise EnvironmentProblemError(
            f"TFLite cannot be profiled with {PACKAGE} {installed}: its C interface was tried in versions "
            f"{', '.join(f'{each}x' for each in TRIED)} only. Run: pip install -c constraints.txt {PACKAGE}"
        )
    found = next(_candidates(), None)
    if found is None:
        raise EnvironmentProblemError(f"TFLite cannot be profiled: {PACKAGE} came without libLiteRt.")
    return ctypes.CDLL(str(found))


def _candidates() -> Iterator[Path]:
    """Where the library is, under the names it has on Linux and macOS."""
    spec = find_spec("ai_edge_litert")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        yield from (
            Path(folder) / name for name in ("libLiteRt.so", "libLiteRt.dylib") if (Path(folder) / name).is_file()
        )
