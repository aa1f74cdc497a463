"""ONNX files of whole networks: taken over, captured, at another size, and refused with the reason."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from edgekit.capture import capture
from edgekit.errors import MisuseError, ModelError, ParityError
from edgekit.intake import onnx_source, resolve
from edgekit.intake.onnx_call import Operator
from edgekit.intake.onnx_operators import OPERATORS
from edgekit.intake.onnx_source import OnnxSource
from edgekit.program import run


class Mixed(nn.Module):
    """Convolution, norm, attention by hand, interpolation: what a CNN and a ViT are made of."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.Hardswish())
        self.norm = nn.LayerNorm(8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.interpolate(self.stem(x), scale_factor=2.0, mode="bilinear")
        x = nn.functional.gelu(nn.functional.avg_pool2d(x, 2))
        tokens = self.norm(x.flatten(2).transpose(1, 2))
        tokens = tokens + self.attention(tokens, tokens, tokens, need_weights=False)[0]
        logits: Tensor = self.head(tokens.mean(1))
        return logits.softmax(-1)


def exported(path: Path, model: nn.Module, shape: tuple[int, ...], **options: Any) -> Path:
    program = torch.onnx.export(model.eval(), (torch.randn(shape),), dynamo=True, verbose=False, **options)
    assert program is not None
    program.save(path)
    return path


def one_conv(path: Path, *, opset: int = 17, shape: tuple[Any, ...] = (1, 3, 8, 8), nodes: Any = None) -> Path:
    """A file with a convolution, or with other nodes."""
    weight = np.random.default_rng(0).standard_normal((4, 3, 3, 3)).astype(np.float32)
    graph = helper.make_graph(
        nodes or [helper.make_node("Conv", ["x", "w"], ["y"], name="conv")],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(weight, "w")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8), path)
    return path


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    return exported(tmp_path_factory.mktemp("onnx") / "mixed.onnx", Mixed(), (1, 3, 16, 16))


def test_network_is_captured_and_is_the_same(mixed: Path) -> None:
    built = resolve(str(mixed)).build()
    image = torch.randn(built.inputs[0].shape, generator=torch.Generator().manual_seed(0))
    program = capture(built.model, built.inputs[0].shape)
    session = onnxruntime.InferenceSession(mixed)
    (expected,) = session.run(None, {built.inputs[0].name: image.numpy()})
    assert isinstance(expected, np.ndarray)
    np.testing.assert_allclose(run(program, image)[0].numpy(), expected, rtol=1e-4, atol=1e-6)
    doubled = built.model.double()(image.double())
    np.testing.assert_allclose(doubled.numpy(), expected, rtol=1e-4, atol=1e-6)


def test_captured_operators_stay_whole(mixed: Path) -> None:
    built = resolve(str(mixed)).build()
    code = capture(built.model, built.inputs[0].shape).code
    for operator in ("conv2d", "layer_norm", "gelu", "softmax", "upsample_bilinear2d"):
        assert f"aten.{operator}" in code


def test_card_counts(mixed: Path) -> None:
    card = resolve(str(mixed)).card()
    assert (card.name, card.family, card.classes) == ("mixed", "onnx", 5)
    assert card.parameters >= 8 * 3 * 9 + 5 * 9
    assert card.macs >= 8 * 8 * 8 * 27
    assert any("Preprocessing is not known" in note for note in card.notes)


def test_open_sizes_take_what_is_asked(tmp_path: Path) -> None:
    source = OnnxSource(one_conv(tmp_path / "open.onnx", shape=("n", 3, "h", "w")))
    assert source.build().inputs[0].shape == (1, 3, 224, 224)
    assert source.build((2, 3, 12, 10)).inputs[0].shape == (2, 3, 12, 10)
    assert source.build({"x": (1, 3, 9, 9)}).inputs[0].shape == (1, 3, 9, 9)


def test_fixed_size_is_refused_at_another(tmp_path: Path) -> None:
    source = OnnxSource(one_conv(tmp_path / "fixed.onnx", shape=("n", 3, 8, 8)))
    with pytest.raises(MisuseError, match=r"takes 'x' as \?x3x8x8, not 1x3x16x16. Leave --input out"):
        source.build((1, 3, 16, 16))


def two_tensors(path: Path, first: str = "image") -> Path:
    """A file with two inputs and two outputs: a convolution of one, and the other's exponential."""
    weight = np.random.default_rng(0).standard_normal((4, 3, 3, 3)).astype(np.float32)
    nodes = [helper.make_node("Conv", [first, "w"], ["map"]), helper.make_node("Exp", ["code"], ["out/exp"])]
    shapes: dict[str, tuple[Any, ...] | None] = {first: (1, 3, "h", "w"), "code": (1, 8), "map": None, "out/exp": None}
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()]
    graph = helper.make_graph(nodes, "g", values[:2], values[2:], [numpy_helper.from_array(weight, "w")])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def test_several_inputs_and_outputs_keep_their_order(tmp_path: Path) -> None:
    path = two_tensors(tmp_path / "two.onnx")
    built = OnnxSource(path).build({"image": (1, 3, 9, 10)})
    assert [(spec.name, spec.shape) for spec in built.inputs] == [("image", (1, 3, 9, 10)), ("code", (1, 8))]
    assert built.outputs == ("map", "out_exp")
    given = {spec.name: np.random.default_rng(1).random(spec.shape, dtype=np.float32) for spec in built.inputs}
    expected = onnxruntime.InferenceSession(path).run(None, given)
    program = capture(built.model, *(spec.shape for spec in built.inputs))
    found = run(program, *(torch.from_numpy(values) for values in given.values()))
    for values, wanted in zip(found, expected, strict=True):
        np.testing.assert_allclose(values.numpy(), np.asarray(wanted), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("first", ["out_exp", "map_", "in:0/a"])
def test_names_are_all_different_and_some_that_every_format_takes(tmp_path: Path, first: str) -> None:
    """An ONNX file may name its tensors as it likes."""
    built = OnnxSource(two_tensors(tmp_path / "two.onnx", first)).build()
    names = [*(spec.name for spec in built.inputs), *built.outputs]
    assert len(set(names)) == 4
    assert all(name.isidentifier() for name in names)


def test_sizes_of_several_inputs_are_given_by_name(tmp_path: Path) -> None:
    source = OnnxSource(two_tensors(tmp_path / "two.onnx"))
    with pytest.raises(
        MisuseError, match=r"two\.onnx takes 2 inputs\. Give their sizes: --input image=1x3x224x224 --in"
    ):
        source.build((1, 3, 8, 8))
    with pytest.raises(MisuseError, match=r"two\.onnx has no input 'typo'; it has image, code\."):
        source.build({"typo": (1, 3, 8, 8)})
    with pytest.raises(MisuseError, match=r"takes 'code' as 1x8, not 1x9\."):
        source.build({"code": (1, 9)})


def test_identity_follows_the_bytes(tmp_path: Path) -> None:
    first = OnnxSource(one_conv(tmp_path / "a.onnx")).identity()
    assert first == OnnxSource(one_conv(tmp_path / "b.onnx")).identity()
    assert first != OnnxSource(one_conv(tmp_path / "c.onnx", opset=18)).identity()


def with_external_data(path: Path) -> Path:
    model = onnx.load(one_conv(path))
    onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    return path


def test_external_data_is_read_and_counts(tmp_path: Path) -> None:
    source = OnnxSource(with_external_data(tmp_path / "big.onnx"))
    assert source.build().outputs == ("y",)
    assert list(source.identity()) == ["onnx", "data weights.bin"]


def test_missing_external_data_is_named(tmp_path: Path) -> None:
    path = with_external_data(tmp_path / "big.onnx")
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(ModelError, match=r"keeps its weights in weights.bin, which is not beside it"):
        OnnxSource(path).build()


def test_cut_external_data_is_refused(tmp_path: Path) -> None:
    path = with_external_data(tmp_path / "big.onnx")
    (tmp_path / "weights.bin").write_bytes(b"short")
    with pytest.raises(ModelError, match=r"external data cannot be read"):
        OnnxSource(path).build()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00", "git-lfs pointer"),
        (b"<html>login</html>", "is no ONNX file, or is damaged"),
        (b"\x08\x09\x12", "is no ONNX file, or is damaged"),
    ],
    ids=["empty", "lfs", "web page", "cut"],
)
def test_damaged_file_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "bad.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=message):
        OnnxSource(path).build()


def test_cut_file_is_refused(tmp_path: Path) -> None:
    path = one_conv(tmp_path / "cut.onnx")
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ModelError, match=r"is damaged|which no node before it makes|is no ONNX file"):
        OnnxSource(path).build()


def test_old_opset_is_refused_with_the_conversion(tmp_path: Path) -> None:
    with pytest.raises(
        ModelError, match=r"is of ONNX opset 7; edgekit reads 9 and newer. Convert it: onnx.version_conv"
    ):
        OnnxSource(one_conv(tmp_path / "old.onnx", opset=7)).build()


def test_unknown_operators_are_all_named(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], name="conv"),
        helper.make_node("NonZero", ["a"], ["b"], name="find"),
        helper.make_node("FusedThing", ["b"], ["y"], name="fused", domain="com.example"),
    ]
    message = (
        r"uses 2 operators that edgekit does not read: NonZero \(find\); com.example.FusedThing \(fused\). Cut the"
    )
    with pytest.raises(ModelError, match=message):
        OnnxSource(one_conv(tmp_path / "odd.onnx", nodes=nodes)).build()


def test_quantized_file_is_refused(tmp_path: Path) -> None:
    nodes = [helper.make_node("QuantizeLinear", ["x", "w"], ["y"])]
    with pytest.raises(ModelError, match=r"is quantized already \(QuantizeLinear\)"):
        OnnxSource(one_conv(tmp_path / "q.onnx", nodes=nodes)).build()


def test_half_precision_is_refused(tmp_path: Path) -> None:
    model = onnx.load(one_conv(tmp_path / "half.onnx"))
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.ones((4, 3, 3, 3), np.float16), "w"))
    onnx.save(model, tmp_path / "half.onnx")
    with pytest.raises(ModelError, match=r"is in half precision \(w\)"):
        OnnxSource(tmp_path / "half.onnx").build()


def test_size_from_values_names_the_node(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("ReduceMax", ["x"], ["m"], keepdims=0),
        helper.make_node("Cast", ["m"], ["n"], to=TensorProto.INT64),
        helper.make_node("Unsqueeze", ["n", "zero"], ["s"]),
        helper.make_node("Expand", ["x", "s"], ["y"], name="grow"),
    ]
    path = one_conv(tmp_path / "dynamic.onnx", nodes=nodes)
    model = onnx.load(path)
    model.graph.initializer.append(numpy_helper.from_array(np.array([0], dtype=np.int64), "zero"))
    onnx.save(model, path)
    with pytest.raises(ModelError, match=r"Node grow \(Expand of 1x3x8x8, 1\): input 1 depends on the values"):
        OnnxSource(path).build()


def test_wrong_size_inside_names_the_node(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"cannot be taken over. Node conv \(Conv of 1x5x8x8, 4x3x3x3\): RuntimeError"):
        OnnxSource(one_conv(tmp_path / "open.onnx", shape=("n", "c", 8, 8))).build((1, 5, 8, 8))


def test_unsupported_form_names_the_node(tmp_path: Path) -> None:
    nodes = [helper.make_node("MaxPool", ["x"], ["y", "i"], name="pool", kernel_shape=[2, 2])]
    with pytest.raises(ModelError, match=r"Node pool \(MaxPool of 1x3x8x8\): indices as a second output"):
        OnnxSource(one_conv(tmp_path / "pool.onnx", nodes=nodes)).build()


def test_wrong_translation_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The negative twin of every operator test: one weight off by a thousandth is seen."""

    def wrong(call: Any) -> Tensor:
        weight = call[1].clone()
        weight.view(-1)[0] += 1e-3
        return torch.conv2d(call[0], weight)

    broken: Mapping[str, Operator] = {**OPERATORS, "Conv": wrong}
    monkeypatch.setattr(onnx_source, "OPERATORS", broken)
    with pytest.raises(ParityError, match=r"was not taken over faithfully: output 'y' agrees with ONNX Runtime's to"):
        OnnxSource(one_conv(tmp_path / "conv.onnx")).build()


def test_several_inputs_and_outputs_keep_their_names(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["features/0"], name="conv"),
        helper.make_node("Mul", ["features/0", "scale"], ["scaled"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
            for name, shape in (("x", (1, 3, 8, 8)), ("scale", (1,)))
        ],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("features/0", "scaled")],
        [numpy_helper.from_array(np.ones((4, 3, 3, 3), np.float32), "w")],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "two.onnx"
    )
    built = OnnxSource(tmp_path / "two.onnx").build()
    assert [spec.name for spec in built.inputs] == ["x", "scale"]
    assert built.outputs == ("features_0", "scaled")
