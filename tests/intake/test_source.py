"""What is asked of a network's inputs: sizes with and without names, and what can be fed at all."""

import pytest
from torch import nn

from edgekit.artifact import TensorSpec
from edgekit.errors import MisuseError, ModelError
from edgekit.intake import resolve
from edgekit.intake.source import Asked, Built, check_inputs, one_shape, shapes_by_name

SHAPE = (1, 3, 8, 8)


def built(*inputs: TensorSpec) -> Built:
    model = nn.Identity()
    return Built(model, model, inputs, ("output",))


def test_float32_tensors_of_any_rank_can_be_fed() -> None:
    of = built(*(TensorSpec(name=f"x{rank}", shape=(2,) * rank) for rank in range(6)))
    assert check_inputs(of) == of.inputs


@pytest.mark.parametrize("dtype", ["int64", "bool", "float16", "float64"])
def test_nothing_else_can_and_the_input_is_named(dtype: str) -> None:
    message = rf"^Input 'ids' is {dtype}; edgekit exports networks that take float32 tensors\. Give a callable that"
    with pytest.raises(ModelError, match=message):
        check_inputs(built(TensorSpec(name="x", shape=SHAPE), TensorSpec(name="ids", shape=(1, 7), dtype=dtype)))


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        (None, {}),
        ({}, {}),
        ({"b": (1, 8)}, {"b": (1, 8)}),
        ({"b": (1, 8), "a": SHAPE}, {"a": SHAPE, "b": (1, 8)}),
    ],
)
def test_sizes_come_by_name(asked: Asked, found: dict[str, tuple[int, ...]]) -> None:
    assert shapes_by_name(asked, ("a", "b"), "net") == found


def test_one_input_needs_no_name() -> None:
    assert shapes_by_name(SHAPE, ("a",), "net") == {"a": SHAPE}


def test_a_size_that_belongs_to_no_input_or_to_any_is_refused() -> None:
    with pytest.raises(
        MisuseError, match=r"^net takes 2 inputs\. Give their sizes: --input a=1x3x224x224 --input b=1x3"
    ):
        shapes_by_name(SHAPE, ("a", "b"), "net")
    with pytest.raises(MisuseError, match=r"^net has no input 'c'; it has a, b\.$"):
        shapes_by_name({"a": SHAPE, "c": SHAPE}, ("a", "b"), "net")


def test_the_only_input_may_be_named() -> None:
    assert one_shape(None, "input") is None
    assert one_shape(SHAPE, "input") == one_shape({"input": SHAPE}, "input") == SHAPE
    for asked in ({"image": SHAPE}, {"input": SHAPE, "image": SHAPE}):
        with pytest.raises(ModelError, match=r"takes one input, named 'input'; sizes were given for "):
            one_shape(asked, "input")


@pytest.mark.parametrize("asked", [None, SHAPE, {"input": SHAPE}])
def test_a_model_of_edgekits_own_tells_its_input_without_being_built(asked: Asked) -> None:
    (spec,) = resolve("parcnetv2_xt").inputs(asked)
    assert (spec.name, spec.layout, spec.dtype) == ("input", "NCHW", "float32")
    assert spec.shape == (SHAPE if asked else (1, 3, 224, 224))


def test_features_are_another_network_under_another_name() -> None:
    source, classifier = resolve("parnet_cifar_w32", features=True), resolve("parnet_cifar_w32")
    assert (source.text, source.name) == ("parnet_cifar_w32", "parnet_cifar_w32_features")
    assert source.identity() == {"model": "parnet_cifar_w32_features"} != classifier.identity()
    made = source.build()
    assert made.outputs == ("stride1", "stride2", "stride4")
    assert not made.model.training
    assert source.card().classes == 0


def test_features_follow_the_kernel_policy() -> None:
    counts = [
        sum(
            value.numel()
            for value in resolve("parcnetv2_xt", features=True).build(kernel_policy=policy).model.parameters()
        )
        for policy in ("interpolate", "keep")
    ]
    assert counts[0] == counts[1] == 7_106_736


@pytest.mark.parametrize("text", ["net.onnx", "net.pt2", "nets.py:build", "pkg.module:build"])
def test_features_of_somebody_elses_network_are_its_own_affair(text: str) -> None:
    with pytest.raises(
        MisuseError, match=rf"^--features is for edgekit's own backbones and timm's; {text} returns what"
    ):
        resolve(text, features=True)
