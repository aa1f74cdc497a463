"""What converters print, in Python or below it, stays out of sight unless they fail."""

import logging
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from edgekit.quiet import TAIL_LINES, own_stderr, silenced

Capture = pytest.CaptureFixture[str]


CONVERTER = """
import logging, os, subprocess, sys, warnings
sys.path.insert(0, sys.argv[1])
from edgekit.quiet import silenced
sys.stdout.write("before ")
with silenced():
    print("in Python")
    print("in Python", file=sys.stderr)
    os.write(1, b"below it")
    os.write(2, b"below it")
    subprocess.run([sys.executable, "-c", "print('in a child')"], check=True)
    logging.getLogger("converter").warning("a warning")
    warnings.warn("deprecated")
    sys.stdout.write("not flushed")
sys.stdout.write("after")
"""


def test_nothing_is_seen_but_what_came_before_and_comes_after() -> None:
    """In a process of its own, for pytest leads Python's streams past the descriptors."""
    root = Path(__file__).parents[1]

    process = subprocess.run([sys.executable, "-c", CONVERTER, root], capture_output=True, text=True, check=True)

    assert (process.stdout, process.stderr) == ("before after", "")


def test_a_failure_brings_the_last_lines() -> None:
    with pytest.raises(ValueError, match="failed") as caught, silenced():
        fail_after(b"".join(b"line %d\n" % number for number in range(TAIL_LINES + 5)))

    (note,) = caught.value.__notes__
    assert note.splitlines() == [
        "Last output before the failure:",
        *(f"line {number}" for number in range(5, TAIL_LINES + 5)),
    ]


def fail_after(chatter: bytes) -> None:
    os.write(1, chatter)
    raise ValueError("failed")


def test_a_failure_without_chatter_brings_nothing() -> None:
    with pytest.raises(ValueError, match="failed") as caught, silenced():
        fail_after(b"")

    assert not hasattr(caught.value, "__notes__")


def test_chatter_that_is_no_text_is_no_second_failure() -> None:
    with pytest.raises(ValueError, match="failed") as caught, silenced():
        fail_after(b"\xff\xfe\n")

    assert caught.value.__notes__


@pytest.mark.parametrize("error", [None, ValueError("failed"), KeyboardInterrupt()], ids=repr)
def test_everything_is_put_back(capfd: Capture, error: BaseException | None) -> None:
    logging.disable(logging.INFO)
    descriptors = open_descriptors()
    filters = list(warnings.filters)
    try:
        with silenced():
            if error:
                raise error
    except (ValueError, KeyboardInterrupt):
        pass
    finally:
        kept = logging.root.manager.disable
        logging.disable(logging.NOTSET)
    os.write(1, b"seen")
    os.write(2, b"seen too")

    assert capfd.readouterr() == ("seen", "seen too")
    assert kept == logging.INFO
    assert warnings.filters == filters
    assert open_descriptors() == descriptors


def open_descriptors() -> list[str]:
    """What the process has open, where the system tells."""
    place = Path("/proc/self/fd")
    return sorted(path.name for path in place.iterdir()) if place.is_dir() else []


def test_it_can_be_nested(capfd: Capture) -> None:
    with silenced():
        with silenced():
            os.write(1, b"inner")
        os.write(1, b"outer")
    os.write(1, b"seen")

    assert capfd.readouterr().out == "seen"


def test_progress_is_seen_while_converters_are_not(capfd: Capture) -> None:
    with own_stderr() as stream, silenced():
        os.write(2, b"chatter")
        stream.write("stage done\n")

    assert capfd.readouterr().err == "stage done\n"


def test_progress_survives_a_letter_the_terminal_does_not_have(capfd: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    class Ascii:
        encoding = "ascii"

    monkeypatch.setattr(sys, "stderr", Ascii())
    with own_stderr() as stream:
        stream.write("größer …\n")

    assert capfd.readouterr().err == "gr??er ?\n"


def test_a_process_without_standard_streams_is_none_the_worse(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)

    with silenced():
        os.write(1, b"hidden")
    own_stderr().close()
