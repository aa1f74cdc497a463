"""Long depthwise kernels as banded matrices: the same sums, the kernel's own numbers, and the kernels that stay."""

from collections.abc import Callable

import pytest
from torch import Tensor, nn

from edgekit.artifact import Certificate, Shape
from edgekit.capture import capture
from edgekit.errors import ParityError
from edgekit.kernel_group import candidates
from edgekit.passes.base import apply, prove
from edgekit.passes.lower.kernel_forms import KernelForms
from edgekit.passes.lower.kernel_sites import find_chains, find_groups
from edgekit.passes.lower.toeplitz import banded
from edgekit.program import Program, constants, operator_counts
from tests.passes.materialising import EXACT_DB, Function, before_gelu, image, probes, proved

SHAPE: Shape = (2, 4, 9, 7)
TOEPLITZ = KernelForms(("toeplitz",))


def lowered(program: Program) -> tuple[Program, Certificate]:
    after, certificate = proved(TOEPLITZ, prove(program, probes(SHAPE)), SHAPE, EXACT_DB)
    return after.program, certificate


@pytest.fixture(autouse=True)
def every_kernel_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small kernels make small tests."""
    monkeypatch.setattr("edgekit.passes.lower.kernel_sites.SMALL_TAPS", 2)


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
    after, certificate = lowered(program)

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
def test_other_convolutions_are_no_lines(layer: nn.Module) -> None:
    chains = find_chains(before_gelu(layer, SHAPE))
    assert all(site.step.kind == "plane" for chain in chains for site in chain)


def test_a_computed_kernel_is_in_no_group() -> None:
    function: Callable[[Tensor, Tensor], Tensor] = lambda x, w: nn.functional.conv2d(x, w * x.mean(), groups=4)  # noqa: E731
    assert find_groups(capture(Function(function, (4, 1, 1, 5)).eval(), SHAPE)) == []


def test_matrices_that_would_take_too_much_are_no_form(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = nn.Conv2d(4, 4, (1, 13), padding=(0, 6), groups=4)
    (site,) = find_groups(before_gelu(layer, SHAPE))
    assert "toeplitz" in candidates(site.group)
    monkeypatch.setattr("edgekit.kernel_group.MOST_TOEPLITZ_BYTES", 4 * 7 * 7 * 4 - 1)
    assert "toeplitz" not in candidates(site.group)


def test_a_matrix_with_one_wrong_tap_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(*arguments: object) -> Tensor:
        matrix = banded(*arguments)  # type: ignore[arg-type]
        matrix[1, 3, 3] *= 1.01
        return matrix

    monkeypatch.setattr("edgekit.passes.lower.toeplitz.banded", wrong)
    program = before_gelu(nn.Conv2d(4, 4, (1, 13), padding=(0, 6), groups=4), SHAPE)
    with pytest.raises(ParityError, match="Pass 'kernel-forms' changed the network"):
        apply(TOEPLITZ, prove(program, probes(SHAPE)), probes(SHAPE), gate_db=120.0)
