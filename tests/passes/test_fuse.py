"""What is fused, what is refused and why, and that a wrong fold does not pass its certificate."""

from collections.abc import Callable, Sequence
from typing import cast

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from edgekit.artifact import Refusal
from edgekit.capture import capture
from edgekit.errors import ParityError
from edgekit.numerics import snr_db
from edgekit.passes.base import Log, apply, prove
from edgekit.passes.fuse import Fuse, FuseOptions, RegionCertificate, fuse, rewrite
from edgekit.passes.fuse.certificate import Region, certify
from edgekit.passes.fuse.reader import Reader
from edgekit.passes.fuse.regions import Planner, linear_steps
from edgekit.passes.materialise import MATERIALISE
from edgekit.program import Program, clone, constant, finish, operator_counts, run, stats
from edgekit.reference import program_in_float64

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")

SHAPE = (2, 8, 12, 12)


class Calls(nn.Module):
    """A module whose forward is a function of its layers and its input."""

    def __init__(self, forward: Callable[..., Tensor], **layers: nn.Module) -> None:
        super().__init__()
        for name, layer in layers.items():
            self.add_module(name, layer)
        self.function = forward

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, x)


def norm(channels: int = 8) -> nn.BatchNorm2d:
    layer = nn.BatchNorm2d(channels)
    randomise(layer)
    return layer


def randomise(module: nn.Module) -> None:
    for layer in module.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            cast("Tensor", layer.running_mean).normal_(0, 0.2)
            cast("Tensor", layer.running_var).uniform_(0.5, 2)
        if isinstance(layer, (nn.modules.batchnorm._BatchNorm, nn.LayerNorm, nn.GroupNorm)):
            nn.init.uniform_(layer.weight, 0.7, 1.3)
            nn.init.normal_(layer.bias, 0, 0.2)


def conv(kernel: int = 3, stride: int = 1, groups: int = 1, c_in: int = 8, c_out: int = 8, **more: object) -> nn.Conv2d:
    options = {"padding": kernel // 2, "bias": False, **more}
    return nn.Conv2d(c_in, c_out, kernel, stride, groups=groups, **options)  # type: ignore[arg-type]


def fused(
    model: nn.Module, shape: tuple[int, ...] = SHAPE, options: FuseOptions | None = None
) -> tuple[Program, tuple[RegionCertificate, ...], tuple[Refusal, ...]]:
    """Fuses a model and checks, in float64 and in float32, that it is still the same."""
    program = materialised(capture(model.eval(), shape))
    result = fuse(program, options)
    probe = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    expected = program_in_float64(program)(probe).numpy()

    assert snr_db(expected, program_in_float64(result[0])(probe).numpy()) >= 125
    assert snr_db(expected, run(result[0], probe)[0].double().numpy()) >= 110
    assert stats(result[0]).macs <= stats(program).macs

    return result


def materialised(program: Program) -> Program:
    for rewriting in MATERIALISE:
        program = clone(program)
        rewriting(program, Log())
        finish(program)
    return program


def reasons(refusals: Sequence[Refusal]) -> str:
    return "\n".join(f"{refusal.site}: {refusal.reason}" for refusal in refusals)


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


STAYS: dict[str, tuple[Callable[[], nn.Module], dict[str, int], str]] = {
    "norm, padded conv": (
        lambda: nn.Sequential(norm(), conv()),
        {"mul": 1, "add": 1, "conv2d": 1},
        "3x3 with zero padding after a shift: not exact at the border",
    ),
    "biased 1x1, padded conv": (
        lambda: nn.Sequential(conv(1, c_out=32, bias=True), conv(c_in=32, c_out=2)),
        {"conv2d": 2},
        "3x3 with zero padding after a shift: not exact at the border",
    ),
    "two padded convs": (
        lambda: nn.Sequential(conv(3, groups=8), conv(3, groups=8)),
        {"conv2d": 2},
        "3x3 with zero padding after 3x3: not exact at the border",
    ),
    "bottleneck": (
        lambda: nn.Sequential(conv(1, c_out=2), conv(1, c_in=2)),
        {"conv2d": 2},
        "two cost less: one operator would take 18,432 MACs instead of 9,216",
    ),
    "depthwise, pointwise": (
        lambda: nn.Sequential(conv(groups=8), norm(), conv(1), norm()),
        {"conv2d": 2},
        "two cost less",
    ),
    "reflection beside zeros": (
        lambda: Calls(
            lambda m, x: m.a(functional.pad(x, (1, 1, 1, 1), mode="reflect")) + m.b(x), a=conv(padding=0), b=conv()
        ),
        {"conv2d": 2, "pad": 1, "add": 1},
        "padding modes differ",
    ),
    "pool without its padding": (
        lambda: Calls(
            lambda m, x: functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False) + m.a(x), a=conv(groups=8)
        ),
        {"conv2d": 1, "avg_pool2d": 1, "add": 1},
        "leaves padding out of its mean",
    ),
    "computed weight": (
        lambda: Calls(lambda m, x: m.norm(functional.conv2d(x, x[:1, :, :3, :3])), norm=norm(1)),
        {"conv2d": 1, "slice": 4, "mul": 1, "add": 1},
        "the weight is computed",
    ),
}


@pytest.mark.parametrize("name", STAYS)
def test_what_is_not_exact_or_not_cheaper_stays_and_says_why(name: str) -> None:
    torch.manual_seed(0)
    make, expected, reason = STAYS[name]
    program, _, refusals = fused(make())

    assert {key: count for key, count in operator_counts(program).items() if key != "slice"} == {
        key: count for key, count in expected.items() if key != "slice"
    }
    assert reason in reasons(refusals)


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


def test_a_shared_weight_is_left() -> None:
    torch.manual_seed(0)
    shared = conv()
    model = Calls(lambda m, x: m.b(m.conv(torch.relu(m.a(m.conv(x))))), conv=shared, a=norm(), b=norm())
    program, _, refusals = fused(model)

    assert operator_counts(program) == {"conv2d": 2, "mul": 2, "add": 2, "relu": 1}
    assert "weight shared with conv" in reasons(refusals)


def test_a_batch_norm_in_training_mode_is_left() -> None:
    model = nn.Sequential(conv(), norm()).eval()
    program = capture(model, SHAPE)
    (node,) = program.graph.find_nodes(op="call_function", target=torch.ops.aten.batch_norm.default)
    node.args = (*node.args[:5], True, *node.args[6:])
    _, certificates, refusals = fuse(program)

    assert not certificates
    assert refusals == (Refusal(rule="linear", site="1", reason="batch norm in training mode"),)


def test_statistics_that_were_never_collected_are_left() -> None:
    model = nn.Sequential(conv(), norm()).eval()
    cast("Tensor", cast("nn.BatchNorm2d", model[1]).running_var).zero_()
    _, certificates, refusals = fuse(capture(model, SHAPE))

    assert not certificates
    assert "running_var = 0: eps dominates" in reasons(refusals)


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


def test_memory_with_two_names_is_left() -> None:
    def forward(_: nn.Module, x: Tensor) -> Tensor:
        y = x * 2.0
        half = y[:, :4]
        y.relu_()
        return torch.cat((half, y), 1)

    program, _, refusals = fused(Calls(forward))

    assert operator_counts(program)["relu_"] == 1
    assert "the tensor written is read under another name" in reasons(refusals)


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


def test_a_layer_left_out_keeps_its_weights_in_order() -> None:
    torch.manual_seed(0)
    model = Calls(
        lambda m, x: m.last(torch.channel_shuffle(torch.relu(m.first(x)), 2)), first=conv(), last=conv(), second=norm()
    )
    program, _, refusals = fused(model, options=FuseOptions(exclude=("last",)))

    assert operator_counts(program)["channel_shuffle"] == 1
    assert "left out by --only or --no-fuse" in reasons(refusals)


def test_only_and_exclude_choose_modules() -> None:
    def model() -> nn.Module:
        return nn.Sequential(nn.Sequential(conv(), norm(), nn.ReLU()), nn.Sequential(conv(), norm(), nn.ReLU()))

    for options in (FuseOptions(only=("1",)), FuseOptions(exclude=("0.*",)), FuseOptions(exclude=("0",))):
        program, certificates, _ = fused(model(), options=options)

        assert operator_counts(program) == {"conv2d": 2, "batch_norm": 1, "relu": 2}
        assert [certificate.site for certificate in certificates] == ["1.1"]


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


@pytest.mark.parametrize("argument", [1, 2], ids=["weight", "bias"])
@pytest.mark.parametrize("channel", range(8))
def test_one_channel_wrong_by_a_percent_is_caught(monkeypatch: pytest.MonkeyPatch, argument: int, channel: int) -> None:
    torch.manual_seed(0)
    program = clone(capture(nn.Sequential(conv(3, bias=True), norm()).eval(), SHAPE))

    def tamper(program: Program, region: Region) -> RegionCertificate:
        certify(program, region)
        value = constant(program, region.new.args[argument])
        assert value is not None
        value[channel] *= 1.01
        with pytest.raises(ParityError, match=r"Fusing 1 .* changes what it computes.*--no-fuse '1'"):
            certify(program, region)
        value[channel] /= 1.01
        return certify(program, region)

    original = rewrite.Rewriter

    def tampering(*args: object) -> rewrite.Rewriter:
        return original(*args, certify=tamper)  # type: ignore[arg-type, misc]

    monkeypatch.setattr(rewrite, "Rewriter", tampering)
    Fuse()(program, Log())


def test_one_input_channel_wrong_by_a_percent_is_caught_in_a_wide_layer() -> None:
    torch.manual_seed(0)
    program = clone(capture(nn.Sequential(conv(c_in=512, c_out=4), norm(4)).eval(), (1, 512, 14, 14)))

    def tamper(program: Program, region: Region) -> RegionCertificate:
        value = constant(program, region.new.args[1])
        assert value is not None
        value[:, 7] *= 1.01
        return certify(program, region)

    reader = Reader(program)
    steps = linear_steps(reader, lambda _: True, lambda *_: None)
    with pytest.raises(ParityError, match="changes what it computes"):
        rewrite.Rewriter(program, Planner(reader, steps), Log(), tamper).run()


def test_the_pass_is_applied_and_proved_like_any_other() -> None:
    torch.manual_seed(0)
    probes = (torch.randn(SHAPE),)
    program = capture(nn.Sequential(conv(), norm(), nn.ReLU(), conv(1), norm(), nn.Flatten()).eval(), SHAPE)
    rewriting = Fuse()
    after, found = apply(rewriting, prove(program, probes), probes, 120.0)

    assert (found.name, found.fired) == ("fuse", {"convolution": 2})
    assert operator_counts(after.program) == {"conv2d": 2, "relu": 1, "flatten": 1}
    assert len(rewriting.certificates) == 2
    assert operator_counts(program)["batch_norm"] == 2
