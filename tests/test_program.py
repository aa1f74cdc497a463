"""The program: copies, constants, precision and fingerprints of captured graphs."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from edgekit.artifact import Shape
from edgekit.capture import capture
from edgekit.network import Network
from edgekit.program import (
    Program,
    arguments,
    clone,
    constant,
    constant_names,
    constants,
    drop_unused_constants,
    fingerprint,
    finish,
    in_float64,
    input_shape,
    insert_constant,
    is_getitem,
    module_path,
    operator_counts,
    operator_name,
    operators,
    placeholders,
    run,
    set_constant,
    stats,
)

ATEN = torch.ops.aten
SHAPE: Shape = (1, 3, 6, 5)


class Net(nn.Module):
    """Parameters and a buffer at several depths, a split, and operators with and without constants."""

    def __init__(self, bias: float = 0.25, slope: float = 0.1) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4))
        self.slope = slope
        self.offset: Tensor
        self.register_buffer("offset", torch.full((1, 4, 1, 1), bias))
        with torch.no_grad():
            for index, value in enumerate(self.body.state_dict().values()):
                if value.is_floating_point():
                    value.copy_(0.1 + torch.arange(value.numel()).view(value.shape) / (value.numel() + index))

    def forward(self, x: Tensor) -> Tensor:
        first, second = functional.leaky_relu(self.body(x) + self.offset, self.slope).chunk(2, dim=1)
        return first * second


class Function(nn.Module):
    """A function of the input, with tensors of the module's own where it asks for them."""

    def __init__(self, function: Callable[[Any, Tensor], object], **members: nn.Module | Tensor) -> None:
        super().__init__()
        self.function = function
        for name, member in members.items():
            if isinstance(member, nn.Module):
                self.add_module(name, member)
            elif isinstance(member, nn.Parameter):
                self.register_parameter(name, member)
            else:
                self.register_buffer(name, member)

    def forward(self, x: Tensor) -> object:
        return self.function(self, x)


@pytest.fixture
def program() -> Program:
    return capture(Net().eval(), SHAPE)


def image(shape: Shape = SHAPE) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(3))


def find(program: Program, target: object) -> torch.fx.Node:
    (node,) = (node for node in operators(program) if node.target is target)
    return node


def test_a_clone_shares_the_constants_and_nothing_of_the_graph(program: Program) -> None:
    before = fingerprint(program)
    copied = clone(program)

    assert fingerprint(copied) == before
    shared = dict(constants(program))
    assert all(value is shared[name] for name, value in constants(copied))
    assert list(shared) == constant_names(copied)
    assert not set(copied.graph.nodes) & set(program.graph.nodes)

    addition = find(copied, ATEN.add.Tensor)
    addition.replace_all_uses_with(addition.args[0])  # type: ignore[arg-type]
    finish(copied)
    assert fingerprint(copied) != before
    assert fingerprint(program) == before
    assert "offset" in constant_names(program)
    assert "offset" not in constant_names(copied)


def test_a_clone_computes_the_same_bits(program: Program) -> None:
    assert run(clone(program), image())[0].equal(run(program, image())[0])


@pytest.mark.filterwarnings("error")
def test_copies_warn_of_nothing(program: Program) -> None:
    """Commands print while they are made, and torch warns whoever copies the description of a network's inputs."""
    in_float64(clone(program))


def test_a_constant_that_is_set_never_overwrites_another(program: Program) -> None:
    before = fingerprint(program)
    weight = dict(constants(program))["body.0.weight"]
    copied = clone(program)

    names = [set_constant(copied, "body.0.weight", torch.zeros(2)) for _ in range(3)]

    assert names == ["body.0.weight_1", "body.0.weight_2", "body.0.weight_3"]
    assert dict(constants(copied))["body.0.weight"] is weight
    assert fingerprint(program) == before
    assert not hasattr(program.get_submodule("body.0"), "weight_1")


@pytest.mark.parametrize("name", ["top", "body.new", "new.deep.er", "body.0.1.2"])
def test_a_constant_is_found_under_its_module_path(program: Program, name: str) -> None:
    value = torch.arange(6.0).view(2, 3).T
    addition = find(program, ATEN.add.Tensor)
    node = insert_constant(program, addition, name, value)
    addition.replace_input_with(addition.args[1], node)  # type: ignore[arg-type]

    stored = constant(program, node)

    assert node.target == name
    assert stored is not None
    assert stored.equal(value)
    assert stored.is_contiguous()
    assert node.meta["val"] is value
    assert name in constant_names(program)


def test_only_nodes_of_constants_have_a_constant(program: Program) -> None:
    assert constant(program, find(program, ATEN.add.Tensor)) is None
    assert constant(program, None) is None
    assert constant(program, 3) is None


def test_unused_constants_go_with_their_modules_and_the_others_stay_the_same_tensors(program: Program) -> None:
    finish(program)
    kept = {name: value.data_ptr() for name, value in constants(program) if name != "offset"}
    addition = find(program, ATEN.add.Tensor)
    addition.replace_all_uses_with(addition.args[0])  # type: ignore[arg-type]
    program.graph.eliminate_dead_code()
    set_constant(program, "left.over", torch.zeros(3))

    drop_unused_constants(program)

    assert {name: value.data_ptr() for name, value in constants(program)} == kept
    assert set(dict(program.named_buffers())) | set(dict(program.named_parameters())) == set(kept)
    assert not hasattr(program, "left")


def test_finish_infers_every_shape_anew_and_removes_what_is_dead(program: Program) -> None:
    convolution = find(program, ATEN.conv2d.default)
    with program.graph.inserting_before(convolution):
        pooled = program.graph.call_function(ATEN.avg_pool2d.default, (convolution.args[0], [2, 2]))
        program.graph.call_function(ATEN.relu.default, (pooled,))
    convolution.replace_input_with(convolution.args[0], pooled)  # type: ignore[arg-type]

    finish(program)

    assert operator_counts(program)["relu"] == 0
    assert tuple(find(program, ATEN.mul.Tensor).meta["val"].shape) == (1, 2, 3, 2)
    assert run(program, image())[0].shape == (1, 2, 3, 2)


TIED = {
    "module-under-two-names": lambda: Function(
        lambda m, x: m.second(m.first(x)), first=(a := nn.Linear(4, 4)), second=a
    ),
    "module-under-two-names-second-used": lambda: Function(
        lambda m, x: m.second(x), first=(a := nn.Linear(4, 4)), second=a
    ),
    "weight": lambda: Function(
        lambda m, x: functional.linear(functional.linear(x, m.first), m.second),
        first=(a := nn.Parameter(torch.eye(4) + 0.5)),
        second=a,
    ),
    "weight-used-transposed": lambda: Function(
        lambda m, x: functional.linear(functional.linear(x, m.first), m.second.T),
        first=(a := nn.Parameter(torch.eye(4) + torch.arange(4.0))),
        second=a,
    ),
    "buffer": lambda: Function(lambda m, x: x * m.first + m.second, first=(a := torch.arange(4.0)), second=a),
    "in-containers": lambda: nn.Sequential(a := nn.Linear(4, 4), nn.ReLU(), nn.Sequential(a, nn.ReLU()), a),
}


@pytest.mark.parametrize("build", TIED.values(), ids=TIED)
def test_tied_weights_are_captured_counted_and_run(build: Callable[[], nn.Module]) -> None:
    model, source = build().eval(), image((2, 4))

    program = capture(model, (2, 4))

    with torch.no_grad():
        assert run(program, source)[0].equal(model(source))
    assert {name for name, _ in constants(program)} == set(constant_names(program))
    assert fingerprint(clone(program)) == fingerprint(program)
    assert run(in_float64(program), source.double())[0].dtype is torch.float64


def test_constants_that_are_one_tensor_are_listed_under_every_name(program: Program) -> None:
    """A parameter tied after capture: torch lists it under its first name only."""
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)).eval()
    program = capture(model, (1, 4))
    shared = nn.Parameter(torch.eye(4))
    for index in ("0", "1"):
        layer = program.get_submodule(index)
        del layer.weight
        layer.register_parameter("weight", shared)
    assert [name for name, _ in constants(program)] == constant_names(program)
    assert stats(program).operators == 2


@pytest.mark.parametrize(
    ("function", "exact"),
    [
        (lambda m, x: x.to(torch.float32) * m.w, lambda w, x: x * w),
        (lambda m, x: torch.softmax(x * m.w, -1, dtype=torch.float32), lambda w, x: torch.softmax(x * w, -1)),
        (lambda m, x: torch.sum(x * m.w, -1, dtype=torch.float32), lambda w, x: (x * w).sum(-1)),
        (lambda m, x: (x * m.w).float() + m.w, lambda w, x: x * w + w),
        (lambda m, x: x * m.w + torch.ones(4, dtype=torch.float32) / 3, lambda w, x: x * w + 1 / 3),
        (lambda m, x: x * torch.arange(4, dtype=torch.float32) * m.w, lambda w, x: x * torch.arange(4) * w),
        (lambda m, x: x.type(torch.float32) * m.w, lambda w, x: x * w),
    ],
    ids=["to", "softmax", "sum", "float", "ones", "arange", "type"],
)
def test_float64_reaches_every_operator_that_names_a_dtype(
    function: Callable[[Function, Tensor], object], exact: Callable[[Tensor, Tensor], Tensor]
) -> None:
    weight, source = torch.tensor([0.1, 0.2, 0.3, 0.7]), image((2, 4)).double() / 3
    program = capture(Function(function, w=weight).eval(), (2, 4))
    before = fingerprint(program)

    (result,) = run(in_float64(program), source)

    assert result.dtype is torch.float64
    torch.testing.assert_close(result, exact(weight.double(), source), rtol=1e-15, atol=1e-15)
    assert fingerprint(program) == before
    assert run(program, source.float())[0].dtype is torch.float32


def test_float64_leaves_integers_and_the_program_alone(program: Program) -> None:
    table = torch.tensor([2, 0, 1])
    indexed = capture(Function(lambda m, x: x[:, m.table], table=table).eval(), (1, 3))
    assert dict(constants(in_float64(indexed)))["table"].dtype is torch.int64

    before = fingerprint(program)
    doubled = in_float64(program)
    assert {value.dtype for _, value in constants(finish(doubled))} == {torch.float64}
    assert fingerprint(program) == before
    torch.testing.assert_close(
        run(doubled, image().double())[0], Net().double().eval()(image().double()), rtol=1e-14, atol=1e-14
    )


def changed_weight(program: Program) -> None:
    node = next(node for node in program.graph.nodes if node.target == "body.0.bias")
    value = constant(program, node)
    assert value is not None
    changed = value.clone()
    changed[2] = torch.nextafter(changed[2], torch.tensor(1e9))
    replacement = insert_constant(program, node, "body.0.bias", changed)
    node.replace_all_uses_with(replacement)
    program.graph.erase_node(node)


def changed_operator(program: Program) -> None:
    find(program, ATEN.add.Tensor).target = ATEN.sub.Tensor


def changed_number(program: Program) -> None:
    node = find(program, ATEN.leaky_relu.default)
    node.args = (node.args[0], 0.1000001)


def changed_keyword(program: Program) -> None:
    find(program, ATEN.add.Tensor).kwargs = {"alpha": 2}


def changed_order(program: Program) -> None:
    node = find(program, ATEN.mul.Tensor)
    node.args = node.args[::-1]


def changed_shape(program: Program) -> None:
    find(program, ATEN.conv2d.default).meta["val"] = torch.empty(1, 4, 5, 6)


@pytest.mark.parametrize(
    "change",
    [changed_weight, changed_operator, changed_number, changed_keyword, changed_order, changed_shape],
    ids=lambda change: change.__name__,
)
def test_a_fingerprint_sees_every_change(program: Program, change: Callable[[Program], None]) -> None:
    before = fingerprint(program)
    change(program)
    assert fingerprint(program) != before


def test_a_fingerprint_does_not_see_names(program: Program) -> None:
    before = fingerprint(program)
    for index, node in enumerate(program.graph.nodes):
        node.name = f"renamed_{index}"
    node = next(node for node in program.graph.nodes if node.target == "offset")
    value = constant(program, node)
    assert value is not None
    node.target = set_constant(program, "another.name", value)
    program.recompile()
    assert fingerprint(program) == before


def test_a_fingerprint_tells_which_constant_is_read() -> None:
    """Two programs over the same two constants, the first of them read twice in one and the second in the other."""

    def reading(third: str) -> Program:
        program = capture(
            Function(lambda m, x: (x * m.a + m.b) * m.a, a=torch.ones(4), b=torch.zeros(4)).eval(), (1, 4)
        )
        last = [node for node in operators(program) if node.target is ATEN.mul.Tensor][-1]
        with program.graph.inserting_before(last):
            node = program.graph.get_attr(third)
        node.meta["val"] = torch.empty(4)
        last.args = (last.args[0], node)
        program.recompile()
        return program

    first, second = reading("a"), reading("b")
    assert not run(first, torch.ones(1, 4))[0].equal(run(second, torch.ones(1, 4))[0])
    assert fingerprint(first) != fingerprint(second)


def test_two_captures_of_one_model_have_one_fingerprint() -> None:
    assert fingerprint(capture(Net().eval(), SHAPE)) == fingerprint(capture(Net().eval(), SHAPE))
    others = [
        capture(Net(bias=0.5).eval(), SHAPE),
        capture(Net(slope=0.2).eval(), SHAPE),
        capture(Net().eval(), (2, 3, 6, 5)),
    ]
    assert len({fingerprint(other) for other in others}) == 3


def test_operators_are_counted_by_name_without_picking_elements(program: Program) -> None:
    finish(program)
    counts = {"conv2d": 1, "batch_norm": 1, "add": 1, "leaky_relu": 1, "chunk": 1, "mul": 1}
    assert operator_counts(program) == Counter(counts)
    assert stats(program).operators == 6
    assert stats(program).parameters == 4 * 27 + 4 + 4 * 4 + 4
    assert stats(program).macs == 30 * 4 * 27
    assert sum(is_getitem(node) for node in program.graph.nodes) == 2
    assert [operator_name(node) for node in operators(program)] == list(counts)


def test_arguments_have_the_names_of_the_schema_with_defaults_filled_in(program: Program) -> None:
    node = find(program, ATEN.conv2d.default)
    given = arguments(node)
    assert list(given) == ["input", "weight", "bias", "stride", "padding", "dilation", "groups"]
    assert given["input"] is placeholders(program)[0]
    assert (given["stride"], given["padding"], given["groups"]) == ([1, 1], [1, 1], 1)
    node.args = tuple(given.values())
    program.recompile()
    assert run(program, image())[0].equal(run(capture(Net().eval(), SHAPE), image())[0])


def test_inputs_and_module_paths(tiny: Network) -> None:
    program = tiny.programs["capture"]
    assert [input_shape(node) for node in placeholders(program)] == [(1, 3, 64, 64)]
    paths = {module_path(node) for node in operators(program)}
    assert {"downsample_layers.0.conv", "stages.2.0.token_mixer.dwconv1", "stages.3.0.mlp.fc1", "norm", "head"} <= paths
    assert module_path(placeholders(program)[0]) == ""


def test_a_program_runs_to_a_tuple_without_gradients() -> None:
    single = capture(nn.Linear(4, 2).eval(), (1, 4))
    double = capture(Function(lambda m, x: (x + 1, x * 2)).eval(), (1, 4))
    (result,) = run(single, torch.ones(1, 4))
    assert not result.requires_grad
    assert [tuple(value.shape) for value in run(double, torch.ones(1, 4))] == [(1, 4), (1, 4)]
