"""What goes wrong: one message that says what to do, the right exit code, no traceback, and JSON where it was asked for."""

import json
import os
import pty
import re
import sys
from pathlib import Path
from types import ModuleType

import click
import pytest
from click.shell_completion import BashComplete

from edgekit.cli import COMMANDS, cli
from edgekit.errors import (
    BundleError,
    CheckFailedError,
    ConverterError,
    EdgekitError,
    EnvironmentProblemError,
    MissingExtraError,
    OutputError,
    ParityError,
    WeightsError,
)
from tests.cli.conftest import Run, Spawn, finish

XT = ("parcnetv2_xt", "--input", "32", "--format", "onnx")

MISTAKES = [
    pytest.param(
        ("export", "parcnetv2_x"),
        r"There is no model named 'parcnetv2_x'\. Did you mean parcnetv2_xt or .*`edgekit models` lists all",
        id="model",
    ),
    pytest.param(
        ("export", *XT, "--target", "rk3228"),
        r"There is no target named 'rk3228'\. Did you mean rk3288 .*`edgekit targets` lists all",
        id="target",
    ),
    pytest.param(("export", *XT, "--target", "../boards/arm"), r"no target named '\.\./boards/arm'", id="target-path"),
    pytest.param(
        ("export", *XT, "--format", "onx"),
        r"There is no format named 'onx'\. Did you mean onnx\? `edgekit export --help`",
        id="format",
    ),
    pytest.param(("export", *XT, "--format", ""), r"no format named ''\. Known: onnx, openvino, tflite\.", id="empty"),
    pytest.param(("export", *XT, "--precision", "int9"), r"no precision named 'int9'\. Known: fp32\.", id="precision"),
    pytest.param(
        ("export", "parcnetv2_xt", "--input", "0"), r"with positive sides, not 1x3x0x0\. Its own input", id="size-0"
    ),
    pytest.param(
        ("export", "parcnetv2_xt", "--input", "2"), r"cannot take 2x2: .*Nearest that work: 1x3x3x3\.", id="size-2"
    ),
    pytest.param(
        ("export", "parcnetv2_xt", "--input", "1x1x224x224"), r"takes images as Nx3xHxW .*not 1x1x224x224", id="grey"
    ),
    pytest.param(("export", "parcnetv2_xt", "--input", "0x3x32x32"), r"not 0x3x32x32\. Its own input is", id="batch-0"),
    pytest.param(
        ("export", *XT, "--kernel", "foo"), r"no kernel policy 'foo'; it takes interpolate or keep", id="kernel"
    ),
    pytest.param(("export", *XT, "--ema"), r"--ema chooses a section .* give the checkpoint with --weights", id="ema"),
    pytest.param(
        ("export", *XT, "--weights", "no.pth"), r"no\.pth cannot be read: No such file.*--weights PATH", id="file"
    ),
    pytest.param(("export", *XT, "--weights", "."), r"\. is a folder\. Give a checkpoint", id="weights-folder"),
    pytest.param(("export", *XT, "--weights", "a\udcf6.pth"), r"'a\\udcf6\.pth' is not UTF-8", id="weights-bytes"),
    pytest.param(("export", *XT, "-o", "a\udcf6"), r"'a\\udcf6' is not UTF-8\. Use a name of letters", id="out-bytes"),
    pytest.param(("models", "nope"), r"There is no model named 'nope'\. Known: .*parcnetv2_t", id="models"),
    pytest.param(("targets", "nope"), r"There is no target named 'nope'\. Known: arm, host, rk3288", id="targets"),
    pytest.param(
        ("verify", "nowhere"), r"nowhere is no bundle: manifest\.json cannot be read \(No such", id="no-bundle"
    ),
    pytest.param(("verify", "."), r"\. is no bundle: .*`edgekit export MODEL` makes one", id="no-manifest"),
    pytest.param(("inspect", "."), r"\. is no bundle: .*`edgekit export MODEL` makes one", id="inspect-folder"),
    pytest.param(("inspect", "nope"), r"There is no model named 'nope'", id="inspect-name"),
]

USAGE = [
    pytest.param(("export", *XT, "--bogus"), r"No such option '--bogus'", id="option"),
    pytest.param(
        ("export", "parcnetv2_xt", "--input", "abc"), r"'abc' is no input size\. Write 1x3x320x256, or", id="size"
    ),
    pytest.param(("export", "parcnetv2_xt", "--input", "1x3x224"), r"'1x3x224' is no input size", id="three-sides"),
    pytest.param(("export", "parcnetv2_xt", "--input", "-5"), r"'-5' is no input size", id="negative"),
    pytest.param(("export", "parcnetv2_xt", "--input", "1x3x99999999999x3"), r"is no input size", id="huge-side"),
    pytest.param(("export", "parcnetv2_xt", "--input", "²"), r"'²' is no input size", id="power"),
    pytest.param(("export", *XT, "--seed", "9" * 25), r"is not in the range 0<=x<=999999999", id="seed"),
    pytest.param(("export", *XT, "--seed", "-1"), r"-1 is not in the range", id="negative-seed"),
    pytest.param(("export",), r"Missing argument 'MODEL'", id="argument"),
    pytest.param(("inspect", "parcnetv2_xt", "--depth", "0"), r"0 is not in the range x>=1", id="depth"),
    pytest.param(("exprot", "x"), r"No such command 'exprot'\. Did you mean 'export'\?", id="command"),
]


@pytest.mark.parametrize(("arguments", "message"), [*MISTAKES, *USAGE])
def test_a_mistake_is_one_message_and_nothing_else(run: Run, arguments: tuple[str, ...], message: str) -> None:
    result = run(*arguments)

    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert re.search(r"Error: ", result.stderr)
    assert re.search(message, result.stderr), result.stderr
    assert "Traceback" not in result.output
    assert list(Path.cwd().iterdir()) == []


@pytest.mark.parametrize(("arguments", "message"), [*MISTAKES, *USAGE])
def test_a_mistake_is_one_json_object_where_json_was_asked_for(
    run: Run, arguments: tuple[str, ...], message: str
) -> None:
    result = run(*arguments, "--json")

    assert result.exit_code == 2, result.output
    assert result.stderr == ""
    content = json.loads(result.stdout)
    assert content.keys() == {"schema_version", "error"}
    assert content["schema_version"] == 1
    assert content["error"].keys() == {"kind", "message", "exit_code"}
    assert re.search(message, content["error"]["message"])
    assert content["error"]["exit_code"] == 2


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda path: path.write_bytes(b"\x80\x04not a pickle"), id="garbage"),
        pytest.param(lambda path: path.write_bytes(b"version https://git-lfs.github.com/spec/v1\n"), id="lfs"),
        pytest.param(lambda path: path.write_bytes(b"<!DOCTYPE html>"), id="html"),
        pytest.param(lambda path: path.write_bytes(b""), id="empty"),
    ],
)
def test_a_checkpoint_that_is_none_leaves_no_bundle(run: Run, make: object) -> None:
    path = Path("weights.pth")
    make(path)  # type: ignore[operator]

    result = run("export", *XT, "--weights", path, "-o", "out/bundle")

    assert result.exit_code == 2
    assert "Error: weights.pth " in result.stderr
    assert list(Path("out").iterdir()) == []


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_not_waited_on_for_a_checkpoint(run: Run) -> None:
    os.mkfifo("weights.pth")

    result = run("export", *XT, "--weights", "weights.pth")

    assert result.exit_code == 2
    assert "weights.pth is no regular file. Give a checkpoint with --weights PATH." in result.stderr


@pytest.mark.parametrize(
    ("hidden", "format_name", "extra"),
    [
        ("openvino", "openvino", "openvino"),
        ("ai-edge-litert", "tflite", "tflite"),
        ("litert-torch", "tflite", "tflite"),
        ("litert-converter", "tflite", "tflite"),
        ("flatbuffers", "tflite", "tflite"),
    ],
)
def test_a_missing_extra_is_answered_with_the_pip_line(
    run: Run, monkeypatch: pytest.MonkeyPatch, hidden: str, format_name: str, extra: str
) -> None:
    from importlib.metadata import PackageNotFoundError, version

    def without(package: str) -> str:
        if package == hidden:
            raise PackageNotFoundError(package)
        return version(package)

    monkeypatch.setattr("edgekit.cache.version", without)

    result = run("export", "parcnetv2_xt", "--format", format_name)

    assert result.exit_code == 3
    assert result.stderr == (
        f"Error: {format_name} export needs {hidden}, which is not installed. Run: pip install 'edgekit[{extra}]'\n"
    )
    assert list(Path.cwd().iterdir()) == []


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (EdgekitError("why"), 2),
        (WeightsError("why"), 2),
        (BundleError("why"), 2),
        (CheckFailedError("why"), 1),
        (ParityError("why"), 1),
        (EnvironmentProblemError("why"), 3),
        (OutputError("why"), 3),
        (MissingExtraError("package", "extra", "Doing it"), 3),
        (ConverterError("why"), 3),
        (ConverterError("file \udcf6 [bold] :smile: [/x]"), 3),
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_kind_of_an_error_decides_the_exit_code(
    run: Run, monkeypatch: pytest.MonkeyPatch, error: EdgekitError, code: int
) -> None:
    monkeypatch.setattr("edgekit.plan.make_plan", failing(error))
    text = str(error).replace("\udcf6", "\\udcf6")

    plain, as_json = run("export", "x"), run("export", "x", "--json")

    assert plain.exit_code == as_json.exit_code == code
    assert plain.stderr == f"Error: {text}\n"
    content = json.loads(as_json.stdout)["error"]
    assert content == {"kind": type(error).__name__, "message": text, "exit_code": code}


def failing(error: BaseException) -> object:
    def fail(*_: object, **__: object) -> None:
        raise error

    return fail


def test_a_converter_that_fails_is_quoted(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    error = ConverterError("it failed.\n")
    error.add_note("Last output before the failure:\nop 7 is odd")
    monkeypatch.setattr("edgekit.plan.make_plan", failing(error))

    assert run("export", "x").stderr == "Error: it failed.\nLast output before the failure:\nop 7 is odd\n"


def test_other_errors_are_not_buried_in_chatter(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    error = WeightsError("wrong file.")
    error.add_note("Last output before the failure:\nlots of it")
    monkeypatch.setattr("edgekit.plan.make_plan", failing(error))

    assert run("export", "x").stderr == "Error: wrong file.\n"


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (MemoryError(), r"not enough memory\. Choose a smaller size with --input"),
        (OSError(5, "Input/output error", "disk"), r"The system refused to go on: Input/output error: disk\."),
        (OSError(24, "Too many open files"), r"refused to go on: Too many open files\."),
        (
            ModuleNotFoundError("No module named 'torch'"),
            r"missing or broken \(No module named 'torch'\)\. Run: pip install",
        ),
        (ImportError("libfoo.so: cannot open"), r"missing or broken \(libfoo\.so: cannot open\)"),
    ],
    ids=["memory", "file", "system", "module", "library"],
)
def test_what_the_machine_lacks_is_no_failed_check(
    run: Run, monkeypatch: pytest.MonkeyPatch, error: Exception, message: str
) -> None:
    monkeypatch.setattr("edgekit.plan.make_plan", failing(error))

    result = run("export", "x")

    assert result.exit_code == 3
    assert re.match(f"Error: .*{message}", result.stderr)


def test_a_defect_of_edgekit_itself_is_not_hidden(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgekit.plan.make_plan", failing(AssertionError("impossible")))

    with pytest.raises(AssertionError, match="impossible"):
        run("export", "x")


def test_ctrl_c_is_one_line_and_130(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgekit.plan.make_plan", failing(KeyboardInterrupt()))

    result = run("export", "x")

    assert result.exit_code == 130
    assert result.stderr == "Interrupted; nothing was left behind.\n"


# -- where the output goes ------------------------------------------------------------------------------------------


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


# -- the command line itself ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [None, *COMMANDS])
@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help(run: Run, name: str | None, option: str) -> None:
    result = run(*([name] if name else []), option)

    assert result.exit_code == 0
    assert result.stdout.startswith("Usage: edgekit")
    assert result.stderr == ""


def test_nothing_at_all_shows_the_help(run: Run) -> None:
    result = run()

    assert result.exit_code == 2
    assert all(f"\n  {name} " in result.output for name in COMMANDS)


@pytest.mark.parametrize(
    ("line", "incomplete", "offered"),
    [
        ([], "ex", ["export"]),
        (["export"], "parcnetv2_x", ["parcnetv2_xt"]),
        (["export", "parcnetv2_t", "--target"], "rk32", ["rk3288"]),
        (["export", "parcnetv2_t", "--format"], "o", ["onnx", "openvino"]),
        (["export", "parcnetv2_t", "--kernel"], "", ["interpolate", "keep"]),
        (["models"], "parcnetv2_b", ["parcnetv2_b"]),
        (["targets"], "rpi", ["rpi3", "rpi4", "rpi5"]),
        (["inspect"], "parcnetv2_b", ["parcnetv2_b", "file"]),
        (["verify"], "edgekit-out/", ["file"]),
        (["export", "parcnetv2_t"], "--dry", ["--dry-run"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_the_shell_completes(line: list[str], incomplete: str, offered: list[str]) -> None:
    found = BashComplete(cli, {}, "edgekit", "_EDGEKIT_COMPLETE").get_completions(line, incomplete)

    names = [item.value if item.type == "plain" else item.type for item in found]
    assert set(offered) <= set(names)
    assert all(name.startswith(incomplete) or name == "file" for name in names)


def test_completion_speaks_the_shells_protocol(spawn: Spawn) -> None:
    variables = {"_EDGEKIT_COMPLETE": "bash_complete", "COMP_WORDS": "edgekit export parcnetv2_x", "COMP_CWORD": "2"}

    code, output, errors = finish(spawn(env=variables))

    assert "plain,parcnetv2_xt" in output.splitlines()
    assert (code, errors) == (0, "")


def test_a_command_that_is_imported_late_is_still_a_command() -> None:
    context = click.Context(cli)

    assert all(isinstance(cli.get_command(context, name), click.Command) for name in cli.list_commands(context))
    assert cli.get_command(context, "no-such") is None


def test_no_runtime_may_report_home(spawn: Spawn, tmp_path: Path) -> None:
    """ONNX Runtime since 1.29 and OpenVINO leave files in the home when they send what they ran to their makers."""
    home = tmp_path / "home"
    home.mkdir()
    watched = {"HOME": str(home), "XDG_CACHE_HOME": "", "TMPDIR": str(home), "CI": "", "ORT_DISABLE_TELEMETRY": ""}
    code = (
        "import os; os.environ.pop('ORT_DISABLE_TELEMETRY'); import edgekit.cli\n"
        "assert os.environ['ORT_DISABLE_TELEMETRY'] == '1'\n"
        "import onnxruntime, openvino, openvino.tools.ovc.telemetry_utils as used\n"
        "assert used.tm.__name__.endswith('telemetry_stub'), used.tm"
    )

    returned, _, errors = finish(spawn("--version", code=code, env=watched))

    assert returned == 0, errors
    assert list(home.iterdir()) == []


def test_what_the_user_wants_reported_is_left_alone(spawn: Spawn) -> None:
    code = "import os, edgekit.cli; assert os.environ['ORT_DISABLE_TELEMETRY'] == '0'"

    assert finish(spawn("--version", code=code, env={"ORT_DISABLE_TELEMETRY": "0"}))[0] == 0


def test_a_module_that_cannot_be_imported_is_not_mistaken_for_a_missing_command(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = ModuleType("edgekit.cli.models")
    monkeypatch.setitem(sys.modules, "edgekit.cli.models", broken)

    with pytest.raises(AttributeError, match="models"):
        run("models")
