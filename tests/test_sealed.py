"""The seal itself: it holds for Python and for compiled code, and lets everything else pass."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.sealed import CAUGHT, sealed


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("print(sum(range(9)))", 0),
        ("import socket; socket.socket()", CAUGHT),
        ("import os; os.system('true')", CAUGHT),
        ("import subprocess; subprocess.run(['true'])", CAUGHT),
        ("import ctypes; ctypes.CDLL(None).socket(2, 1, 0)", -signal.SIGSYS),
        ("import ctypes; ctypes.CDLL(None).execl(b'/bin/true', b'true', None)", -signal.SIGSYS),
    ],
    ids=["harmless", "socket", "system", "subprocess", "socket in C", "exec in C"],
)
def test_a_sealed_python_dies_of_a_socket_or_a_program(code: str, status: int, tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, **sealed(tmp_path)}, check=False)
    assert done.returncode == status
