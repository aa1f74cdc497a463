"""A Python that dies when it opens a socket or starts a program: proof that what ran in it did neither.

Python's own attempts are seen by an audit hook, and end the process with status 66. Those of compiled code meet a
filter in the kernel (seccomp), which kills it with SIGSYS. Both come through a `sitecustomize` module, before anything
else.
"""

import os
import platform
import sys
from pathlib import Path

import pytest

CAUGHT = 66

_FORBIDDEN_CALLS = {"x86_64": (41, 59, 322), "aarch64": (198, 221, 281)}
"""Architecture to the numbers of the system calls socket, execve and execveat."""

_SITE = """
import ctypes, os, struct, sys

def forbid(event, arguments):
    if event.startswith(("socket.", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "subprocess.")):
        os._exit({caught})

def instruction(code, jump, value):
    return struct.pack("HBBI", code, jump, 0, value)

calls = {calls}
load_number = instruction(0x20, 0, 0)
compare = b"".join(instruction(0x15, len(calls) - index, call) for index, call in enumerate(calls))
allow, kill = instruction(0x06, 0, 0x7FFF0000), instruction(0x06, 0, 0x80000000)
filters = ctypes.create_string_buffer(load_number + compare + allow + kill)
program = struct.pack("HxxxxxxP", len(calls) + 3, ctypes.addressof(filters))
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0, "no new privileges"
assert libc.prctl(22, 2, ctypes.create_string_buffer(program), 0, 0) == 0, os.strerror(ctypes.get_errno())
sys.addaudithook(forbid)
"""


def sealed(folder: Path) -> dict[str, str]:
    """The environment in which a Python that is started is sealed; the test is skipped where that cannot be."""
    machine = platform.machine()
    if sys.platform != "linux" or machine not in _FORBIDDEN_CALLS:
        pytest.skip(f"no system call filter is written for {sys.platform} on {machine}")
    (folder / "sitecustomize.py").write_text(_SITE.format(caught=CAUGHT, calls=_FORBIDDEN_CALLS[machine]))
    return {"PYTHONPATH": os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)}
