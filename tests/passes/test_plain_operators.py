"""Norms, parts and other operators written out for MNN and ncnn: the same numbers, in operators that these have."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from edgekit.artifact import Shape
from edgekit.capture import capture
from edgekit.errors import ParityError
from edgekit.passes.base import Log, Pass, apply, prove
from edgekit.passes.lower import LOWERINGS
from edgekit.passes.lower.plain_norm import PlainNorm
from edgekit.passes.lower.plain_operators import PlainOperators
from edgekit.passes.lower.plain_slice import PlainSlice
from edgekit.program import Program, clone, operator_counts, run
from tests.passes.materialising import image, probes, proved

SHAPE: Shape = (1, 4, 6, 5)
EXACT_DB = 250.0

Function = Callable[[Tensor], Tensor]


class Net(nn.Module):
    """A function of the input."""

    def __init__(self, function: Function) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def captured(function: Function) -> Program:
    return capture(Net(function).eval(), SHAPE)


@pytest.mark.parametrize(
    ("rewrite", "function", "fired", "counts"),
    [
        pytest.param(
            PlainNorm(),
            lambda x: torch.linalg.vector_norm(x, dim=1, keepdim=True),
            {"plain-norm": 1},
            {"mul": 1, "sum": 1, "sqrt": 1},
            id="vector norm",
        ),
        pytest.param(
            PlainNorm(), lambda x: x.norm(dim=(2, 3)), {"plain-norm": 1}, {"mul": 1, "sum": 1, "sqrt": 1}, id="norm"
        ),
        pytest.param(
            PlainNorm(), lambda x: x.norm().reshape(1), {"plain-norm": 1}, {"mul": 1, "sum": 1, "sqrt": 1, "reshape": 1}
        ),
        pytest.param(PlainNorm(), lambda x: x.norm(p=1, dim=1), {"plain-norm": 1}, {"abs": 1, "sum": 1}, id="order 1"),
        pytest.param(PlainSlice(), lambda x: x.narrow(1, 1, 2), {"plain-slice": 1}, {"slice": 1}, id="narrow"),
        pytest.param(PlainSlice(), lambda x: x.narrow(-1, -3, 2), {"plain-slice": 1}, {"slice": 1}, id="from the end"),
        pytest.param(PlainOperators(), lambda x: x.clamp_min(0.1), {"clamp_min": 1}, {"clamp": 1}, id="clamp_min"),
        pytest.param(PlainOperators(), lambda x: x.clamp_max(0.1), {"clamp_max": 1}, {"clamp": 1}, id="clamp_max"),
        pytest.param(
            PlainOperators(),
            lambda x: torch.addcmul(x, x + 1, x + 2, value=0.5),
            {"addcmul": 1},
            {"add": 3, "mul": 2},
            id="addcmul",
        ),
        pytest.param(
            PlainOperators(),
            lambda x: torch.addcdiv(x, x, x.abs() + 2),
            {"addcdiv": 1},
            {"abs": 1, "add": 2, "div": 1},
            id="addcdiv",
        ),
        pytest.param(
            PlainOperators(), lambda x: x.var(1), {"var": 1}, {"mean": 2, "sub": 1, "mul": 2}, id="variance of a sample"
        ),
        pytest.param(
            PlainOperators(),
            lambda x: x.std((2, 3), correction=0, keepdim=True),
            {"std": 1},
            {"mean": 2, "sub": 1, "mul": 1, "sqrt": 1},
            id="standard deviation",
        ),
        pytest.param(
            PlainOperators(),
            lambda x: functional.pad(x, (1, 0, 6, 2), mode="circular"),
            {"pad": 1},
            {"slice": 3, "cat": 2},
            id="circular padding",
        ),
    ],
)
def test_it_is_the_same_in_other_operators(
    rewrite: Pass, function: Function, fired: dict[str, int], counts: dict[str, int]
) -> None:
    before = prove(captured(function), probes(SHAPE))
    after, certificate = proved(rewrite, before, SHAPE, EXACT_DB)
    assert certificate.fired == fired
    assert operator_counts(after.program) == counts
    assert run(after.program, image(SHAPE))[0].shape == run(before.program, image(SHAPE))[0].shape


@pytest.mark.parametrize(
    ("rewrite", "function"),
    [
        pytest.param(PlainNorm(), lambda x: torch.linalg.vector_norm(x, 3, dim=1), id="another order"),
        pytest.param(PlainNorm(), lambda x: torch.linalg.vector_norm(x, dim=1, dtype=torch.float64), id="another type"),
        pytest.param(PlainOperators(), lambda x: functional.pad(x, (1, 1, 1, 1), mode="reflect"), id="mirrored"),
        pytest.param(PlainOperators(), lambda x: functional.pad(x, (1, 1, 1, 1)), id="zeros"),
        pytest.param(PlainOperators(), lambda x: x.var((0,), correction=1), id="one value, none left"),
        pytest.param(PlainOperators(), lambda x: functional.pad(x, (-1, 1, 0, 0), mode="circular"), id="cropped"),
    ],
)
def test_others_are_left(rewrite: Pass, function: Function) -> None:
    program, log = clone(captured(function)), Log()
    nodes = len(program.graph.nodes)
    rewrite(program, log)
    assert not log.fired
    assert len(program.graph.nodes) == nodes


class Wrong:
    """A pass, with a number disturbed in what it made."""

    def __init__(self, rewrite: Pass) -> None:
        self.rewrite = rewrite
        self.name = rewrite.name

    def __call__(self, program: Program, log: Log) -> None:
        self.rewrite(program, log)
        for target in (torch.ops.aten.sum.dim_IntList, torch.ops.aten.mean.dim, torch.ops.aten.slice.Tensor):
            for node in program.graph.find_nodes(op="call_function", target=target):
                where = node.args[1]
                node.args = (node.args[0], [2] if isinstance(where, list) else where, *node.args[2:])
        for node in program.graph.find_nodes(op="call_function", target=torch.ops.aten.slice.Tensor):
            source, axis, start, end = node.args
            node.args = (source, axis, start - 1, end - 1)


@pytest.mark.parametrize(
    ("rewrite", "function"),
    [
        pytest.param(PlainNorm(), lambda x: x * x.norm(dim=1, keepdim=True), id="norm"),
        pytest.param(PlainSlice(), lambda x: x.narrow(1, 1, 2), id="slice"),
        pytest.param(PlainOperators(), lambda x: x * x.std(1, keepdim=True), id="standard deviation"),
    ],
)
def test_a_wrong_axis_or_place_is_noticed(rewrite: Pass, function: Function) -> None:
    before = prove(captured(function), [(image(SHAPE),)])
    with pytest.raises(ParityError, match=f"'{rewrite.name}' changed the network"):
        apply(Wrong(rewrite), before, [(image(SHAPE),)], EXACT_DB)


@pytest.mark.parametrize(
    ("kind", "runtimes"),
    [(PlainNorm, {"mnn"}), (PlainSlice, {"ncnn"}), (PlainOperators, {"mnn", "ncnn"})],
)
def test_only_runtimes_that_need_it_get_it(kind: type, runtimes: set[str]) -> None:
    assert {
        name for (name, _), lowering in LOWERINGS.items() for each in lowering.passes if isinstance(each, kind)
    } == runtimes
