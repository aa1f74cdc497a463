"""A converter's process: what it printed, how it ended, and what it cannot find."""

import sys
from pathlib import Path

import pytest

from edgekit.process import run, run_script


@pytest.mark.parametrize(
    ("code", "status", "output", "crash"),
    [
        ("print('out'); import sys; print('err', file=sys.stderr, flush=True)", 0, {"out", "err"}, None),
        ("import sys; sys.exit('told')", 1, {"told"}, None),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", -11, set(), "SIGSEGV"),
        ("import os; os.write(1, bytes([255, 10]))", 0, {"\N{REPLACEMENT CHARACTER}"}, None),
        ("print(input())", 1, None, None),
    ],
    ids=["fine", "failed", "crashed", "no text", "nothing to read"],
)
def test_it_ends_as_it_does(code: str, status: int, output: set[str] | None, crash: str | None, tmp_path: Path) -> None:
    done = run([sys.executable, "-c", code], tmp_path)
    assert (done.status, done.crash) == (status, crash)
    assert output is None or set(done.output.splitlines()) == output


def test_a_script_finds_no_module_beside_it_nor_where_it_runs(tmp_path: Path) -> None:
    """Beside the converters lie `onnx.py` and `ncnn.py`, which are not what these names mean to them."""
    (tmp_path / "json.py").write_text("raise SystemExit('the wrong one')")
    (tmp_path / "script.py").write_text("import json, sys; print(json.dumps(sys.argv[1:]))")
    done = run_script(tmp_path / "script.py", ["a b", "$HOME;true"], tmp_path)
    assert (done.status, done.output) == (0, '["a b", "$HOME;true"]\n')
