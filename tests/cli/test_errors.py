"""What goes wrong: one message that says what to do, the right exit code, and JSON where it was asked for."""

import json
import os
import re
from pathlib import Path

import pytest

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
from tests.cli.conftest import Run

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
    pytest.param(
        ("export", *XT, "--format", ""),
        r"no format named ''\. Known: mnn, ncnn, onnx, openvino, pt2, tflite\.",
        id="empty",
    ),
    pytest.param(("export", *XT, "--recipe", "int9"), r"no recipe 'int9': it begins with 'int9', and", id="recipe"),
    pytest.param(("export", *XT, "--int8"), r"Recipe 'int8' needs images", id="no data"),
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
        ("export", "parcnetv2_xt", "--input", "image=1x3x32x32"),
        r"The network takes one input, named 'input'; sizes were given for image\.",
        id="input-name",
    ),
    pytest.param(
        ("export", "parcnetv2_xt", "--input", "input=32"), r"takes images as Nx3xHxW .*, not 32\.", id="named-side"
    ),
    pytest.param(
        ("export", "parc_net_s", "--features"),
        r"parc_net_s has no --features\. These have: parcnetv2_xt",
        id="features",
    ),
    pytest.param(
        ("export", "net.onnx", "--features"),
        r"--features is for edgekit's own backbones and timm's; net\.onnx returns what it returns\.",
        id="features-of-a-file",
    ),
    pytest.param(
        ("models", "upernet_parcnetv2_t", "--features"), r"upernet_parcnetv2_t has no --features", id="no-card"
    ),
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
    pytest.param(
        ("export", *XT, "--input", "64"), r"Give one size, or one for each input as NAME=1x3x320", id="two-sizes"
    ),
    pytest.param(
        ("export", *XT, "--input", "a=1x8"), r"Give one size, or one for each input as NAME", id="size-and-name"
    ),
    pytest.param(
        ("export", "parcnetv2_xt", "--input", "a=1x8", "--input", "a=1x9"),
        r"Give one size, or one for each",
        id="twice",
    ),
    pytest.param(
        ("export", "parcnetv2_xt", "--input", "=1x8"),
        r"'=1x8' is no input size\. Write 1x3x320x256, .*; for one of several inputs NAME=1x3x320x256\.",
        id="no-name",
    ),
    pytest.param(("export", "parcnetv2_xt", "--input", "a="), r"'a=' is no input size", id="no-size"),
    pytest.param(("export", "parcnetv2_xt", "--input", "a=1xx3"), r"'a=1xx3' is no input size", id="lost-side"),
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
    assert content["schema_version"] == 2
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
    assert list(Path.cwd().iterdir()) == [path.absolute()]


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
