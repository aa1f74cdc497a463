"""L2 norms as layer norms: how often, how exactly, and what is declined for which reason."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from edgekit.artifact import Certificate, Shape
from edgekit.capture import capture
from edgekit.models.parcnetv2 import L2Norm
from edgekit.models.weights import random_weights
from edgekit.numerics import compare_one
from edgekit.passes.base import Log, Proven
from edgekit.passes.materialise import FoldConstants, L2NormToLayerNorm
from edgekit.program import Program, clone, constant, finish, module_path, operator_counts, stats
from edgekit.reference import program_in_float64
from tests.passes.materialising import (
    EXACT_DB,
    LARGE,
    ROUNDED_ONCE_DB,
    Function,
    captured,
    centred,
    image,
    length,
    materialised,
    proved,
)

ATEN = torch.ops.aten


@pytest.fixture(scope="module")
def normed(folded: tuple[Proven, Certificate]) -> tuple[Proven, Certificate]:
    return proved(L2NormToLayerNorm(), folded[0], LARGE, ROUNDED_ONCE_DB)


def test_every_l2_norm_becomes_one_layer_norm(normed: tuple[Proven, Certificate]) -> None:
    program, certificate = normed[0].program, normed[1]
    assert certificate.fired == {"l2norm-to-layernorm": 38}
    assert certificate.declined == ()
    counts = operator_counts(program)
    assert counts["layer_norm"] == 38 + 1
    assert not {"linalg_vector_norm", "clamp_min", "div", "sub"} & set(counts)
    assert certificate.after.operators == certificate.before.operators - 5 * 38
    assert certificate.after.parameters == certificate.before.parameters
    assert certificate.after.macs == certificate.before.macs


def test_a_layer_norm_keeps_its_modules_path_and_takes_the_weight_over(
    interpolated: tuple[nn.Module, Program], normed: tuple[Proven, Certificate]
) -> None:
    model, program = interpolated[0], normed[0].program
    for node in program.graph.find_nodes(op="call_function", target=ATEN.layer_norm.default):
        path, weight = module_path(node), constant(program, node.args[2])
        assert weight is not None
        stored = model.get_parameter(f"{path}.weight").double()
        channels = len(stored)
        expected = stored if path == "norm" else stored / math.sqrt(channels)
        assert weight.equal(expected.float())
        assert node.args[4] == pytest.approx(1e-6 if path == "norm" else 1e-12 / channels, rel=1e-12)


@pytest.mark.parametrize("shape", [(2, 8), (1, 5, 7, 16), (3, 4, 33)], ids=["vector", "map", "odd"])
def test_an_l2_norm_equals_torchs_layer_norm(shape: Shape) -> None:
    channels = shape[-1]
    norm = L2Norm(channels)
    random_weights(norm, seed=0)
    program, certificate = materialised(L2NormToLayerNorm(), capture(norm.eval(), shape), shape, ROUNDED_ONCE_DB)
    assert certificate.after.operators == 1
    source = image(shape).double()
    weight = norm.weight.detach().double() / math.sqrt(channels)
    expected = functional.layer_norm(source, (channels,), weight, None, 1e-12 / channels)
    assert compare_one(expected, program_in_float64(program)(source)[0]).snr_db > ROUNDED_ONCE_DB


def both_ways(source: Tensor, eps: float = 1e-6) -> tuple[Tensor, Tensor]:
    """An L2 norm with weights of 1, as it is and as layer normalisation, in float64."""
    shape = tuple(source.shape)
    program = capture(L2Norm(shape[-1], eps).eval(), shape)
    rewritten, log = clone(program), Log()
    L2NormToLayerNorm()(rewritten, log)
    assert log.fired.total() == 1
    return program_in_float64(program)(source)[0], program_in_float64(finish(rewritten))(source)[0]


def test_a_pixel_that_is_the_same_in_all_channels_becomes_zero_both_ways() -> None:
    source = torch.tensor([0.0, 1.0, -3.5, 1024.0])[:, None].expand(4, 16).contiguous()
    for result in both_ways(source):
        assert torch.count_nonzero(result) == 0


@pytest.mark.parametrize("exponent", [-12, -9, -7, -6, -5, -4, -2, 0, 4])
def test_near_eps_the_two_differ_by_at_most_the_square_root_of_two(exponent: int) -> None:
    """max(d, eps) against sqrt(d^2 + eps^2): the same far from eps on both sides, sqrt(2) apart at eps itself."""
    eps, channels = 1e-6, 16
    direction = image((1, channels), seed=5).double()
    direction -= direction.mean()
    length = 10.0**exponent
    exact, layer_norm = both_ways(direction / direction.norm() * length, eps)
    expected = max(length, eps) / math.hypot(length, eps)
    rounding = 2**-23 * (1 + length / eps)  # the weight 1 / sqrt(16) is exact; eps^2 / C is not
    torch.testing.assert_close(layer_norm, exact * expected, rtol=min(rounding, 1e-6), atol=0)
    assert 1 / math.sqrt(2) - 1e-9 <= expected <= 1


def other_norm(x: Tensor, w: Tensor) -> Tensor:
    c = centred(x)
    absolute: Tensor = torch.linalg.vector_norm(c, 1, dim=-1, keepdim=True)
    return c / absolute.clamp_min(1e-6) * w


def not_centred(x: Tensor, w: Tensor) -> Tensor:
    return x / length(x).clamp_min(1e-6) * w


def centred_elsewhere(x: Tensor, w: Tensor) -> Tensor:
    c = x - x.mean(dim=1, keepdim=True)
    return c / length(c).clamp_min(1e-6) * w


def centred_by_another(x: Tensor, w: Tensor) -> Tensor:
    c = x - x.exp().mean(dim=-1, keepdim=True)
    return c / length(c).clamp_min(1e-6) * w


def half_centred(x: Tensor, w: Tensor) -> Tensor:
    c = torch.sub(x, x.mean(dim=-1, keepdim=True), alpha=0.5)
    return c / length(c).clamp_min(1e-6) * w


def over_all_axes(x: Tensor, w: Tensor) -> Tensor:
    c = centred(x)
    single: Tensor = torch.linalg.vector_norm(c, keepdim=True)
    return c / single.clamp_min(1e-6) * w


def over_rows(x: Tensor, w: Tensor) -> Tensor:
    c = centred(x, axis=1)
    return c / length(c, axis=1).clamp_min(1e-6) * w


def without_keepdim(x: Tensor, w: Tensor) -> Tensor:
    c = centred(x)
    flat: Tensor = torch.linalg.vector_norm(c, dim=-1)
    return c / flat.clamp_min(1e-6)[..., None] * w


def not_clamped(x: Tensor, w: Tensor) -> Tensor:
    c = centred(x)
    return c / length(c) * w


def added_eps(x: Tensor, w: Tensor) -> Tensor:
    c = centred(x)
    return c / (length(c) + 1e-6) * w


def length_used_twice(x: Tensor, w: Tensor) -> Tensor:
    c = centred(x)
    size = length(c)
    return c / size.clamp_min(1e-6) * w + size


def divides_another(x: Tensor, w: Tensor) -> Tensor:
    return x / length(centred(x)).clamp_min(1e-6) * w


def without_weight(x: Tensor, w: Tensor) -> Tensor:
    c = centred(x)
    return c / length(c).clamp_min(1e-6)


def weight_from_input(x: Tensor, w: Tensor) -> Tensor:
    c = centred(x)
    return c / length(c).clamp_min(1e-6) * x


def scalar_weight(x: Tensor, w: Tensor) -> Tensor:
    c = centred(x)
    return c / length(c).clamp_min(1e-6) * w[:1].clone()


NOT_CENTRED = "not the Euclidean length of a centred tensor"
OTHER_MEAN = "not centred by its own mean over the same axis"
NOT_DIVIDED = "the length is not clamped from below and divided by"
NO_WEIGHT = "no per-channel weight follows"


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (other_norm, NOT_CENTRED),
        (not_centred, NOT_CENTRED),
        (without_keepdim, NOT_CENTRED),
        (centred_elsewhere, OTHER_MEAN),
        (centred_by_another, OTHER_MEAN),
        (over_all_axes, OTHER_MEAN),
        (over_rows, "normalises another axis than the last"),
        (not_clamped, NOT_DIVIDED),
        (added_eps, NOT_DIVIDED),
        (length_used_twice, NOT_DIVIDED),
        (divides_another, NOT_DIVIDED),
        (without_weight, NO_WEIGHT),
        (weight_from_input, NO_WEIGHT),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_what_is_no_l2_norm_is_declined_with_the_reason(function: Callable[..., Tensor], reason: str) -> None:
    program = captured(function, (2, 3, 4), (4,))
    _, certificate = materialised(L2NormToLayerNorm(), program, (2, 3, 4), EXACT_DB)
    assert [(refusal.rule, refusal.reason) for refusal in certificate.declined] == [("l2norm-to-layernorm", reason)]
    assert certificate.fired == {}
    assert certificate.after == certificate.before


@pytest.mark.parametrize("function", [half_centred, scalar_weight], ids=["half-centred", "scalar-weight"])
def test_near_misses_are_declined_and_break_nothing(function: Callable[..., Tensor]) -> None:
    program = captured(function, (2, 3, 4), (4,))
    folded, _ = materialised(FoldConstants(), program, (2, 3, 4), ROUNDED_ONCE_DB)
    _, certificate = materialised(L2NormToLayerNorm(), folded, (2, 3, 4), ROUNDED_ONCE_DB)
    assert certificate.fired == {}
    assert len(certificate.declined) == 1


def test_one_norm_among_others_is_rewritten_and_the_rest_stay() -> None:
    model = nn.Sequential(L2Norm(8), nn.LayerNorm(8), Function(without_weight, (8,)), L2Norm(8))
    random_weights(model, seed=0)
    program, certificate = materialised(L2NormToLayerNorm(), capture(model.eval(), (2, 8)), (2, 8), ROUNDED_ONCE_DB)
    assert certificate.fired == {"l2norm-to-layernorm": 2}
    assert [(refusal.site, refusal.reason) for refusal in certificate.declined] == [("2", NO_WEIGHT)]
    assert operator_counts(program)["layer_norm"] == 3
    assert stats(program).parameters == 8 * 4
