"""A program as a module of its own: same numbers, its own weights, several inputs and outputs, nothing left behind."""

import copy

import pytest
import torch
from torch import Tensor, nn

from edgekit.capture import tidy
from edgekit.program import Program, constants, module_path, operator_counts
from edgekit.standalone import as_module, identifiers


class Two(nn.Module):
    """Two inputs, two outputs, a tied weight, a buffer, and constants of whole numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(4, 4), nn.Linear(4, 4)
        self.two.weight = self.one.weight
        self.mean: Tensor
        self.order: Tensor
        self.register_buffer("mean", torch.rand(4))
        self.register_buffer("order", torch.tensor([3, 1, 0, 2]))

    def forward(self, left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
        y = self.one(left) - self.mean
        return y, self.two(right)[:, self.order]


def program_of(model: nn.Module, *examples: Tensor) -> Program:
    traced = torch.export.export(model.eval(), examples).module(check_guards=False)
    program = torch.fx.GraphModule(traced, traced.graph, class_name="Program")
    tidy(program)
    return program


@pytest.fixture
def two() -> tuple[Two, Program]:
    torch.manual_seed(0)
    model = Two()
    return model, program_of(model, torch.zeros(1, 4), torch.zeros(1, 4))


def test_several_inputs_and_outputs_keep_their_order(two: tuple[Two, Program]) -> None:
    module = as_module(two[1], ("left.0", "class"), class_name="Two")
    first, second = torch.randn(2, 1, 4)
    with torch.no_grad():
        for expected, found in zip(two[0](first, second), module(first, second), strict=True):
            assert torch.equal(expected, found)
        assert torch.equal(module(left_0=first, input_class=second)[0], module(first, second)[0])
    assert type(module).__name__ == "Two"
    assert operator_counts(module) == operator_counts(two[1])


def test_inputs_may_be_called_what_others_were(two: tuple[Two, Program]) -> None:
    """Code that renames them one after the other, `left = right; right = left`, would lose one."""
    module = as_module(two[1], ("right", "left"))
    first, second = torch.randn(2, 1, 4)
    for expected, found in zip(two[1](first, second), module(right=first, left=second), strict=True):
        assert torch.equal(expected, found)


def test_weights_are_parameters_and_the_modules_own(two: tuple[Two, Program]) -> None:
    model, program = two
    module = as_module(program)
    assert {name for name, _ in module.named_parameters()} >= {"mean", "one.bias", "two.bias"}
    assert all(parameter.requires_grad for parameter in module.parameters())
    assert [name for name, _ in module.named_buffers()] == ["order"]
    before = program_state(program)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(1.0)
    assert all(torch.equal(before[name], value) for name, value in constants(program))
    assert not torch.equal(module.get_parameter("one.bias"), model.one.bias)


def program_state(program: Program) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in constants(program)}


def test_a_tied_weight_stays_one(two: tuple[Two, Program]) -> None:
    assert sum(tuple(each.shape) == (4, 4) for each in as_module(two[1]).parameters()) == 1


def test_buffers_stay_buffers_where_asked(two: tuple[Two, Program]) -> None:
    model, program = two
    module = as_module(program, buffers={model.mean.data_ptr()}, trainable=False)
    assert {name for name, _ in module.named_buffers()} == {"mean", "order"}
    assert not any(parameter.requires_grad for parameter in module.parameters())


def test_a_constant_gets_its_old_name_back_where_that_is_free(two: tuple[Two, Program]) -> None:
    program = two[1]
    for node in program.graph.find_nodes(op="get_attr"):
        if str(node.target).endswith("bias"):
            owner = program.get_submodule(str(node.target).rpartition(".")[0])
            owner.register_buffer("bias_1", dict(constants(program))[str(node.target)] + 1.0)
            node.target += "_1"
    assert {"one.bias", "two.bias"} <= as_module(program).state_dict().keys()


def test_the_original_is_left_alone(two: tuple[Two, Program]) -> None:
    program = two[1]
    before, metadata = str(program.graph), [dict(node.meta) for node in program.graph.nodes]
    as_module(program, ("a", "b"))
    assert str(program.graph) == before
    assert [dict(node.meta) for node in program.graph.nodes] == metadata


def test_metadata_is_the_module_path_alone(two: tuple[Two, Program]) -> None:
    module = as_module(two[1])
    kept = [node for node in module.graph.nodes if node.op == "call_function"]
    assert {"one", "two"} <= {module_path(node) for node in kept}
    assert {key for node in module.graph.nodes for key in node.meta} == {"nn_module_stack"}
    assert "tests" not in str([node.meta for node in kept])


def test_it_can_be_copied_and_saved(two: tuple[Two, Program]) -> None:
    module, inputs = as_module(two[1]), torch.randn(2, 1, 4)
    twin = copy.deepcopy(module)
    twin.load_state_dict(
        {name: value + 1.0 for name, value in module.state_dict().items() if value.is_floating_point()}
        | {"order": module.state_dict()["order"]}
    )
    assert not torch.equal(twin(*inputs)[0], module(*inputs)[0])
    twin.load_state_dict(module.state_dict())
    assert torch.equal(twin(*inputs)[0], module(*inputs)[0])


def test_identifiers_are_unique_and_legal() -> None:
    assert identifiers(("input", "input.1", "input/1", "1", "für", "lambda")) == (
        "input",
        "input_1",
        "input_1_",
        "input_1__",
        "f_r",
        "input_lambda",
    )
