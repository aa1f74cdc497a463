"""Where output goes: pipes, full disks, terminals of every kind, none at all, and never to anyone's telemetry."""

import json
import os
import pty
import re
from pathlib import Path

import pytest

from tests.cli.conftest import Spawn, finish


def test_a_closed_pipe_ends_the_command_quietly(spawn: Spawn) -> None:
    reader, writer = os.pipe()
    os.close(reader)

    process = spawn("models", stdout=writer)
    os.close(writer)

    assert finish(process)[::2] == (141, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize("arguments", [("models",), ("models", "--json")], ids=["table", "json"])
def test_output_that_cannot_be_written_is_one_line(spawn: Spawn, arguments: tuple[str, ...]) -> None:
    with Path("/dev/full").open("w") as full:
        code, _, errors = finish(spawn(*arguments, stdout=full))

    assert (code, errors) == (3, "Error: The system refused to go on: No space left on device.\n")


@pytest.mark.parametrize("arguments", [("models",), ("targets", "rk3288"), ("models", "nope")])
def test_closed_streams_are_no_reason_to_fail(spawn: Spawn, arguments: tuple[str, ...]) -> None:
    code = "import os, sys; os.close(0); os.close(1); os.close(2); sys.stdin = sys.stdout = sys.stderr = None"

    assert finish(spawn(*arguments, code=code))[0] == (2 if "nope" in arguments else 0)


@pytest.mark.parametrize("arguments", [("models",), ("targets", "rk3288"), ("models", "größer")])
def test_a_terminal_that_knows_ascii_only_gets_question_marks(spawn: Spawn, arguments: tuple[str, ...]) -> None:
    code, output, errors = finish(spawn(*arguments, env={"PYTHONIOENCODING": "ascii"}))

    assert code == (2 if "größer" in arguments else 0), errors
    assert (output + errors).isascii()


def test_json_is_utf_8_whatever_the_terminal_speaks(spawn: Spawn) -> None:
    process = spawn("targets", "rk3288", "--json", env={"PYTHONIOENCODING": "ascii"}, encoding="utf-8")

    assert json.loads(finish(process)[1])["targets"][0]["name"] == "rk3288"


def on_terminal(spawn: Spawn, *arguments: str, **variables: str) -> str:
    """What a command prints on a terminal."""
    terminal, end = pty.openpty()
    process = spawn(*arguments, stdout=end, stderr=end, env={"TERM": "xterm", "COLUMNS": "80", **variables})
    os.close(end)
    printed = b""
    while True:
        try:
            chunk = os.read(terminal, 1 << 16)
        except OSError:  # how Linux reports that the other end is closed
            break
        if not chunk:
            break
        printed += chunk
    os.close(terminal)
    process.wait()
    return printed.decode()


COLOUR = re.compile(r"\x1b\[[0-9;]*3\d")


def test_a_terminal_gets_colour(spawn: Spawn) -> None:
    assert COLOUR.search(on_terminal(spawn, "models", "nope"))


@pytest.mark.parametrize("variables", [{"NO_COLOR": "1"}, {"TERM": "dumb"}], ids=["no-color", "dumb"])
def test_colour_can_be_refused(spawn: Spawn, variables: dict[str, str]) -> None:
    printed = on_terminal(spawn, "models", "nope", **variables)

    assert "There is no model named 'nope'" in printed
    assert not COLOUR.search(printed)


def test_a_terminal_of_80_columns_shows_one_line_per_model(spawn: Spawn) -> None:
    printed = on_terminal(spawn, "models")

    assert re.search(r"\bparcnetv2_t +24,935,144 +4,269,260,288 +1x3x224x224 *\r\n", printed)
    assert all(len(re.sub(r"\x1b\[[0-9;]*m", "", line)) <= 80 for line in printed.splitlines())


@pytest.mark.parametrize("columns", ["20", "1"])
def test_the_narrowest_terminal_is_no_reason_to_fail(spawn: Spawn, columns: str) -> None:
    assert "arm" in re.sub(r"\s", "", on_terminal(spawn, "targets", COLUMNS=columns)) or columns == "1"


@pytest.mark.parametrize("name", ["edgekit", "edgekit.runners", "edgekit.cli"])
def test_no_runtime_may_report_home(spawn: Spawn, tmp_path: Path, name: str) -> None:
    """ONNX Runtime since 1.29 and OpenVINO leave files in the home when they send what they ran to their makers."""
    home = tmp_path / "home"
    home.mkdir()
    watched = {"HOME": str(home), "XDG_CACHE_HOME": "", "TMPDIR": str(home), "CI": "", "ORT_DISABLE_TELEMETRY": ""}
    code = (
        f"import os, sys; os.environ.pop('ORT_DISABLE_TELEMETRY'); import {name}\n"
        f"assert ('edgekit.cli' in sys.modules) is {name == 'edgekit.cli'}\n"
        "assert os.environ['ORT_DISABLE_TELEMETRY'] == '1'\n"
        "import onnxruntime, openvino, openvino.tools.ovc.telemetry_utils as used\n"
        "assert used.tm.__name__.endswith('telemetry_stub'), used.tm"
    )

    returned, _, errors = finish(spawn("--version", code=code, env=watched))

    assert returned == 0, errors
    assert list(home.iterdir()) == []


@pytest.mark.parametrize("name", ["edgekit", "edgekit.cli"])
def test_what_the_user_wants_reported_is_left_alone(spawn: Spawn, name: str) -> None:
    code = (
        "import sys, types; ours = sys.modules['openvino_telemetry'] = types.ModuleType('openvino_telemetry')\n"
        f"import os, {name}; assert os.environ['ORT_DISABLE_TELEMETRY'] == '0'\n"
        "assert sys.modules['openvino_telemetry'] is ours"
    )

    assert finish(spawn("--version", code=code, env={"ORT_DISABLE_TELEMETRY": "0"}))[0] == 0
