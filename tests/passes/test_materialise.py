"""Folding and cropping: how often each fires, what it leaves, that it is the same network, and where it declines."""

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from edgekit.artifact import Certificate, Shape
from edgekit.capture import capture
from edgekit.errors import ParityError
from edgekit.models.weights import random_weights
from edgekit.passes.base import Log, Pass, Proven
from edgekit.passes.materialise import FOLD_LIMIT_BYTES, CropKernels, FoldConstants, L2NormToLayerNorm
from edgekit.program import (
    Program,
    arguments,
    clone,
    constant,
    constants,
    fingerprint,
    finish,
    insert_constant,
    module_path,
    operator_counts,
    operators,
)
from edgekit.reference import program_in_float64
from tests.passes.materialising import (
    EXACT_DB,
    ROUNDED_ONCE_DB,
    an_l2_norm,
    captured,
    image,
    materialised,
    random_network,
)

ATEN = torch.ops.aten


# -- fold constants -------------------------------------------------------------------------------------------------


def test_every_interpolated_kernel_becomes_a_constant(folded: tuple[Proven, Certificate]) -> None:
    program, certificate = folded[0].program, folded[1]
    assert certificate.fired == {"upsample_bilinear2d.vec": 34}
    assert certificate.declined == ()
    assert operator_counts(program)["upsample_bilinear2d"] == 0
    assert certificate.after.operators == certificate.before.operators - 34
    assert certificate.after.macs == certificate.before.macs == 2_604_280_320
    grown = sum(blocks * width * (taps[0] + taps[1] - 2 * stored) for blocks, width, taps, stored in OVERSIZED)
    assert certificate.after.parameters == certificate.before.parameters + grown


OVERSIZED = [  # blocks, channels, taps at 320 x 256, taps stored for 224 x 224
    (3, 48, (159, 127), 111),
    (3, 96, (79, 63), 55),
    (9, 192, (39, 31), 27),
    (2, 320, (19, 15), 13),
]


def test_a_folded_kernel_is_torchs_own_interpolation_in_float64_rounded_once(
    interpolated: tuple[nn.Module, Program], folded: tuple[Proven, Certificate]
) -> None:
    model, program = interpolated[0], folded[0].program
    checked = 0
    for node in program.graph.find_nodes(op="call_function", target=ATEN.conv2d.default):
        weight = constant(program, arguments(node)["weight"])
        path = module_path(node)
        if weight is None or not path.endswith("dwconv1") or weight.ndim != 4 or 1 not in weight.shape[2:]:
            continue
        half = "conv_h" if weight.shape[3] == 1 else "conv_w"
        stored = model.get_parameter(f"{path}.{half}.weight").double()
        size = tuple(weight.shape[2:])
        wanted = functional.interpolate(stored, size=size, mode="bilinear", align_corners=True)
        assert weight.equal(wanted.float())
        checked += 1
    assert checked == 34


def test_at_the_stored_size_there_is_nothing_to_materialise_but_norms(smallest: Program) -> None:
    for rewrite, fired in ((FoldConstants(), 0), (CropKernels(), 0), (L2NormToLayerNorm(), 38)):
        log = Log()
        rewrite(clone(smallest), log)
        assert (log.fired.total(), log.declined) == (fired, [])


@pytest.mark.parametrize(
    ("function", "shapes", "fired"),
    [
        (lambda x, w: x * (w.abs() + 1).sqrt(), [(4,)], ["abs", "add", "sqrt"]),
        (lambda x, v: functional.linear(x, v / v.norm(dim=1, keepdim=True)), [(6, 4)], ["div", "linalg_vector_norm"]),
        (lambda x, a, b: x @ (a @ b), [(4, 5), (5, 6)], ["matmul"]),
        (lambda x, w: functional.linear(x, w.T), [(4, 6)], ["numpy_T"]),
        (lambda x, w: x * w.softmax(0), [(4,)], ["softmax"]),
    ],
    ids=["chain", "weight-norm", "product", "transpose", "softmax"],
)
def test_what_depends_on_constants_only_is_computed_once(
    function: Callable[..., Tensor], shapes: list[Shape], fired: list[str]
) -> None:
    program, certificate = materialised(FoldConstants(), captured(function, (2, 4), *shapes), (2, 4), ROUNDED_ONCE_DB)
    assert sorted(name.split(".")[0] for name in certificate.fired) == fired
    assert certificate.after.operators == 1 == certificate.before.operators - len(fired)
    assert [value.dtype for _, value in constants(program)] == [torch.float32]


def test_a_chain_of_operators_is_as_good_as_float64_rounded_at_every_link() -> None:
    weight = image((4,), seed=2)
    program = captured(lambda x, w: x * (w.abs() + 1).sqrt(), (2, 4), (4,))
    after, _ = materialised(FoldConstants(), program, (2, 4), ROUNDED_ONCE_DB)
    (value,) = (value for _, value in constants(after))
    exact = (weight.double().abs() + 1).float().double().sqrt().float()
    assert value.equal(exact)


@pytest.mark.parametrize(
    "function",
    [
        lambda x, w: x * w.to(x.dtype),
        lambda x, w: x * w.double().exp().to(x.dtype),
    ],
    ids=["to-the-inputs-type", "by-way-of-double"],
)
def test_a_constant_that_the_model_converts_is_folded_like_any_other(function: Callable[..., Tensor]) -> None:
    """`self.table.to(x.dtype)` is common; torch's graph then also asserts the constant's type."""
    after, _ = materialised(FoldConstants(), captured(function, (2, 4), (4,)), (2, 4), ROUNDED_ONCE_DB)
    assert operator_counts(after) == {"mul": 1}


def test_a_tensor_that_the_model_makes_as_it_runs_is_a_constant_too() -> None:
    """`torch.tensor(...)` in `forward` comes out as a lifted copy and a `detach_`, which writes nothing."""
    program = captured(lambda x, w: x * (w * torch.tensor([1.0, 2.0, 3.0, 4.0])), (2, 4), (4,))
    after, _ = materialised(FoldConstants(), program, (2, 4), ROUNDED_ONCE_DB)
    assert operator_counts(after) == {"mul": 1}


def test_an_integer_table_stays_integer() -> None:
    table = torch.tensor([3, 1, 2, 0])
    program = captured(lambda x, t: x[:, t.flip(0)], (2, 4), buffer=table)
    program, certificate = materialised(FoldConstants(), program, (2, 4), EXACT_DB)
    assert certificate.fired == {"flip.default": 1}
    assert [(value.dtype, value.tolist()) for _, value in constants(program)] == [(torch.int64, [0, 2, 1, 3])]


def test_a_constant_that_would_grow_beyond_the_limit_is_left_to_be_computed() -> None:
    side = math.isqrt(FOLD_LIMIT_BYTES // 4) + 64
    program = captured(lambda x, a, b: x + (a * b).sum(), (1, 4), (side, 1), (1, side))
    log = Log()
    FoldConstants()(program, log)
    (refusal,) = log.declined
    assert (refusal.rule, refusal.reason) == ("fold-constants", f"the constant would take {side * side * 4 >> 20} MiB")
    assert operator_counts(program)["mul"] == 1


def test_what_depends_on_the_input_or_on_chance_is_not_folded() -> None:
    program = captured(lambda x, w: x.exp() * w + torch.rand(4), (2, 4), (4,))
    log = Log()
    FoldConstants()(program, log)
    assert (log.fired, log.declined) == ({}, [])


def test_random_numbers_shaped_like_a_constant_are_not_folded() -> None:
    program = captured(lambda x, w: x * w + torch.rand_like(w), (2, 4), (4,))
    log = Log()
    FoldConstants()(program, log)
    assert not log.fired


def test_a_buffer_that_is_written_in_place_is_neither_folded_nor_written() -> None:
    """A counter, as models keep: folding it would compute `add_` on the very tensor all programs share."""
    program = captured(lambda x, n: x * n.add_(1), (2, 4), buffer=torch.zeros(4, dtype=torch.int64))
    untouched = fingerprint(program)
    log = Log()
    FoldConstants()(clone(program), log)
    assert fingerprint(program) == untouched
    assert not log.fired


# -- crop kernels ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_kept_kernels_lose_the_taps_that_only_meet_padding() -> None:
    shape = (1, 3, 160, 192)
    _, program = random_network("keep", shape)
    after, certificate = materialised(CropKernels(), program, shape, EXACT_DB)

    assert certificate.fired == {"crop-kernels": 34}
    assert certificate.declined == ()
    assert certificate.after.operators == certificate.before.operators
    assert operator_counts(after) == operator_counts(program)
    maps = [(40, 48), (20, 24), (10, 12), (5, 6)]
    kernels = sorted(
        (tuple(constant(after, node.args[1]).shape[2:]), tuple(node.args[4]))  # type: ignore[union-attr]
        for node in after.graph.find_nodes(op="call_function", target=ATEN.conv2d.default)
        if module_path(node).rpartition(".")[2] in ("conv_h", "conv_w")
    )
    assert kernels == sorted(
        pair
        for (blocks, *_), (height, width) in zip(OVERSIZED, maps, strict=True)
        for pair in [((2 * height - 1, 1), (height - 1, 0)), ((1, 2 * width - 1), (0, width - 1))] * blocks
    )
    saved = sum(
        blocks * channels * height * width * (2 * taps - 2 * height - 2 * width + 2)
        for (blocks, channels, _, taps), (height, width) in zip(OVERSIZED, maps, strict=True)
    )
    assert certificate.after.macs == certificate.before.macs - saved


@settings(max_examples=40, deadline=None)
@given(
    sides=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    taps=st.tuples(st.sampled_from([1, 3, 5, 7, 13]), st.sampled_from([1, 3, 5, 7, 13])),
    groups=st.sampled_from([1, 2, 4]),
    bias=st.booleans(),
)
def test_cropping_any_same_padded_convolution_changes_nothing(
    sides: tuple[int, int], taps: tuple[int, int], groups: int, bias: bool
) -> None:
    layer = nn.Conv2d(4, 4, taps, padding=(taps[0] // 2, taps[1] // 2), groups=groups, bias=bias)
    random_weights(layer, seed=1)
    program = capture(layer.eval(), (1, 4, *sides))
    cropped, log = clone(program), Log()

    CropKernels()(cropped, log)
    finish(cropped)

    (node,) = operators(cropped)
    kernel = node.args[1].meta["val"].shape[2:]  # type: ignore[union-attr]
    assert tuple(kernel) == tuple(min(tap, 2 * side - 1) for tap, side in zip(taps, sides, strict=True))
    assert log.fired.total() == (tuple(kernel) != taps)
    source = image((1, 4, *sides))
    torch.testing.assert_close(
        program_in_float64(cropped)(source)[0], program_in_float64(program)(source)[0], rtol=1e-12, atol=1e-12
    )


@settings(max_examples=25, deadline=None)
@given(
    sides=st.tuples(st.integers(3, 6), st.integers(3, 6)),
    taps=st.tuples(st.integers(1, 13), st.integers(1, 13)),
    padding=st.tuples(st.integers(5, 9), st.integers(0, 9)),
)
def test_cropping_is_exact_or_declined_whatever_the_padding(
    sides: tuple[int, int], taps: tuple[int, int], padding: tuple[int, int]
) -> None:
    padding = padding[0], max(padding[1], (taps[1] - sides[1] + 1) // 2)
    layer = nn.Conv2d(2, 2, taps, padding=padding, groups=2)
    program = capture(layer.eval(), (1, 2, *sides))
    cropped, log = clone(program), Log()
    CropKernels()(cropped, log)
    finish(cropped)
    same = all(tap == 2 * pad + 1 for tap, pad in zip(taps, padding, strict=True))
    assert log.fired.total() <= same
    source = image((1, 2, *sides))
    torch.testing.assert_close(
        program_in_float64(cropped)(source)[0], program_in_float64(program)(source)[0], rtol=1e-12, atol=1e-12
    )


def test_a_convolution_that_changes_the_size_is_declined() -> None:
    program = capture(nn.Sequential(nn.Conv2d(2, 2, (11, 3), padding=(6, 1))).eval(), (1, 2, 4, 4))
    _, certificate = materialised(CropKernels(), program, (1, 2, 4, 4), EXACT_DB)
    (refusal,) = certificate.declined
    assert (refusal.rule, refusal.site) == ("crop-kernels", "0")
    assert refusal.reason == "the output is not as large as the input"
    assert certificate.fired == {}


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(2, 2, 13, padding=6, stride=2),
        nn.Conv2d(2, 2, 7, padding=6, dilation=2),
        nn.Conv2d(2, 2, 7, padding=3),
        nn.Conv2d(2, 2, 3),
        nn.ConvTranspose2d(2, 2, 13, padding=6),
    ],
    ids=["stride", "dilation", "fits", "no-padding", "transposed"],
)
def test_other_convolutions_are_left_alone(layer: nn.Module) -> None:
    program = capture(layer.eval(), (1, 2, 4, 4))
    log = Log()
    CropKernels()(program, log)
    assert (log.fired, log.declined) == ({}, [])


def test_a_convolution_whose_weight_is_computed_is_left_alone() -> None:
    program = captured(lambda x, w: functional.conv2d(x, w * 2, padding=6), (1, 2, 4, 4), (2, 2, 13, 13))
    log = Log()
    CropKernels()(program, log)
    assert (log.fired, log.declined) == ({}, [])


def test_two_convolutions_that_share_a_weight_are_cropped_apart() -> None:
    def twice(x: Tensor, w: Tensor) -> Tensor:
        large = functional.conv2d(x, w, padding=(0, 4), groups=2)
        return functional.conv2d(functional.avg_pool2d(large, 2), w, padding=(0, 4), groups=2)

    program, certificate = materialised(
        CropKernels(), captured(twice, (1, 2, 4, 8), (2, 1, 1, 9)), (1, 2, 4, 8), EXACT_DB
    )
    assert certificate.fired == {"crop-kernels": 1}
    assert sorted(value.shape[-1] for _, value in constants(program)) == [7, 9]


# -- all of them ----------------------------------------------------------------------------------------------------


class Forgetful:
    """A twin of each pass that gets one channel of one new constant wrong by a hundredth."""

    def __init__(self, rewrite: Pass) -> None:
        self.name = f"forgetful-{rewrite.name}"
        self.rewrite = rewrite

    def __call__(self, program: Program, log: Log) -> None:
        known = {node.target for node in program.graph.nodes if node.op == "get_attr"}
        self.rewrite(program, log)
        made = next(node for node in program.graph.nodes if node.op == "get_attr" and node.target not in known)
        value = constant(program, made)
        assert value is not None
        wrong = value.clone()
        wrong[0] *= 1.01
        made.replace_all_uses_with(insert_constant(program, made, str(made.target), wrong))


@pytest.mark.parametrize(
    ("rewrite", "function", "shape", "weight"),
    [
        (FoldConstants(), lambda x, w: x * w.exp(), (2, 4), (4,)),
        (CropKernels(), lambda x, w: functional.conv2d(x, w, padding=4), (1, 2, 3, 3), (2, 2, 9, 9)),
        (L2NormToLayerNorm(), an_l2_norm, (2, 4), (4,)),
    ],
    ids=["fold-constants", "crop-kernels", "l2norm-to-layernorm"],
)
def test_the_negative_twin_of_every_pass_is_found(
    rewrite: Pass, function: Callable[..., Tensor], shape: Shape, weight: Shape
) -> None:
    program = captured(function, shape, weight)
    _, certificate = materialised(rewrite, program, shape, ROUNDED_ONCE_DB)
    assert certificate.fired
    with pytest.raises(ParityError, match=f"Pass 'forgetful-{rewrite.name}' changed the network"):
        materialised(Forgetful(rewrite), program, shape, ROUNDED_ONCE_DB)
