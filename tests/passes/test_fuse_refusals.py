"""What is not fused and why, and that a wrong fold does not pass its certificate."""

from collections.abc import Callable
from typing import cast

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from edgekit.artifact import Refusal
from edgekit.capture import capture
from edgekit.errors import ParityError
from edgekit.passes.base import Log
from edgekit.passes.fuse import Fuse, FuseOptions, RegionCertificate, fuse, rewrite
from edgekit.passes.fuse.certificate import Region, certify
from edgekit.passes.fuse.reader import Reader
from edgekit.passes.fuse.regions import Planner, linear_steps
from edgekit.program import Program, clone, constant, operator_counts
from tests.passes.fusing import SHAPE, Calls, conv, fused, norm, reasons

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")

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


def test_memory_with_two_names_is_left() -> None:
    def forward(_: nn.Module, x: Tensor) -> Tensor:
        y = x * 2.0
        half = y[:, :4]
        y.relu_()
        return torch.cat((half, y), 1)

    program, _, refusals = fused(Calls(forward))

    assert operator_counts(program)["relu_"] == 1
    assert "the tensor written is read under another name" in reasons(refusals)


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
