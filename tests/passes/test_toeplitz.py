"""Long depthwise kernels as banded matrices: the same sums, the kernel's own numbers, and the kernels that stay."""

from collections.abc import Callable

import pytest
from torch import Tensor, nn

from edgekit.artifact import Certificate, Shape
from edgekit.capture import capture
from edgekit.errors import ParityError
from edgekit.passes.base import Log, apply, prove
from edgekit.passes.lower.toeplitz import Toeplitz, banded
from edgekit.program import Program, clone, constants, operator_counts
from tests.passes.materialising import EXACT_DB, Function, before_gelu, image, probes, proved

SHAPE: Shape = (2, 4, 9, 7)


def lowered(program: Program, rewrite: Toeplitz) -> tuple[Program, Certificate]:
    after, certificate = proved(rewrite, prove(program, probes(SHAPE)), SHAPE, EXACT_DB)
    return after.program, certificate


LAYERS = [
    pytest.param(nn.Conv2d(4, 4, (1, 13), padding=(0, 6), groups=4), id="oversized row"),
    pytest.param(nn.Conv2d(4, 4, (17, 1), padding=(8, 0), groups=4), id="oversized column"),
    pytest.param(nn.Conv2d(4, 4, (1, 5), padding=(0, 2), groups=4, bias=False), id="short row, no bias"),
    pytest.param(nn.Conv2d(4, 4, (4, 1), padding=(1, 0), groups=4), id="even column, smaller map"),
    pytest.param(nn.Conv2d(4, 4, (1, 3), padding=(0, 2), dilation=(1, 2), groups=4), id="dilated"),
    pytest.param(nn.Conv2d(4, 4, (1, 5), padding=(0, 2), stride=(1, 2), groups=4), id="strided along"),
]


@pytest.mark.parametrize("layer", LAYERS)
def test_a_long_kernel_is_a_matrix_product(layer: nn.Conv2d) -> None:
    program = before_gelu(layer, SHAPE)
    after, certificate = lowered(program, Toeplitz(taps=3))

    counts = operator_counts(after)
    assert certificate.fired == {"toeplitz": 1}
    assert (counts["conv2d"], counts["matmul"]) == (0, 1)
    assert counts["add"] == (layer.bias is not None)
    axis = layer.kernel_size.index(max(layer.kernel_size)) + 2
    shapes = {tuple(value.shape) for _, value in constants(after)}
    result = after.graph.output_node().all_input_nodes[0].meta["val"].shape
    sides = (SHAPE[axis], result[axis]) if axis == 3 else (result[axis], SHAPE[axis])
    assert (1, 4, *sides) in shapes
    assert certificate.after.macs == 4 * 2 * SHAPE[axis] * result[2] * result[3]


def test_the_matrix_holds_the_kernels_own_numbers_along_its_diagonals() -> None:
    kernel = image((2, 5))
    matrix = banded(kernel, side=6, result=6, stride=1, padding=2, dilation=1)

    for channel in range(2):
        for offset in range(-2, 3):
            assert set(matrix[channel].diagonal(offset).tolist()) == {float(kernel[channel, 2 - offset])}
        assert not matrix[channel].triu(3).any()
        assert not matrix[channel].tril(-3).any()


@pytest.mark.parametrize(
    "layer",
    [
        pytest.param(nn.Conv2d(4, 4, 3, padding=1, groups=4), id="two-dimensional"),
        pytest.param(nn.Conv2d(4, 4, (1, 13), padding=(0, 6)), id="dense"),
        pytest.param(nn.Conv2d(4, 8, (1, 13), padding=(0, 6), groups=4), id="two kernels for each channel"),
        pytest.param(nn.Conv2d(4, 4, (1, 13), padding=(0, 6), stride=(2, 1), groups=4), id="strided across"),
        pytest.param(nn.Conv2d(4, 4, (1, 13), padding=(1, 6), groups=4), id="padded across"),
        pytest.param(nn.Conv2d(4, 4, 1, groups=4), id="one tap"),
    ],
)
def test_other_convolutions_stay(layer: nn.Module) -> None:
    log = Log()
    Toeplitz(taps=1)(clone(before_gelu(layer, SHAPE)), log)
    assert not log.fired


def test_a_computed_kernel_stays() -> None:
    function: Callable[[Tensor, Tensor], Tensor] = lambda x, w: nn.functional.conv2d(x, w * x.mean(), groups=4)  # noqa: E731
    log = Log()
    Toeplitz(taps=1)(capture(Function(function, (4, 1, 1, 5)).eval(), SHAPE), log)
    assert not log.fired


@pytest.mark.parametrize(
    ("rewrite", "fires"),
    [
        (Toeplitz(taps=13), True),
        (Toeplitz(taps=14), False),
        (Toeplitz(taps=1, side=7), True),
        (Toeplitz(taps=1, side=8), False),
        (Toeplitz(taps=1, share=13 / 7), True),
        (Toeplitz(taps=1, share=1.9), False),
    ],
)
def test_limits_choose_which_kernels_are_worth_it(rewrite: Toeplitz, fires: bool) -> None:
    log = Log()
    rewrite(clone(before_gelu(nn.Conv2d(4, 4, (1, 13), padding=(0, 6), groups=4), SHAPE)), log)
    assert bool(log.fired) is fires


def test_matrices_that_would_take_too_much_are_left_with_a_reason() -> None:
    log = Log()
    layer = nn.Conv2d(4, 4, (1, 13), padding=(0, 6), groups=4)
    Toeplitz(taps=3, most_bytes=4 * 7 * 7 * 4 - 1)(clone(before_gelu(layer, SHAPE)), log)
    assert not log.fired
    assert [refusal.reason for refusal in log.declined] == ["the matrices would take 0 MiB"]


def test_a_matrix_with_one_wrong_tap_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(*arguments: object) -> Tensor:
        matrix = banded(*arguments)  # type: ignore[arg-type]
        matrix[1, 3, 3] *= 1.01
        return matrix

    monkeypatch.setattr("edgekit.passes.lower.toeplitz.banded", wrong)
    program = before_gelu(nn.Conv2d(4, 4, (1, 13), padding=(0, 6), groups=4), SHAPE)
    with pytest.raises(ParityError, match="Pass 'toeplitz' changed the network"):
        apply(Toeplitz(taps=3), prove(program, probes(SHAPE)), probes(SHAPE), gate_db=120.0)
