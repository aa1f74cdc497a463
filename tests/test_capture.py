"""Capture: what comes out is the model, and what cannot be captured is one line."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgekit.artifact import Shape, TensorSpec
from edgekit.capture import INPUT_NAME, capture, first_line, output_specs, size_text
from edgekit.errors import ModelError, ParityError
from edgekit.inputs import generate
from edgekit.models.parcnetv2 import ParCNetV2, ParCNetV2Config
from edgekit.models.weights import random_weights
from edgekit.network import check_capture, model_forward
from edgekit.program import clone, constant_names, finish, operator_counts, placeholders, run, stats
from edgekit.reference import model_in_float64, program_in_float64
from edgekit.verify import Reference, reference

TINY = ParCNetV2Config(widths=(8, 12, 16, 24), depths=(1, 1, 1, 1), num_classes=10)


class Function(nn.Module):
    """A function of the input."""

    def __init__(self, function: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> object:
        return self.function(x)


def returning(function: Callable[[Tensor], object]) -> nn.Module:
    return Function(function).eval()


def filled(model: nn.Module) -> nn.Module:
    random_weights(model, seed=0)
    return model.eval()


def test_a_captured_network_gives_the_same_numbers() -> None:
    model, image = filled(ParCNetV2(TINY)), torch.randn(1, 3, 40, 56, generator=torch.Generator().manual_seed(0))
    program = capture(model, (1, 3, 40, 56))
    torch.testing.assert_close(
        program_in_float64(program)(image), model_in_float64(model)(image), rtol=1e-13, atol=1e-13
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


@pytest.mark.parametrize(
    ("function", "returned"),
    [
        (lambda x: (x, x + 1), 2),
        (lambda x: (x + 1, None), 2),
        (lambda x: (x + 1, 3), 2),
        (lambda x: {"a": x + 1, "b": x}, 2),
    ],
    ids=["two", "and-nothing", "and-a-number", "dictionary-of-two"],
)
def test_only_one_tensor_can_be_returned(function: Callable[[Tensor], object], returned: int) -> None:
    with pytest.raises(ModelError, match=f"returns {returned} outputs; edgekit exports models that return one tensor"):
        output_specs(capture(returning(function), (1, 4)))


@pytest.mark.parametrize(
    "function",
    [lambda _: 3, lambda x: {"scores": x + 1}, lambda x: x[x > 0]],
    ids=["a-number", "dictionary-of-one", "size-by-values"],
)
def test_what_is_not_a_tensor_of_fixed_shape_cannot_be_returned(function: Callable[[Tensor], object]) -> None:
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


def in_both_precisions(model: nn.Module, shape: Shape) -> Reference:
    double = model_in_float64(model)
    return reference(
        TensorSpec(name=INPUT_NAME, shape=shape),
        TensorSpec(name="logits", shape=(1, 3)),
        {name: image for name, image in generate(shape).items() if name != "flat"},
        lambda image: double(torch.from_numpy(image)).numpy(),
        model_forward(model),
    )


def test_a_capture_that_lost_what_the_model_does_is_found() -> None:
    model, shape = Stateful().eval(), (1, 3, 8, 8)
    against = in_both_precisions(model, shape)
    with pytest.raises(ParityError, match=r"Capture changed the network: -?\d+\.\d dB on input 'noise', where the"):
        check_capture(capture(model, shape), against)


def test_a_true_capture_passes_the_check() -> None:
    model, shape = filled(nn.Sequential(nn.Conv2d(3, 3, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())), (1, 3, 8, 8)
    check_capture(capture(model, shape), in_both_precisions(model, shape))


@pytest.mark.parametrize(
    ("error", "line"),
    [(ValueError("\n\n  first \nsecond"), "first"), (ValueError(), "ValueError"), (KeyError("k"), "'k'")],
    ids=["several-lines", "silent", "key"],
)
def test_the_first_line_that_says_anything(error: BaseException, line: str) -> None:
    assert first_line(error) == line
