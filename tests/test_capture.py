"""Capture: what comes out is the model, and what cannot be captured is one line."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgekit.artifact import Shape, TensorSpec
from edgekit.capture import capture, output_specs, size_text
from edgekit.errors import ModelError, ParityError
from edgekit.inputs import generate
from edgekit.intake.zoo import INPUT_NAME
from edgekit.models.build import build
from edgekit.models.parcnetv2 import ParCNetV2, ParCNetV2Config
from edgekit.models.weights import random_weights
from edgekit.network import check_capture, numpy_forward
from edgekit.program import clone, constant_names, finish, operator_counts, placeholders, run, stats
from edgekit.reference import model_in_float64, program_in_float64
from edgekit.verify import Reference, reference

TINY = ParCNetV2Config(widths=(8, 12, 16, 24), depths=(1, 1, 1, 1), num_classes=10)


class Function(nn.Module):
    """A function of the inputs, beside a weight that it may return."""

    def __init__(self, function: Callable[..., object]) -> None:
        super().__init__()
        self.function = function
        self.weight = nn.Parameter(torch.ones(4))

    def forward(self, *inputs: Tensor) -> object:
        return self.function(*inputs)


def returning(function: Callable[..., object]) -> nn.Module:
    return Function(function).eval()


def filled(model: nn.Module) -> nn.Module:
    random_weights(model, seed=0)
    return model.eval()


def test_a_captured_network_gives_the_same_numbers() -> None:
    model, image = filled(ParCNetV2(TINY)), torch.randn(1, 3, 40, 56, generator=torch.Generator().manual_seed(0))
    program = capture(model, (1, 3, 40, 56))
    torch.testing.assert_close(
        program_in_float64(program)(image)[0], model_in_float64(model)(image)[0], rtol=1e-13, atol=1e-13
    )
    with torch.no_grad():
        torch.testing.assert_close(run(program, image)[0], model(image), rtol=1e-5, atol=1e-6)


class Contexts(nn.Module):
    """A layer outside of any context, one without autocast and one without gradients."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv2d(3, 3, 1) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        first, second, third = self.layers
        x = first(x)
        with torch.autocast("cpu", enabled=False):
            x = second(x).relu()
        with torch.no_grad():
            parts = third(x).chunk(3, dim=1)
        result: Tensor = parts[0] + parts[2]
        return result


def test_operators_inside_contexts_join_the_others() -> None:
    model, image = filled(Contexts()), torch.randn(1, 3, 5, 4, generator=torch.Generator().manual_seed(0))
    program = finish(clone(capture(model, (1, 3, 5, 4))))
    counts = operator_counts(program)
    assert (counts["conv2d"], counts["relu"], counts["chunk"], counts["add"]) == (3, 1, 1, 1)
    assert sorted(constant_names(program)) == sorted(model.state_dict())
    with torch.no_grad():
        assert run(program, image)[0].equal(model(image))


def test_another_precision_is_refused() -> None:
    def half(x: Tensor) -> Tensor:
        with torch.autocast("cpu"):
            return x @ x.mT

    with pytest.raises(
        ModelError, match=r"computes in torch.bfloat16 under torch.autocast, and edgekit exports float32"
    ):
        capture(returning(half), (1, 3, 5, 4))


def test_operators_stay_whole_and_constants_keep_their_names() -> None:
    model = filled(ParCNetV2(TINY))
    program = capture(model, (1, 3, 64, 64))
    counts = operator_counts(program)
    assert (counts["gelu"], counts["layer_norm"], counts["linear"], counts["conv2d"]) == (8, 1, 9, 4 + 5 * 4)
    assert sorted(constant_names(program)) == sorted(model.state_dict())
    assert len(placeholders(program)) == 1


def test_capturing_leaves_the_model_as_it_was() -> None:
    model = filled(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    program = capture(model, (1, 3, 5, 5))
    run(program, torch.ones(1, 3, 5, 5))
    assert all(value.equal(before[name]) for name, value in model.state_dict().items())
    assert all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize(
    ("model", "shape", "read"),
    [
        (nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)), (1, 3, 5, 5), 4 * 27 + 4 + 4 * 4),
        (nn.Sequential(tied := nn.Linear(4, 4), nn.ReLU(), tied), (1, 4), 4 * 4 + 4),
    ],
    ids=["batch-norm", "tied"],
)
def test_a_captured_program_holds_only_the_constants_it_reads(model: nn.Module, shape: Shape, read: int) -> None:
    program = capture(model.eval(), shape)
    assert not [node.target for node in program.graph.nodes if node.op == "get_attr" and not node.users]
    assert stats(program).parameters == read == stats(finish(clone(program))).parameters


def test_training_mode_is_refused() -> None:
    with pytest.raises(ModelError, match=r"in training mode, where batch norm and dropout differ. Call model.eval\(\)"):
        capture(nn.Linear(4, 4), (1, 4))


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        (returning(lambda x: x if x.sum() > 0 else -x), (1, 4)),
        (returning(lambda x: x * float(x.max())), (1, 4)),
        (returning(lambda x: torch.from_numpy(np.tanh(x.numpy()))), (1, 4)),
        (nn.Linear(5, 5).eval(), (1, 4)),
        (nn.Bilinear(4, 4, 4).eval(), (1, 4)),
        (ParCNetV2(TINY).eval(), (1, 1, 64, 64)),
    ],
    ids=["dynamic-control-flow", "value-of-a-tensor", "leaves-torch", "wrong-size", "two-inputs", "wrong-channels"],
)
def test_what_cannot_be_captured_is_one_line_with_the_model_and_the_size(model: nn.Module, shape: Shape) -> None:
    with pytest.raises(ModelError, match=rf"\w+ cannot be captured at input {size_text(shape)}: \S") as caught:
        capture(model, shape)
    assert str(caught.value).startswith(type(model).__name__)
    assert "\n" not in str(caught.value)
    assert caught.value.__cause__ is not None


@pytest.mark.parametrize("name", ["graph", "meta"])
def test_a_module_with_a_name_that_graphs_use_themselves_is_refused(name: str) -> None:
    model = nn.ModuleDict({name: nn.Linear(4, 2)}).eval()
    model.forward = lambda x: model[name](x)
    with pytest.raises(ModelError, match=f"ModuleDict has a module named '{name}', a name torch.fx keeps for itself"):
        capture(model, (1, 4))


def test_the_output_has_edgekits_name_and_its_own_shape() -> None:
    specs = output_specs(capture(nn.Linear(4, 7).eval(), (3, 4)))
    assert specs == (TensorSpec(name="logits", shape=(3, 7), layout="NC"),)


def test_several_inputs_and_outputs_keep_their_order() -> None:
    program = capture(returning(lambda a, b, c: (a.sum(1) + b, c * 2, a - 1)), (2, 3), (2,), (5,))
    assert [tuple(node.meta["val"].shape) for node in placeholders(program)] == [(2, 3), (2,), (5,)]
    specs = output_specs(program, ("sum", "twice", "less"))
    assert [(spec.name, spec.shape, spec.layout) for spec in specs] == [
        ("sum", (2,), "N"),
        ("twice", (5,), "N"),
        ("less", (2, 3), "NC"),
    ]
    found = run(program, torch.ones(2, 3), torch.tensor([1.0, 2.0]), torch.arange(5.0))
    assert [value.tolist() for value in found] == [[4.0, 5.0], [0.0, 2.0, 4.0, 6.0, 8.0], [[0.0] * 3] * 2]


@pytest.mark.parametrize("made", [list, tuple])
def test_a_list_of_tensors_is_as_good_as_a_tuple(made: Callable[[object], object]) -> None:
    program = capture(returning(lambda x: made((x + 1, x * 2))), (1, 4))
    assert [spec.name for spec in output_specs(program, ("more", "twice"))] == ["more", "twice"]
    assert [value.tolist() for value in run(program, torch.ones(1, 4))] == [[[2.0] * 4]] * 2
    (alone,) = output_specs(capture(returning(lambda x: made((x + 1,))), (1, 4)))
    assert alone.name == "logits"


def test_a_message_about_several_inputs_has_all_their_sizes() -> None:
    with pytest.raises(ModelError, match=r"^Function cannot be captured at input 1x4, 5: \S"):
        capture(returning(lambda a, b: a + b), (1, 4), (5,))


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (
            lambda x: {"a": x + 1, "b": x * 2},
            r"2 tensors in a container, for which there are 2 names\. Return one tens",
        ),
        (lambda x: x + 1, r"returns 1 tensors in a container, for which there are 2 names\."),
        (lambda x: (x + 1, x * 2, x * 3), r"returns 3 tensors in a container, for which there are 2 names\."),
        (lambda x: ((x + 1), (x * 2, x * 3)), r"container, for which there are 2 names\. .* or a flat tuple of them\."),
        (lambda x: (y := x + 1, y), r"returns one tensor twice\. Return it once\."),
        (lambda x: (y := x + 1, y.detach()), r"returns one tensor twice\. Return it once\."),
        (lambda x: (x + 1, x), r"returns one of its inputs as 'second', which it does not compute\. Leave it out\."),
        (lambda x: (x + 1, torch.tensor([1.0, 2.0])), r"returns a constant as 'second', which it does not compute\."),
        (lambda x: (x + 1, None), r"returns a NoneType; edgekit exports models that return tensors\."),
        (lambda x: (x + 1, 3), r"returns a int; edgekit exports models that return tensors\."),
        (
            lambda x: (x + 1, x.argmax(1)),
            r"returns 'second' as int64; how close int64 values are says nothing\. Return t",
        ),
        (lambda x: (x + 1, x > 0), r"returns 'second' as bool; how close bool values are"),
        (lambda x: (x + 1, x.double()), r"returns 'second' as float64; .* Return the float32 values they are made of"),
        (
            lambda x: (x + 1, x[x > 0]),
            r"size of the model's output depends on the values of its input\. Return a fixed",
        ),
    ],
    ids=[
        "dictionary",
        "one-too-few",
        "one-too-many",
        "nested",
        "twice",
        "twice-by-another-name",
        "an-input",
        "a-constant",
        "nothing",
        "a-number",
        "decisions",
        "a-mask",
        "double",
        "size-by-values",
    ],
)
def test_what_cannot_be_an_output_is_refused_by_name(function: Callable[[Tensor], object], message: str) -> None:
    program = capture(returning(function), (1, 4))
    with pytest.raises(ModelError, match=message):
        output_specs(program, ("first", "second"))


def test_a_weight_that_is_returned_is_a_constant() -> None:
    model = returning(lambda x: x)
    model.forward = lambda x: (x + 1, model.weight)
    with pytest.raises(ModelError, match=r"returns a constant as 'second', which it does not compute\. Leave it out\."):
        output_specs(capture(model, (1, 4)), ("first", "second"))


@pytest.mark.parametrize(
    "function",
    [lambda _: 3, lambda x: {"scores": x + 1}, lambda x: x[x > 0], lambda _: None],
    ids=["a-number", "dictionary-of-one", "size-by-values", "nothing"],
)
def test_what_is_not_a_tensor_of_fixed_shape_cannot_be_the_only_output(function: Callable[[Tensor], object]) -> None:
    with pytest.raises(ModelError):
        output_specs(capture(returning(function), (1, 4)))


class Stateful(nn.Module):
    """Multiplies by how often it was called, which is no property of its input."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return x.mean((2, 3)) * self.calls


class Branching(nn.Module):
    """Takes one of two ways by the first pixel of its input, where tracing does not notice."""

    def forward(self, x: Tensor) -> Tensor:
        values = x.detach()
        bright = not isinstance(values, torch._subclasses.FakeTensor) and bool((values[0, 0, 0, 0] > 3.5).item())
        return x.mean((2, 3)) * (2.0 if bright else 1.0)


def in_both_precisions(model: nn.Module, *shapes: Shape, outputs: tuple[TensorSpec, ...] = ()) -> Reference:
    """The reference of a network of one output (1, 3), unless others are given."""
    inputs = tuple(TensorSpec(name=f"{INPUT_NAME}{index}", shape=shape) for index, shape in enumerate(shapes))
    cases = {name: images for name, images in generate(inputs).items() if name != "flat"}
    specs = outputs or (TensorSpec(name="logits", shape=(1, 3)),)
    return reference(inputs, specs, cases, numpy_forward(model_in_float64(model)), numpy_forward(model))


def test_a_capture_that_lost_what_the_model_does_is_found() -> None:
    model, shape = Stateful().eval(), (1, 3, 8, 8)
    against = in_both_precisions(model, shape)
    with pytest.raises(ParityError, match=r"Capture changed the network: -?\d+\.\d dB on input 'noise', where the"):
        check_capture(capture(model, shape), against)


@pytest.mark.parametrize("side", [8, 32])
def test_a_capture_that_fixed_a_branch_is_found_on_the_input_that_takes_the_other(side: int) -> None:
    model, shape = Branching().eval(), (1, 3, side, side)
    against = in_both_precisions(model, shape)
    with pytest.raises(
        ParityError, match=r"on input 'edges', where the model itself reaches \d{3}\.\d dB\. Does the model"
    ):
        check_capture(capture(model, shape), against)


def test_a_capture_that_is_wrong_in_one_of_two_outputs_is_found() -> None:
    class Two(Stateful):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
            return x.mean((2, 3)) + 1, super().forward(x)

    model, shape = Two().eval(), (1, 3, 8, 8)
    outputs = tuple(TensorSpec(name=name, shape=(1, 3)) for name in ("still", "moving"))
    with pytest.raises(ParityError, match=r"Capture changed the network: -?\d+\.\d dB on input '\w+', where the model"):
        check_capture(capture(model, shape), in_both_precisions(model, shape, outputs=outputs))


def test_a_true_capture_passes_the_check() -> None:
    model, shape = filled(nn.Sequential(nn.Conv2d(3, 3, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())), (1, 3, 8, 8)
    check_capture(capture(model, shape), in_both_precisions(model, shape))
    pair = returning(lambda a, b: (a.mean((2, 3)) * b, b.exp()))
    outputs = (TensorSpec(name="product", shape=(1, 3)), TensorSpec(name="exponential", shape=(1, 3)))
    check_capture(capture(pair, shape, (1, 3)), in_both_precisions(pair, shape, (1, 3), outputs=outputs))


@pytest.mark.parametrize("name", [pytest.param("parcnetv2_xt", marks=pytest.mark.slow), "parnet_cifar_w32"])
def test_a_published_network_passes_the_check_at_the_smallest_size(name: str) -> None:
    """Where one image's float32 run may be luckier than another's."""
    model, shape = filled(build(name, None)), (1, 3, 32, 32)
    against = in_both_precisions(model, shape, outputs=output_specs(captured := capture(model, shape)))
    check_capture(captured, against)
