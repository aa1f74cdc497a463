"""What is fused, into what, and what its certificate tells."""

from collections.abc import Callable
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from edgekit.capture import capture
from edgekit.errors import ParityError
from edgekit.passes.base import apply, prove
from edgekit.passes.fuse import Fuse, FuseOptions, factors, fuse
from edgekit.program import operator_counts
from tests.passes.fusing import SHAPE, Calls, conv, fused, norm, randomise, reasons

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")

CONV = {"conv2d": 1}
ONE_LAYER: dict[str, tuple[Callable[[], nn.Module], dict[str, int]]] = {
    "conv, norm": (lambda: nn.Sequential(conv(), norm()), CONV),
    "norm, conv without padding": (lambda: nn.Sequential(norm(), conv(padding=0)), CONV),
    "norm, 1x1": (lambda: nn.Sequential(norm(), conv(1)), CONV),
    "scale, padded conv": (lambda: Calls(lambda m, x: m.conv(x * 3.0), conv=conv()), CONV),
    "1x1 without bias, padded 3x3": (lambda: nn.Sequential(conv(1, c_out=32), conv(c_in=32, c_out=2)), CONV),
    "two 1x1": (lambda: nn.Sequential(conv(1, bias=True), norm(), conv(1), norm()), CONV),
    "3x3, 1x1": (lambda: nn.Sequential(conv(bias=True), conv(1, c_out=4)), CONV),
    "grouped": (lambda: nn.Sequential(conv(groups=2), norm(), conv(1, groups=4, bias=True)), CONV),
    "three branches": (
        lambda: Calls(
            lambda m, x: m.a(m.conv(x)) + m.b(m.point(x)) + m.c(x),
            conv=conv(),
            point=conv(1),
            a=norm(),
            b=norm(),
            c=norm(),
        ),
        CONV,
    ),
    "pooled branch": (
        lambda: Calls(
            lambda m, x: m.a(m.conv(x)) + m.b(m.point(functional.avg_pool2d(x, 2))),
            conv=conv(3, 2),
            point=conv(1),
            a=norm(),
            b=norm(),
        ),
        CONV,
    ),
    "dilated branches": (
        lambda: Calls(
            lambda m, x: m.large(x) + m.dilated(x) + m.wide(x),
            large=conv(7, groups=8),
            dilated=conv(3, groups=8, dilation=2, padding=2),
            wide=conv(3, groups=8, dilation=3, padding=3),
        ),
        CONV,
    ),
    "dilated and centre": (
        lambda: Calls(
            lambda m, x: m.dilated(x) - m.point(x), dilated=conv(3, dilation=4, padding=4), point=conv(1, bias=True)
        ),
        CONV,
    ),
    "zero pad, conv": (lambda: nn.Sequential(nn.ZeroPad2d(1), conv(padding=0), norm()), CONV),
    "asymmetric": (
        lambda: Calls(
            lambda m, x: m.rows(x) + m.columns(x) + m.square(x),
            rows=nn.Conv2d(8, 8, (3, 1), padding=(1, 0)),
            columns=nn.Conv2d(8, 8, (1, 3), padding=(0, 1)),
            square=conv(),
        ),
        CONV,
    ),
    "mixer": (
        lambda: Calls(lambda m, x: x + 0.3 * (m.a(m.conv(x)) - m.b(x)), conv=conv(groups=8), a=norm(), b=norm()),
        CONV,
    ),
    "concatenated": (
        lambda: Calls(lambda m, x: m.norm(torch.cat((m.a(x), m.b(x)), 1)), a=conv(), b=conv(), norm=norm(16)),
        CONV,
    ),
    "norms, dropout": (lambda: nn.Sequential(norm(), nn.Dropout(), norm(), conv(1)), CONV),
    "half of it": (lambda: Calls(lambda m, x: m.conv(x) * 0.5, conv=conv(bias=True)), CONV),
    "a third of it": (lambda: Calls(lambda m, x: m.norm(m.conv(x)) / 3, conv=conv(), norm=norm()), CONV),
    "twice it, in place": (lambda: Calls(lambda m, x: 2 * m.conv(x).mul_(3.0), conv=conv()), CONV),
    "negated": (lambda: Calls(lambda m, x: -m.conv(x), conv=conv(bias=True)), CONV),
    "taken from one": (lambda: Calls(lambda m, x: 1.0 - m.conv(x), conv=conv()), CONV),
    "taken from each other": (
        lambda: Calls(lambda m, x: torch.rsub(m.conv(x), m.point(x), alpha=2.0), conv=conv(), point=conv(1, bias=True)),
        CONV,
    ),
    "part added": (
        lambda: Calls(lambda m, x: torch.add(m.conv(x), m.point(x), alpha=0.25), conv=conv(), point=conv(1)),
        CONV,
    ),
    "every kind of dropout": (
        lambda: nn.Sequential(
            conv(), nn.Dropout2d(), nn.AlphaDropout(), nn.FeatureAlphaDropout(), nn.Identity(), norm()
        ),
        CONV,
    ),
    "asked for in float32": (lambda: Calls(lambda m, x: m.norm(m.conv(x).float()), conv=conv(), norm=norm()), CONV),
    "parts, concatenated": (
        lambda: Calls(
            lambda m, x: torch.cat([m.norm(part) for part in m.conv(x).chunk(2, 1)][::-1], 1), conv=conv(), norm=norm(4)
        ),
        CONV,
    ),
    "one part": (lambda: Calls(lambda m, x: torch.split(m.conv(x), [2, 6], 1)[1], conv=conv()), CONV),
    "concatenated, 1x1": (
        lambda: Calls(
            lambda m, x: m.point(torch.cat((m.a(x), m.b(x)), 1)), a=conv(), b=conv(), point=conv(1, c_in=16, c_out=4)
        ),
        CONV,
    ),
    "strided branches, the pooling overlaps": (
        lambda: Calls(
            lambda m, x: m.conv(x) + m.point(functional.avg_pool2d(x, 3, 2, 1)) + m.other(x),
            conv=conv(3, 2),
            point=conv(1),
            other=conv(1, 2),
        ),
        CONV,
    ),
    "head": (
        lambda: nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.BatchNorm1d(8), nn.Linear(8, 5), nn.Dropout(), nn.Linear(5, 3)
        ),
        {"adaptive_avg_pool2d": 1, "flatten": 1, "linear": 1},
    ),
}


@pytest.mark.parametrize("name", ONE_LAYER)
def test_a_region_becomes_one_layer(name: str) -> None:
    torch.manual_seed(0)
    make, expected = ONE_LAYER[name]
    program, certificates, _ = fused(make())

    assert operator_counts(program) == expected
    assert len(certificates) == 1
    assert 0 < certificates[0].used <= 1


@pytest.mark.parametrize(("padding", "swaps"), [(0, True), (1, False)])
def test_pooling_moves_in_front_of_a_pointwise_layer(padding: int, *, swaps: bool) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(norm(), nn.ReLU(), conv(1, c_out=64), norm(64), nn.AvgPool2d(2, padding=padding), nn.ReLU())
    program, _, refusals = fused(model)
    (pool,) = program.graph.find_nodes(op="call_function", target=torch.ops.aten.avg_pool2d.default)

    assert operator_counts(program) == {"mul": 1, "add": 1, "relu": 2, "conv2d": 1, "avg_pool2d": 1}
    assert pool.meta["val"].shape[1] == (8 if swaps else 64)
    assert swaps or "average pooling with padding after a shift" in reasons(refusals)


def test_pooling_moves_past_layers_that_another_pooling_moved_behind() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(conv(1, c_out=32), nn.AvgPool2d(2), conv(1, c_in=32), norm(), nn.AvgPool2d(2), nn.ReLU())
    program, _, _ = fused(model)

    assert operator_counts(program) == {"conv2d": 1, "avg_pool2d": 2, "relu": 1}


def test_a_dead_channel_is_folded_like_any_other() -> None:
    model = nn.Sequential(conv(), norm())
    cast("Tensor", cast("nn.BatchNorm2d", model[1]).running_var)[3] = 0.0

    assert operator_counts(fused(model)[0]) == {"conv2d": 1}


def test_in_place_operators_become_functional() -> None:
    def forward(m: nn.Module, x: Tensor) -> Tensor:
        y = m.norm(m.conv(x))  # type: ignore[operator]
        y += x
        y.relu_()
        return cast("Tensor", y * torch.sigmoid(y))

    program, _, _ = fused(Calls(forward, conv=conv(), norm=norm()))

    # The skip joins the kernel as ones at its centre.
    assert operator_counts(program) == {"conv2d": 1, "relu": 1, "sigmoid": 1, "mul": 1}


Gated = Callable[[Any, Tensor], Tensor]
GATED: dict[str, tuple[Gated, int]] = {
    "onto the layer in front": (lambda m, x: torch.relu(m.a(x) * (2 * torch.sigmoid(m.gate(x)))), 1),
    "onto the norm in front": (lambda m, x: torch.relu((torch.sigmoid(m.gate(x)) * 2) * m.norm(m.a(x))), 1),
    "onto the layer behind": (lambda m, x: m.a(torch.tanh(x) * (m.two * torch.sigmoid(m.gate(x)))), 1),
    "to nothing": (lambda m, x: torch.relu(torch.tanh(x) * (2 * torch.sigmoid(m.gate(x)))), 2),
    "read twice": (lambda m, x: (lambda y: m.a(torch.tanh(x) * y) + y)(2 * torch.sigmoid(m.gate(x))), 2),
    "product read twice": (lambda m, x: (lambda y: m.a(y) + y)(torch.tanh(x) * (2 * torch.sigmoid(m.gate(x)))), 2),
    "per channel": (lambda m, x: m.a(torch.tanh(x) * (m.each * torch.sigmoid(m.gate(x)))), 2),
}


@pytest.mark.parametrize("name", GATED)
def test_a_factor_moves_through_a_product_to_a_layer_that_takes_it(name: str) -> None:
    torch.manual_seed(0)
    forward, products = GATED[name]
    model = Calls(forward, a=conv(1, bias=True), gate=conv(1), norm=norm())
    model.two, model.each = nn.Parameter(torch.tensor(2.0)), nn.Parameter(torch.rand(8, 1, 1))
    program, _, _ = fused(model)

    assert operator_counts(program)["mul"] == products


def test_a_factor_moved_wrongly_is_a_parity_error(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    probes = [(torch.randn(SHAPE),)]
    model = Calls(GATED["onto the layer in front"][0], a=conv(1, bias=True), gate=conv(1))
    before = prove(capture(model.eval(), SHAPE), probes)

    assert apply(Fuse(), before, probes, 120.0)[1].fired == {"factor": 1, "convolution": 1}
    monkeypatch.setattr(factors, "_factor", lambda *_: 2.001)
    with pytest.raises(ParityError, match="Pass 'fuse' changed the network"):
        apply(Fuse(), before, probes, 120.0)


def test_a_factor_stays_where_fusing_is_not_allowed() -> None:
    torch.manual_seed(0)
    model = Calls(GATED["onto the layer in front"][0], a=conv(1, bias=True), gate=conv(1))
    program, _, _ = fused(model, options=FuseOptions(exclude=("a",)))

    assert operator_counts(program)["mul"] == 2


class Tokens(nn.Module):
    """A layer norm on the last axis in front of three projections."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(8)
        self.q, self.k, self.v = (nn.Linear(8, 8, bias=index == 0) for index in range(3))
        randomise(self)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x.flatten(2).transpose(1, 2))
        attended: Tensor = functional.scaled_dot_product_attention(self.q(y), self.k(y), self.v(y))
        return attended


def test_a_layer_norm_folds_into_the_layers_that_read_it() -> None:
    torch.manual_seed(0)
    program, _, _ = fused(Tokens())
    (layer_norm,) = program.graph.find_nodes(op="call_function", target=torch.ops.aten.layer_norm.default)

    assert layer_norm.args[2:4] == (None, None)
    assert operator_counts(program)["mul"] == operator_counts(program)["add"] == 0
    assert operator_counts(program)["linear"] == 3


@pytest.mark.parametrize(("kernel", "folds"), [(2, True), (3, False)])
def test_a_layer_norm_folds_through_a_permute_where_there_is_no_padding(kernel: int, *, folds: bool) -> None:
    torch.manual_seed(0)
    model = Calls(
        lambda m, x: m.conv(m.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)),
        norm=nn.LayerNorm(8),
        conv=conv(kernel, 2, padding=0 if folds else 1),
    )
    randomise(model)
    program, _, refusals = fused(model)
    (layer_norm,) = program.graph.find_nodes(op="call_function", target=torch.ops.aten.layer_norm.default)

    assert operator_counts(program) == {"permute": 2, "layer_norm": 1, "conv2d": 1}
    assert (layer_norm.args[2] is None) == folds
    assert folds or "3x3 with zero padding after a shift" in reasons(refusals)


def test_a_layer_scale_folds_into_the_layer_before_it() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Linear(8, 16), nn.Linear(16, 8)
            self.gamma = nn.Parameter(torch.rand(8))

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = x + self.gamma * self.two(functional.gelu(self.one(x)))
            return y

    program, _, _ = fused(Scaled(), (1, 5, 8))

    assert operator_counts(program) == {"linear": 2, "gelu": 1, "add": 1}


def test_branches_that_cancel_are_no_parity_error() -> None:
    torch.manual_seed(0)
    layer = norm()
    model = Calls(lambda m, x: torch.relu(m.a(x) - m.b(x)) + x, a=layer, b=norm())
    model.get_submodule("b").load_state_dict(layer.state_dict())

    assert fuse(capture(model.eval(), SHAPE))[1]


def test_a_certificate_tells_what_was_there_and_what_is_left() -> None:
    torch.manual_seed(0)
    (found,) = fused(nn.Sequential(conv(), norm()))[1]

    assert (found.rule, found.site) == ("convolution", "1")
    assert found.before.operators == ("conv2d", "batch_norm")
    assert found.after.operators == ("conv2d",)
    assert (found.before.parameters, found.after.parameters) == (8 * 8 * 9 + 4 * 8, 8 * 8 * 9 + 8)
    assert found.before.macs == found.after.macs == 2 * 12 * 12 * 8 * 8 * 9
    assert found.max_abs > 0
    assert found.snr_db > 120


def test_the_source_line_is_the_users() -> None:
    class Sum(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = conv(), conv(1)

        def forward(self, x: Tensor) -> Tensor:
            return self.a(x) + self.b(x)  # type: ignore[no-any-return]

    (found,) = fused(Sum())[1]

    assert found.source_line.startswith("passes/test_fuse.py:")
    assert found.source_line.endswith("return self.a(x) + self.b(x)  # type: ignore[no-any-return]")


def test_the_pass_is_applied_and_proved_like_any_other() -> None:
    torch.manual_seed(0)
    probes = ((torch.randn(SHAPE),),)
    program = capture(nn.Sequential(conv(), norm(), nn.ReLU(), conv(1), norm(), nn.Flatten()).eval(), SHAPE)
    rewriting = Fuse()
    after, found = apply(rewriting, prove(program, probes), probes, 120.0)

    assert (found.name, found.fired) == ("fuse", {"convolution": 2})
    assert operator_counts(after.program) == {"conv2d": 2, "relu": 1, "flatten": 1}
    assert len(rewriting.certificates) == 2
    assert operator_counts(program)["batch_norm"] == 2
