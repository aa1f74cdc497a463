"""A plan settles everything before a framework is loaded, and its keys change exactly when the bytes would."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import save_file

from edgekit.artifact import TensorSpec
from edgekit.errors import MisuseError, UnknownNameError, WeightsError
from edgekit.files import sha256
from edgekit.models.shipped import weights_path
from edgekit.plan import Request, hash_weights, inputs_text, make_plan
from edgekit.targets.board import board_names, load_board

BASE = Request("parcnetv2_xt")


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A weights file; what is in it does not matter before the network is built."""
    path = tmp_path / "weights.safetensors"
    save_file({}, path)
    return path


@pytest.mark.parametrize(
    ("changed", "folder"),
    [
        ({}, "parcnetv2_xt-224-arm"),
        ({"target": "rk3288"}, "parcnetv2_xt-224-rk3288"),
        ({"shape": (1, 3, 320, 320)}, "parcnetv2_xt-320-arm"),
        ({"shape": (1, 3, 320, 256)}, "parcnetv2_xt-320x256-arm"),
        ({"shape": (4, 3, 224, 224)}, "parcnetv2_xt-224-n4-arm"),
        ({"kernel_policy": "interpolate"}, "parcnetv2_xt-224-interpolate-arm"),
        ({"shape": (2, 3, 64, 96), "kernel_policy": "keep"}, "parcnetv2_xt-64x96-n2-keep-arm"),
        ({"features": True, "shape": {"input": (1, 3, 64, 64)}}, "parcnetv2_xt_features-64-arm"),
    ],
)
def test_the_folder_says_what_differs_from_the_usual(changed: dict[str, Any], folder: str) -> None:
    assert make_plan(dataclasses.replace(BASE, **changed)).out == Path("edgekit-out") / folder


def test_another_folder_can_be_given() -> None:
    assert make_plan(dataclasses.replace(BASE, out=Path("a/b"))).out == Path("a/b")


@pytest.mark.parametrize("name", board_names())
def test_a_target_decides_the_formats(name: str) -> None:
    plan = make_plan(dataclasses.replace(BASE, target=name))

    assert sorted(entry.format for entry in plan.exporters) == sorted(load_board(name).formats)


@pytest.mark.parametrize("formats", [("onnx",), ("tflite", "onnx"), ("onnx", "onnx")])
def test_formats_given_by_hand_come_once_each_in_their_own_order(formats: tuple[str, ...]) -> None:
    plan = make_plan(dataclasses.replace(BASE, target="rk3288", formats=formats))

    assert [entry.format for entry in plan.exporters] == sorted(set(formats))
    assert plan.artifact_keys.keys() == set(formats)


def test_what_is_left_open_comes_from_the_card() -> None:
    plan = make_plan(BASE)

    assert plan.inputs[0].shape == plan.card.input_shape == (1, 3, 224, 224)
    assert plan.kernel_policy == "interpolate"
    assert plan.weights_sha256 is None
    assert plan.stem == "parcnetv2_xt.fp32"


def test_an_artifact_says_what_it_is(checkpoint: Path) -> None:
    metadata = make_plan(dataclasses.replace(BASE, shape=(1, 3, 320, 256), weights=checkpoint)).metadata

    assert all(key.startswith("edgekit.") for key in metadata)
    assert metadata["edgekit.model"] == "parcnetv2_xt"
    assert metadata["edgekit.input"] == "1x3x320x256"
    assert metadata["edgekit.resolution"].startswith(
        "locked to 1x3x320x256; for another size: edgekit export parcnetv2_xt "
    )
    assert metadata["edgekit.kernel_policy"] == "interpolate"
    assert json.loads(metadata["edgekit.weights"]) == {"sha256": hash_weights(checkpoint), "ema": False}
    assert json.loads(metadata["edgekit.preprocessing"])["channel_order"] == "RGB"


@pytest.fixture
def pair(tmp_path: Path) -> str:
    """A network of an image and a code, with example inputs."""
    path = tmp_path / "nets.py"
    path.write_text(
        "import torch\nfrom torch import nn\nclass Pair(nn.Module):\n    def forward(self, image, code):\n"
        "        return image.mean((2, 3)) + code\ndef pair():\n"
        "    return Pair().eval(), (torch.zeros(1, 3, 8, 8), torch.zeros(1, 3))\n"
    )
    return f"{path}:pair"


def test_a_plan_of_several_inputs_names_them(pair: str) -> None:
    plan = make_plan(Request(pair, formats=("onnx",), shape={"image": (2, 3, 6, 4), "code": (2, 3)}))

    assert [(spec.name, spec.shape) for spec in plan.inputs] == [("image", (2, 3, 6, 4)), ("code", (2, 3))]
    assert inputs_text(plan.inputs) == plan.metadata["edgekit.input"] == "image=2x3x6x4 code=2x3"
    assert plan.metadata["edgekit.layout"] == "NCHW, none"
    assert plan.metadata["edgekit.resolution"].startswith("locked to image=2x3x6x4 code=2x3; for another size: edgekit")
    assert plan.out == Path("edgekit-out/nets-pair-6x4-n2-arm")
    assert (plan.network_key, plan.artifact_keys) == (None, {})


def test_keys_follow_the_names_of_inputs(pair: str) -> None:
    plan = make_plan(Request(pair, formats=("onnx",)))
    renamed = tuple(TensorSpec(name=f"{spec.name}2", shape=spec.shape) for spec in plan.inputs)
    keys = {
        each.keyed({"program": "x"}).artifact_keys["onnx"] for each in (plan, dataclasses.replace(plan, inputs=renamed))
    }
    assert len(keys) == 2


OTHER_NETWORK: list[dict[str, Any]] = [
    {"model": "parcnetv2_t"},
    {"seed": 1},
    {"shape": (1, 3, 64, 64)},
    {"shape": (2, 3, 224, 224)},
    {"kernel_policy": "keep"},
    {"features": True},
    {"weights": "checkpoint"},
    {"weights": "checkpoint", "ema": True},
]

SAME_NETWORK: list[dict[str, Any]] = [
    {},
    {"formats": ("onnx",)},
    {"out": Path("elsewhere")},
    {"shape": (1, 3, 224, 224)},
    {"shape": {"input": (1, 3, 224, 224)}},
    {"kernel_policy": "interpolate"},
]


def keys(changed: dict[str, Any], checkpoint: Path) -> tuple[str | None, str]:
    if "weights" in changed:
        changed = {**changed, "weights": checkpoint}
    plan = make_plan(dataclasses.replace(BASE, **changed))
    return plan.network_key, plan.artifact_keys["onnx"]


def test_another_network_has_another_key(checkpoint: Path) -> None:
    found = [keys(changed, checkpoint) for changed in ({}, *OTHER_NETWORK)]

    assert len({network for network, _ in found}) == len(found)
    assert len({artifact for _, artifact in found}) == len(found)


def test_the_weights_a_demo_model_comes_with_are_its_own_network(checkpoint: Path) -> None:
    demo: dict[str, Any] = {"model": "parnet_pico_digits"}
    other = {"model": "parnet_pico_patterns"}
    found = [keys({**demo, **changed}, checkpoint) for changed in ({}, {"seed": 0}, {"weights": "checkpoint"}, other)]

    assert len({network for network, _ in found}) == 4
    plan = make_plan(Request("parnet_pico_digits", formats=("onnx",)))
    path = weights_path("parnet_pico_digits")
    assert plan.shipped == path
    assert json.loads(plan.metadata["edgekit.weights"])["sha256"] == plan.weights_sha256 == sha256(path)


@pytest.mark.parametrize("changed", SAME_NETWORK, ids=lambda changed: ", ".join(changed) or "again")
def test_the_same_network_has_the_same_key(changed: dict[str, Any], checkpoint: Path) -> None:
    assert keys(changed, checkpoint) == keys({}, checkpoint)


def test_another_target_is_the_same_network_in_other_forms(checkpoint: Path) -> None:
    network, artifact = keys({}, checkpoint)
    elsewhere = keys({"target": "rk3288"}, checkpoint)
    assert (elsewhere[0], elsewhere[1] == artifact) == (network, False)


@pytest.mark.parametrize(
    ("recipe", "lowering"),
    [("fp16", "fp32"), ("wi8_weightonly", "fp32"), ("dynamic_wi8", "int8"), ("int8", "int8")],
)
def test_a_quantized_artifact_is_lowered_for_its_arithmetic(recipe: str, lowering: str) -> None:
    plan = make_plan(Request("parnet_pico_digits", formats=("onnx",), recipe=recipe, data="digits"))
    assert (plan.lowering, plan.quantized().lowering) == ("fp32", lowering)


def test_formats_without_int8_stay_float_beside_those_that_have_it() -> None:
    plan = make_plan(Request("parnet_pico_digits", formats=("onnx", "ncnn"), recipe="int8", data="digits"))
    assert [(entry.format, recipe.name) for entry, _, recipe in plan.quantizers] == [("onnx", "mixed_wi8_ai8")]
    half = make_plan(dataclasses.replace(plan.request, recipe="fp16"))
    assert [(entry.format, recipe.name) for entry, _, recipe in half.quantizers] == [("onnx", "fp16"), ("ncnn", "fp16")]


@pytest.mark.parametrize("changed", [{"lowering": ("toeplitz",)}, {"max_bytes": 40_000_000}], ids=", ".join)
def test_what_is_asked_of_the_forms_is_another_artifact(changed: dict[str, Any], checkpoint: Path) -> None:
    network, artifact = keys({}, checkpoint)
    asked = keys(changed, checkpoint)
    assert (asked[0], asked[1] == artifact) == (network, False)


def test_a_checkpoint_is_known_by_its_content(checkpoint: Path, tmp_path: Path) -> None:
    before = keys({"weights": checkpoint}, checkpoint)
    moved = checkpoint.rename(tmp_path / "moved.safetensors")
    assert keys({"weights": moved}, moved) == before

    save_file({}, moved, {"epoch": "2"})
    assert keys({"weights": moved}, moved) != before


@pytest.mark.parametrize("package", ["torch", "numpy", "onnx", "onnxruntime", "onnxsim"])
def test_another_version_of_a_tool_is_another_result(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = make_plan(dataclasses.replace(BASE, formats=("onnx",)))
    from importlib.metadata import version

    monkeypatch.setattr("edgekit.cache.version", lambda name: "0" if name == package else version(name))
    after = make_plan(dataclasses.replace(BASE, formats=("onnx",)))

    assert after.artifact_keys != before.artifact_keys
    assert (after.network_key == before.network_key) is (package not in ("torch", "numpy"))
    assert after.tools[package] == "0"


def test_another_edgekit_is_another_result(monkeypatch: pytest.MonkeyPatch) -> None:
    before = make_plan(BASE)
    monkeypatch.setattr("edgekit.plan.source_hash", lambda: "another")
    after = make_plan(BASE)

    assert after.network_key != before.network_key
    assert after.artifact_keys["onnx"] != before.artifact_keys["onnx"]


def test_a_board_without_a_runtime_has_no_formats(monkeypatch: pytest.MonkeyPatch) -> None:
    import msgspec

    bare = msgspec.structs.replace(load_board("arm"), runtimes=())
    monkeypatch.setattr("edgekit.plan.load_board", lambda name: bare)

    with pytest.raises(MisuseError, match=r"No runtime is known for target 'arm'\. Choose formats with --format"):
        make_plan(BASE)
    assert make_plan(dataclasses.replace(BASE, formats=("onnx",))).exporters


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"model": "parcnetv2_x"}, UnknownNameError, r"Did you mean parcnetv2_xt or"),
        ({"model": "a\udcff.onnx"}, MisuseError, r"'a\\udcff\.onnx' is not UTF-8"),
        ({"target": "rk"}, UnknownNameError, r"no target named 'rk'"),
        ({"formats": ("onnx", "nnapi")}, UnknownNameError, r"no format named 'nnapi'"),
        ({"recipe": "int9"}, MisuseError, r"no recipe 'int9': it begins with 'int9'"),
        ({"recipe": "int8"}, MisuseError, r"'int8' needs images: .* Give them with --data: a folder"),
        ({"data": "digits"}, MisuseError, r"--ranges, --max-drop and --smallest are for quantizing"),
        ({"ranges": "mse"}, MisuseError, r"--ranges, --max-drop and --smallest are for quantizing"),
        (
            {"recipe": "int8", "data": "digits", "formats": ("pt2", "ncnn")},
            MisuseError,
            r"Float only: ncnn \(.*; it takes fp16\), pt2 \(nothing quantizes it\)\. onnx, .* can be had in int8",
        ),
        (
            {"recipe": "dynamic_wi8", "data": "digits", "formats": ("openvino",)},
            MisuseError,
            r"cannot be carried",
        ),
        ({"shape": (1, 3, 2, 224)}, MisuseError, r"cannot take 2x224: .*Nearest that work: 1x3x3x224\."),
        ({"shape": (1, 4, 224, 224)}, MisuseError, r"Nx3xHxW"),
        ({"kernel_policy": "zoom"}, MisuseError, r"no kernel policy 'zoom'"),
        ({"ema": True}, MisuseError, r"--ema chooses a section of a checkpoint"),
        ({"weights": Path("gone.pth")}, WeightsError, r"gone\.pth cannot be read: No such file or directory"),
        ({"weights": Path("/")}, WeightsError, r"/ is a folder"),
    ],
    ids=lambda value: ", ".join(value) if isinstance(value, dict) else None,
)
def test_what_cannot_be_carried_out_is_refused(changed: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make_plan(dataclasses.replace(BASE, **changed))
