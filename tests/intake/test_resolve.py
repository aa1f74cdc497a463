"""What MODEL means, decided by its syntax."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from edgekit.errors import MisuseError, ModelError, UnknownNameError
from edgekit.intake import resolve
from edgekit.intake.source import Source
from edgekit.intake.zoo import ZooSource


def test_card_name_is_the_zoo() -> None:
    source = resolve("parcnetv2_xt")
    assert isinstance(source, ZooSource)
    assert (source.text, source.name, source.weights) == ("parcnetv2_xt", "parcnetv2_xt", "seeded")
    assert source.identity() == {"model": "parcnetv2_xt"}
    assert source.card().parameters == 7_427_720


def test_zoo_builds_in_evaluation_mode() -> None:
    built = resolve("parcnetv2_xt").build((1, 3, 64, 64), "keep")
    assert not built.model.training
    assert built.model is built.original
    assert (built.inputs[0].shape, built.outputs) == ((1, 3, 64, 64), ("logits",))


def test_card_name_loads_no_framework() -> None:
    code = (
        "import sys, json; from edgekit.intake import resolve; s = resolve('parcnetv2_t'); s.card(); s.identity();"
        "print(json.dumps([m for m in ('torch', 'timm', 'onnx', 'numpy') if m in sys.modules]))"
    )
    process = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert json.loads(process.stdout) == []


def test_unknown_name_gives_the_closest_and_the_other_forms() -> None:
    with pytest.raises(
        UnknownNameError, match=r"no model named 'parcnetv2_x'. Did you mean parcnetv2_.+timm:NAME, pack"
    ):
        resolve("parcnetv2_x")


@pytest.mark.parametrize("text", ["some words:name", "pkg.mod:not-a-name", "pkg-x:name", ":name", "pkg:"])
def test_nearly_a_callable_is_unknown(text: str) -> None:
    with pytest.raises(UnknownNameError, match=r"MODEL can also be"):
        resolve(text)


@pytest.mark.parametrize("text", ["w.pth", "dir/w.pth.tar", "w.pt", "w.safetensors"])
def test_checkpoint_is_no_model(text: str) -> None:
    with pytest.raises(MisuseError, match=rf"{text} is a checkpoint: .+ edgekit export MODEL --weights {text}"):
        resolve(text)


def test_file_without_a_name_lists_what_it_defines(tmp_path: Path) -> None:
    path = tmp_path / "nets.py"
    path.write_text("class Net: ...\ndef build(): ...\ndef _hidden(): ...\n")
    with pytest.raises(MisuseError, match=r"does not say which .+nets.py:NAME. The file defines: Net, build."):
        resolve(str(path))


def test_missing_file_names_what_is_beside_it(tmp_path: Path) -> None:
    (tmp_path / "net.onnx").touch()
    with pytest.raises(ModelError, match=r"nett.onnx does not exist. Beside it: .+net.onnx."):
        resolve(str(tmp_path / "nett.onnx"))
    with pytest.raises(ModelError, match=r"x.pt2 does not exist. Check the path."):
        resolve(str(tmp_path / "nowhere" / "x.pt2"))


def test_folder_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "net.onnx").mkdir()
    with pytest.raises(ModelError, match=r"is a folder. Give the file inside it"):
        resolve(str(tmp_path / "net.onnx"))


@pytest.mark.parametrize("ending", ["pt2", "onnx"])
def test_file_is_not_read_to_decide(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"net.{ending}"
    path.touch()
    source: Source = resolve(str(path))
    assert (source.name, source.weights) == ("net", "fixed")


def test_kernel_policy_is_for_the_zoo(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.touch()
    with pytest.raises(MisuseError, match=r"--kernel is for edgekit's own models"):
        resolve(str(path)).build(kernel_policy="keep")
