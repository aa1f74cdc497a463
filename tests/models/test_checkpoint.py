"""Reading checkpoint files: what is refused, by which words, and that nothing in a file is ever executed."""

import argparse
import io
import os
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save as safetensors_bytes
from torch import Tensor, nn
from torch.utils.serialization import config

from edgekit.errors import WeightsError
from edgekit.models.checkpoint import read_checkpoint

TENSORS = {"a.weight": torch.arange(600.0).reshape(20, 30), "a.bias": torch.ones(20)}


class Payload:
    """Creates a marker file when it is unpickled without restriction."""

    def __init__(self, marker: Path, call: Callable[[str], Any] = os.mkdir) -> None:
        self.marker, self.call = marker, call

    def __reduce__(self) -> tuple[Callable[[str], Any], tuple[str]]:
        return self.call, (str(self.marker),)


def saved(content: object, **options: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


def written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def equal(tensors: dict[str, Tensor], others: dict[str, Tensor]) -> bool:
    return tensors.keys() == others.keys() and all(tensors[name].equal(others[name]) for name in others)


@pytest.mark.parametrize(
    "options",
    [{}, {"_use_new_zipfile_serialization": False}, {"pickle_protocol": 3}],
    ids=["zip", "before-1.6", "protocol-3"],
)
def test_torch_formats_are_read_quietly(tmp_path: Path, options: dict[str, Any]) -> None:
    content = {"state_dict": TENSORS, "args": argparse.Namespace(lr=0.1, betas=[0.9, 0.999])}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        checkpoint = read_checkpoint(written(tmp_path / "a.pth", saved(content, **options)))
    assert equal(checkpoint.tensors, TENSORS)
    assert checkpoint.section == "state_dict"


def test_a_file_without_checksums_is_read(tmp_path: Path) -> None:
    with config.patch("save.compute_crc32", False):  # type: ignore[attr-defined]
        data = saved(TENSORS)
    assert equal(read_checkpoint(written(tmp_path / "a.pth", data)).tensors, TENSORS)


def test_the_allowed_names_are_the_callers_again_afterwards(tmp_path: Path) -> None:
    path = written(tmp_path / "a.pth", saved({"state_dict": TENSORS, "args": argparse.Namespace(a=1)}))
    with torch.serialization.safe_globals([argparse.Namespace]):
        before = set(torch.serialization.get_safe_globals())
        read_checkpoint(path)
        assert set(torch.serialization.get_safe_globals()) == before
        assert argparse.Namespace in before


@pytest.mark.parametrize("options", [{}, {"_use_new_zipfile_serialization": False}], ids=["zip", "before-1.6"])
@pytest.mark.parametrize("hide", ["state_dict", "args", "extra"])
def test_a_payload_is_refused_and_not_executed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], hide: str
) -> None:
    marker = tmp_path / "marker"
    payload = Payload(marker)
    content = {"state_dict": TENSORS, "args": argparse.Namespace(lr=0.1), "extra": 1}
    content[hide] = argparse.Namespace(value=payload) if hide == "args" else payload
    path = written(tmp_path / "bad.pth.tar", saved(content, **options))
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    message = (
        r"bad\.pth\.tar was refused: it asks for posix\.mkdir, which is code .*; nothing in it was executed\. "
        r".*save_file\(model\.state_dict\(\), 'bad\.safetensors'\)$"
    )
    with pytest.raises(WeightsError, match=message):
        read_checkpoint(path)
    assert not marker.exists()
    torch.load(path, weights_only=False)  # the twin: the payload works
    assert marker.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (nn.Linear(2, 2), r"asks for torch\.nn\.modules\.linear\.Linear, which is code"),
        ({"state_dict": TENSORS, "x": Payload(Path("1"), eval)}, r"asks for eval, which is code"),
        ({"state_dict": TENSORS, "x": Path("out")}, r"asks for pathlib\.\w+, which is code"),
    ],
    ids=["module", "builtin", "path"],
)
def test_other_code_is_named(tmp_path: Path, content: object, message: str) -> None:
    with pytest.raises(WeightsError, match=message + ".*nothing in it was executed"):
        read_checkpoint(written(tmp_path / "a.pth", saved(content)))


def test_a_namespace_cannot_be_turned_into_a_call(tmp_path: Path) -> None:
    """Sets `__setstate__` on a Namespace and then calls it: with a real one, `bytearray` would be called."""
    start, end = b"\x80\x02cargparse\nNamespace\n)\x81", b"."
    first = b"}X\x0c\x00\x00\x00__setstate__cbuiltins\nbytearray\nsb"
    second = b"X\x01\x00\x00\x00xb"  # bytearray("x") is a TypeError
    archive = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(saved({"state_dict": TENSORS}))) as good, zipfile.ZipFile(archive, "w") as bad:
        for record in good.infolist():
            is_pickle = record.filename.endswith("data.pkl")
            bad.writestr(record.filename, start + first + second + end if is_pickle else good.read(record))
    path = written(tmp_path / "a.pth", archive.getvalue())
    with (
        torch.serialization.safe_globals([argparse.Namespace]),
        pytest.raises(TypeError, match="string argument without an encoding"),
    ):
        torch.load(path, weights_only=True)
    with pytest.raises(WeightsError, match="holds a Discarded instead of a dictionary"):
        read_checkpoint(path)


def scripted() -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        program = torch.jit.trace(nn.Linear(2, 2), torch.ones(1, 2), check_trace=False)  # type: ignore[no-untyped-call]
        torch.jit.save(program, buffer)
    return buffer.getvalue()


def zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("weights/model.pth", b"x")
    return buffer.getvalue()


def flipped(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 0x40]) + data[place + 1 :]


ZIP = saved(TENSORS)
LEGACY = saved(TENSORS, _use_new_zipfile_serialization=False)
SAFE = safetensors_bytes(TENSORS)
VALUES = ZIP.index(TENSORS["a.weight"].numpy().tobytes())
DAMAGED = r" is damaged or cut short \(.+\)\. Fetch it again"
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.pth", b"", r"a\.pth is empty\. Fetch it again"),
        ("a.pth", LFS, r"is a git-lfs pointer.*git lfs pull"),
        ("a.safetensors", LFS, r"is a git-lfs pointer"),
        ("a.pth", b"\xef\xbb\xbf\n<!DOCTYPE html><html>", r"is a web page.*Fetch the file itself"),
        ("a.pth.tar", b"\x1f\x8b\x08" + bytes(40), r"is a packed archive\. Unpack it"),
        ("a.pth.tar", bytes(257) + b"ustar\x00" + bytes(300), r"is a packed archive"),
        ("a.pth", SAFE, r"is a safetensors file under another name\. Rename it to end in \.safetensors"),
        ("a.safetensors", ZIP, r"is a PyTorch file under another name\. Rename it to end in \.pth"),
        ("a.onnx", ZIP, r"has no ending of a weights file\. Give one of: \.pth \.pth\.tar \.pt \.ckpt \.bin \.safe"),
        ("a.tar", ZIP, r"has no ending of a weights file"),
        ("a.pth", ZIP[:-40], DAMAGED),
        ("a.pth", ZIP[: len(ZIP) // 2], DAMAGED),
        ("a.pth", ZIP[:10], DAMAGED),
        ("a.pth", flipped(ZIP, VALUES + 9), r" is damaged or cut short \(Bad CRC-32 for file '\w+/data/0'\)"),
        ("a.pth", LEGACY[:-40], DAMAGED),
        ("a.pth", LEGACY[:40], DAMAGED),
        ("a.safetensors", SAFE[:-40], DAMAGED),
        ("a.safetensors", SAFE[:40], DAMAGED),
        ("a.safetensors", b"\xff" * 40, DAMAGED),
        ("a.pth", bytes(60), r"is no plain pickle of tensors \(Unsupported operand 0\); nothing in it"),
        ("a.pth", saved(TENSORS, pickle_protocol=4), r"no plain pickle of tensors \(Unsupported operand 149\)"),
        ("a.pt", scripted(), r"is a TorchScript archive: a program, not weights\. .*save_file\(model\.state_dict"),
        ("a.pth", zipped(), r"is a zip archive, but not one of torch\.save\. Give the weights file inside it"),
    ],
    ids=lambda value: "" if isinstance(value, bytes) else value[:30],
)
def test_what_is_no_checkpoint_says_why(tmp_path: Path, name: str, data: bytes, message: str) -> None:
    with pytest.raises(WeightsError, match=message):
        read_checkpoint(written(tmp_path / name, data))


@pytest.mark.parametrize(("name", "data"), [("a.pth", ZIP), ("b.pth", LEGACY), ("c.safetensors", SAFE)])
@settings(
    max_examples=100,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(choice=st.data())
def test_one_wrong_bit_is_an_error_or_harmless(tmp_path: Path, name: str, data: bytes, choice: st.DataObject) -> None:
    place = choice.draw(st.integers(0, len(data) - 1))
    bit = choice.draw(st.integers(0, 7))
    path = written(tmp_path / name, data[:place] + bytes([data[place] ^ (1 << bit)]) + data[place + 1 :])
    try:
        tensors = read_checkpoint(path).tensors
    except WeightsError:
        return
    if data is ZIP:  # the only format with checksums
        assert equal(tensors, TENSORS)


def test_paths_that_are_no_file_say_why(tmp_path: Path) -> None:
    (tmp_path / "folder.pth").mkdir()
    (tmp_path / "loop.pth").symlink_to(tmp_path / "loop.pth")
    os.mkfifo(tmp_path / "pipe.pth")
    for name, message in (
        ("absent.pth", r"absent\.pth does not exist\. Check the path"),
        ("loop.pth", r"loop\.pth does not exist"),
        ("nul\0.pth", "does not exist"),
        ("folder.pth", r"folder\.pth is a folder\. Give the weights file inside it"),
        ("pipe.pth", r"pipe\.pth is not a regular file\. Give a file on disk"),
    ):
        with pytest.raises(WeightsError, match=message):
            read_checkpoint(tmp_path / name)


def test_an_unreadable_file_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path / "a.pth", ZIP)

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", refuse)  # file modes do not stop root, who may run the tests
    with pytest.raises(WeightsError, match=r"a\.pth cannot be read: Permission denied\. Check who may read it"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    ("content", "ema", "message"),
    [
        ({}, False, r"holds nothing instead of a dictionary of tensors"),
        ([torch.ones(1)], False, r"holds a list instead of a dictionary of tensors"),
        (torch.ones(1), False, r"holds a Tensor instead of a dictionary of tensors"),
        (TENSORS, True, r"one bare set of weights and no moving average\. Load it without EMA"),
        (
            {"state_dict": TENSORS, "epoch": 1, "arch": "x"},
            True,
            r"no moving average under state_dict_ema or model_ema\. Sections present: state_dict, epoch, arch\. Load",
        ),
        ({"state_dict": TENSORS, "state_dict_ema": None}, True, r"no moving average under state_dict_ema"),
        ({"net": TENSORS}, False, r"no weights under state_dict or model\. Sections present: net\. Save"),
        ({str(i): 1 for i in range(11)}, False, r"Sections present: 0, 1, 2, 3, 4, 5, 6, 7, … and 3 more\. Save"),
        ({"state_dict": {}, "epoch": 1}, False, r"named dense tensors and nothing else, but state_dict holds nothing"),
        ({"model": {**TENSORS, "n": 1}, "epoch": 1}, False, r"but model holds 1 entries that are not: n\. Save"),
        ({1: torch.ones(1)}, False, r"but it holds 1 entries that are not: 1\. "),
        ({"a": torch.eye(3).to_sparse()}, False, r"but it holds 1 entries that are not: a\. "),
        ({"a": torch.empty(3, device="meta")}, False, r"but it holds 1 entries that are not: a\. "),
    ],
    ids=["empty", "list", "tensor", "bare-ema", "no-ema", "none-ema", "other", "many", "empty-section", "number",
         "key", "sparse", "meta"],
)  # fmt: skip
def test_a_section_must_be_there_and_hold_tensors(tmp_path: Path, content: object, ema: bool, message: str) -> None:
    with pytest.raises(WeightsError, match=message):
        read_checkpoint(written(tmp_path / "a.pth", saved(content)), ema=ema)
