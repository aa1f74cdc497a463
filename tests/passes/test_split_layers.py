"""Splitting layers: one layer per part, the same sums to the last bit, and the reasons for leaving a layer whole."""

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from edgekit.artifact import Certificate, Shape
from edgekit.capture import capture
from edgekit.errors import ParityError
from edgekit.network import Network
from edgekit.passes.base import Log, apply, prove
from edgekit.passes.lower.split_layers import SplitLayers
from edgekit.program import (
    Program,
    constant,
    constants,
    fingerprint,
    insert_constant,
    module_path,
    operator_counts,
    operators,
    run,
)

ATEN = torch.ops.aten
EXACT_DB = 250.0
MAP: Shape = (2, 4, 5, 3)
ROWS: Shape = (2, 7, 4)


def image(shape: Shape, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


class Net(nn.Module):
    """A layer, and a function of its output."""

    def __init__(self, layer: nn.Module, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.layer = layer
        self.function = function
        with torch.no_grad():
            for index, parameter in enumerate(self.parameters()):
                parameter.copy_(image(tuple(parameter.shape), seed=index + 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.layer(x))


class Function(nn.Module):
    """A function of the input and of two weights."""

    def __init__(self, function: Callable[..., Tensor], *shapes: Shape) -> None:
        super().__init__()
        self.function = function
        self.weight, self.bias = (nn.Parameter(image(shape, seed=index + 1)) for index, shape in enumerate(shapes))

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, self.weight, self.bias)


def split(program: Program, shape: Shape, gate_db: float = EXACT_DB) -> tuple[Program, Certificate]:
    untouched = fingerprint(program)
    probes = ((image(shape),), (image(shape, seed=9),))
    after, certificate = apply(SplitLayers(), prove(program, probes), probes, gate_db)
    assert fingerprint(program) == untouched
    return after.program, certificate


def gated(parts: Sequence[Tensor]) -> Tensor:
    first, second = parts
    return first * functional.gelu(second)


def weighed(parts: Sequence[Tensor], axis: int) -> Tensor:
    return torch.cat([part * (index + 1) for index, part in enumerate(reversed(parts))], axis)


SPLITS = [
    pytest.param(nn.Conv2d(4, 6, 3), MAP, lambda y: gated(y.chunk(2, 1)), [3, 3], id="conv-chunk"),
    pytest.param(nn.Conv2d(4, 6, 1, bias=False), MAP, lambda y: gated(y.chunk(2, dim=-3)), [3, 3], id="conv-no-bias"),
    pytest.param(nn.Conv2d(4, 7, 1), MAP, lambda y: weighed(y.chunk(3, 1), 1), [3, 3, 1], id="conv-uneven-chunk"),
    pytest.param(
        nn.Conv2d(4, 7, 3), MAP, lambda y: weighed(torch.split(y, [1, 4, 2], 1), 1), [1, 4, 2], id="conv-sizes"
    ),
    pytest.param(nn.Conv2d(4, 7, 3), MAP, lambda y: weighed(torch.split(y, 3, 1), 1), [3, 3, 1], id="conv-split"),
    pytest.param(nn.Linear(4, 6), ROWS, lambda y: gated(y.chunk(2, -1)), [3, 3], id="linear-chunk"),
    pytest.param(nn.Linear(4, 6, bias=False), ROWS, lambda y: gated(y.chunk(2, 2)), [3, 3], id="linear-no-bias"),
    pytest.param(
        nn.Linear(4, 7), ROWS, lambda y: weighed(torch.split(y, [5, 1, 1], -1), -1), [5, 1, 1], id="linear-sizes"
    ),
    pytest.param(nn.Linear(4, 6), (2, 4), lambda y: weighed(y.chunk(3, 1), 1), [2, 2, 2], id="linear-vector"),
    pytest.param(nn.Linear(4, 6), ROWS, lambda y: y.chunk(1, -1)[0], [6], id="one-part"),
]


@pytest.mark.parametrize(("layer", "shape", "function", "sizes"), SPLITS)
def test_every_part_gets_a_layer_of_its_own(
    layer: nn.Module, shape: Shape, function: Callable[[Tensor], Tensor], sizes: list[int]
) -> None:
    program = capture(Net(layer, function).eval(), shape)
    after, certificate = split(program, shape)

    assert certificate.fired == {"split-layers": 1}
    assert certificate.declined == ()
    counts = operator_counts(after)
    assert not {"chunk", "split", "split_with_sizes"} & set(counts)
    layers = [node for node in operators(after) if node.target in (ATEN.conv2d.default, ATEN.linear.default)]
    rows = [constant(after, node.args[1]) for node in layers]
    assert sorted(len(value) for value in rows if value is not None) == sorted(sizes)
    assert certificate.after.macs == certificate.before.macs > 0
    assert certificate.after.parameters == certificate.before.parameters
    assert certificate.after.operators == certificate.before.operators - 2 + len(sizes)
    torch.testing.assert_close(run(after, image(shape))[0], run(program, image(shape))[0], rtol=1e-5, atol=1e-5)


def test_every_option_of_a_convolution_goes_along() -> None:
    layer = nn.Conv2d(4, 6, (3, 2), stride=(2, 1), padding=(1, 2), dilation=(1, 2))
    program = capture(Net(layer, lambda y: gated(y.chunk(2, 1))).eval(), (2, 4, 9, 8))
    after, _ = split(program, (2, 4, 9, 8))
    options = [node.args[3:] for node in operators(after) if node.target is ATEN.conv2d.default]
    assert options == [([2, 1], [1, 2], [1, 2], 1)] * 2


def test_the_parts_are_rows_of_the_layer_and_keep_its_module_path() -> None:
    model = Net(nn.Linear(4, 7), lambda y: weighed(torch.split(y, [2, 5], -1), -1)).eval()
    after, _ = split(capture(model, ROWS), ROWS)
    held = dict(constants(after))
    weight, bias = (model.get_parameter(f"layer.{name}").detach() for name in ("weight", "bias"))
    assert held["layer.weight_part0"].equal(weight[:2])
    assert held["layer.weight_part1"].equal(weight[2:])
    assert held["layer.bias_part0"].equal(bias[:2])
    assert held["layer.bias_part1"].equal(bias[2:])
    layers = after.graph.find_nodes(op="call_function", target=ATEN.linear.default)
    assert [module_path(node) for node in layers] == ["layer", "layer"]


def test_a_part_nobody_uses_is_not_computed() -> None:
    program = capture(Net(nn.Conv2d(4, 9, 1), lambda y: y.chunk(3, 1)[1].relu()).eval(), MAP)
    after, certificate = split(program, MAP)
    assert certificate.fired == {"split-layers": 1}
    assert certificate.after.macs * 3 == certificate.before.macs
    assert certificate.after.parameters * 3 == certificate.before.parameters
    assert operator_counts(after) == {"conv2d": 1, "relu": 1}


def test_a_part_used_twice_is_computed_once() -> None:
    def function(y: Tensor) -> Tensor:
        first, second = y.chunk(2, -1)
        return first * first + second

    after, certificate = split(capture(Net(nn.Linear(4, 6), function).eval(), ROWS), ROWS)
    assert operator_counts(after) == {"linear": 2, "mul": 1, "add": 1}
    assert certificate.after.macs == certificate.before.macs


def test_every_gate_of_a_network_is_split(tiny: Network) -> None:
    after, certificate = apply(SplitLayers(), tiny.proven, tiny.probes, EXACT_DB)
    before = operator_counts(tiny.proven.program)
    assert certificate.fired == {"split-layers": before["chunk"]} == {"split-layers": 8}
    assert certificate.declined == ()
    counts = operator_counts(after.program)
    assert counts["chunk"] == 0
    assert (counts["conv2d"], counts["linear"]) == (before["conv2d"] + 4, before["linear"] + 4)
    assert certificate.after.macs == certificate.before.macs
    assert certificate.after.parameters == certificate.before.parameters


def whole_output_used(y: Tensor) -> Tensor:
    return gated(y.chunk(2, 1)) + y.sum(1, keepdim=True)


def two_splits(y: Tensor) -> Tensor:
    return y.chunk(2, 1)[0] + torch.split(y, 3, 1)[1]


@pytest.mark.parametrize(
    ("model", "shape", "reasons"),
    [
        (Net(nn.Conv2d(4, 6, 1, groups=2), lambda y: gated(y.chunk(2, 1))), MAP, ["the convolution has groups"]),
        (Net(nn.Conv2d(4, 6, 1), lambda y: gated(y.chunk(2, 2))), (2, 4, 6, 3), ["not split along the channels"]),
        (Net(nn.Linear(4, 6), lambda y: gated(y.chunk(2, 1))), (2, 6, 4), ["not split along the channels"]),
        (Net(nn.Conv2d(4, 6, 1), whole_output_used), MAP, ["the whole output is used as well"]),
        (Net(nn.Conv2d(4, 6, 1), two_splits), MAP, ["the whole output is used as well"] * 2),
        (
            Function(lambda x, w, b: gated(functional.linear(x, w * 2, b).chunk(2, -1)), (6, 4), (6,)),
            ROWS,
            ["the layer's weight is computed"],
        ),
        (
            Function(lambda x, w, b: gated(functional.linear(x, x[0, :6], b).chunk(2, -1)), (6, 4), (6,)),
            ROWS,
            ["the layer's weight is computed"],
        ),
    ],
    ids=["groups", "rows-of-a-map", "rows", "whole-output", "two-splits", "weight-computed", "weight-from-input"],
)
def test_a_layer_that_must_stay_whole_is_declined_with_the_reason(
    model: nn.Module, shape: Shape, reasons: list[str]
) -> None:
    _, certificate = split(capture(model.eval(), shape), shape)
    assert [(refusal.rule, refusal.reason) for refusal in certificate.declined] == [
        ("split-layers", reason) for reason in reasons
    ]
    assert certificate.fired == {}
    assert certificate.after == certificate.before


@pytest.mark.parametrize(
    ("function", "weight", "shape"),
    [
        (lambda x, w, b: gated(functional.linear(x, w, b * 2).chunk(2, -1)), (6, 4), ROWS),
        (lambda x, w, b: gated(functional.linear(x, w, x[0, 0].repeat(2)[:6]).chunk(2, -1)), (6, 4), ROWS),
        (lambda x, w, b: gated(functional.conv2d(x[0], w, b).chunk(2, 1)), (6, 4, 1, 1), (1, 4, 6, 3)),
    ],
    ids=["bias-computed", "bias-from-input", "map-without-batch"],
)
def test_near_misses_are_left_alone(function: Callable[..., Tensor], weight: Shape, shape: Shape) -> None:
    _, certificate = split(capture(Function(function, weight, (6,)).eval(), shape), shape)
    assert certificate.fired == {}


@pytest.mark.parametrize(
    "function",
    [lambda y: gated(y.relu().chunk(2, 1)), lambda y: y.relu(), lambda y: gated((y + 1).chunk(2, 1))],
    ids=["behind-an-activation", "no-split", "behind-a-sum"],
)
def test_other_splits_are_not_looked_at(function: Callable[[Tensor], Tensor]) -> None:
    _, certificate = split(capture(Net(nn.Conv2d(4, 6, 1), function).eval(), MAP), MAP)
    assert (certificate.fired, certificate.declined) == ({}, ())


class WrongRows:
    """The negative twin: one row of one part is off by a hundredth."""

    name = "wrong-rows"

    def __call__(self, program: Program, log: Log) -> None:
        SplitLayers()(program, log)
        node = next(node for node in program.graph.nodes if str(node.target).endswith("weight_part1"))
        value = constant(program, node)
        assert value is not None
        wrong = value.clone()
        wrong[0] *= 1.01
        node.replace_all_uses_with(insert_constant(program, node, str(node.target), wrong))


@pytest.mark.parametrize(
    ("layer", "shape"), [(nn.Conv2d(4, 6, 3), MAP), (nn.Linear(4, 6), (2, 4))], ids=["conv", "linear"]
)
def test_a_wrong_row_is_found(layer: nn.Module, shape: Shape) -> None:
    program = capture(Net(layer, lambda y: gated(y.chunk(2, 1))).eval(), shape)
    probes = ((image(shape),),)
    with pytest.raises(ParityError, match=r"Pass 'wrong-rows' changed the network: \d+\.\d dB"):
        apply(WrongRows(), prove(program, probes), probes, EXACT_DB)
