"""What `inspect` tells adds up, and its figures are those one counts by hand."""

import pytest
import torch
from torch import Tensor, nn

from edgekit.capture import capture
from edgekit.inspection import (
    LARGE_KERNEL,
    Inspection,
    describe,
    is_depthwise,
    large_kernels,
    module_rows,
    operator_rows,
    output_shape,
    useful_share,
)
from edgekit.program import Program, operators, stats
from tests.conftest import Exported


class Small(nn.Module):
    """Two large depthwise kernels, a dense one, and small fry."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.tall = nn.Conv2d(8, 8, (7, 1), padding=(3, 0), groups=8)
        self.wide = nn.Conv2d(8, 8, (1, 9), padding=(0, 4), groups=8, bias=False)
        self.small = nn.Conv2d(8, 8, 5, padding=2, groups=8)
        self.dense = nn.Conv2d(8, 4, 9, padding=4)

    def forward(self, image: Tensor) -> Tensor:
        return self.dense(self.small(self.wide(self.tall(self.stem(image))))).mean((2, 3))  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def small() -> Program:
    return capture(Small().eval(), (1, 3, 16, 12))


@pytest.fixture(scope="module")
def whole(exported: Exported) -> Inspection:
    return describe(exported.network.proven.program, exported.network.certificates, (), 3)


def test_operators_add_up_to_the_totals(exported: Exported, whole: Inspection) -> None:
    assert whole.totals == stats(exported.network.proven.program)
    assert sum(row.nodes for row in whole.operators) == whole.totals.operators
    assert sum(row.macs for row in whole.operators) == whole.totals.macs
    assert len({row.operator for row in whole.operators}) == len(whole.operators)
    assert [row.macs for row in whole.operators] == sorted((row.macs for row in whole.operators), reverse=True)


@pytest.mark.parametrize("depth", [1, 2, 5, 100])
def test_modules_add_up_to_the_totals_at_any_depth(exported: Exported, whole: Inspection, depth: int) -> None:
    rows = module_rows(exported.network.proven.program, depth)

    assert sum(row.operators for row in rows) == whole.totals.operators
    assert sum(row.macs for row in rows) == whole.totals.macs
    assert all(len(row.module.split(".")) <= depth for row in rows)
    assert len({row.module for row in rows}) == len(rows)


def test_figures_are_those_one_counts_by_hand(small: Program) -> None:
    rows = {row.operator: row for row in operator_rows(small)}

    places = 8 * 6  # 16 x 12 at half size
    weights = (8 * 3 * 9, 8 * 7, 8 * 9, 8 * 25, 4 * 8 * 81)
    assert rows["conv2d"].nodes == 5
    assert rows["conv2d"].macs == places * sum(weights)
    assert rows["conv2d"].parameters == sum(weights) + 8 + 8 + 8 + 4
    assert rows["mean"].macs == 0


def test_modules_come_in_the_order_of_execution(small: Program) -> None:
    rows = module_rows(small, 2)

    assert [row.module for row in rows] == ["stem", "tall", "wide", "small", "dense", "(outermost)"]
    assert rows[0].output == (1, 8, 8, 6)
    assert rows[-1].output == (1, 4)
    assert rows[-1].parameters == 0


def test_only_large_depthwise_kernels_have_a_row(small: Program) -> None:
    found = describe(small, (), ()).kernels

    assert [(row.module, row.taps, row.channels, row.input) for row in found] == [
        ("tall", (7, 1), 8, (1, 8, 8, 6)),
        ("wide", (1, 9), 8, (1, 8, 8, 6)),
    ]
    assert LARGE_KERNEL == 7


def test_oversized_kernels_are_found_where_they_are(exported: Exported, whole: Inspection) -> None:
    first = whole.kernels[0]

    # 224 / 4 = 56 pixels would make 2 * 56 - 1 taps; at 32 there are 8 pixels, and 15 taps reach from end to end.
    assert (first.taps, first.input) == ((15, 1), (1, 48, 8, 8))
    assert first.useful_taps == pytest.approx(64 / (8 * 15))
    assert len(whole.kernels) == len(list(large_kernels(exported.network.proven.program)))


@pytest.mark.parametrize("taps", [1, 2, 3, 7])
@pytest.mark.parametrize("length", [5, 8])
@pytest.mark.parametrize(("stride", "padding", "dilation"), [(1, 3, 1), (2, 3, 1), (1, 4, 2), (3, 5, 2)])
def test_the_share_of_useful_taps_is_what_a_convolution_of_ones_sees(
    taps: int, length: int, stride: int, padding: int, dilation: int
) -> None:
    seen = torch.nn.functional.conv1d(
        torch.ones(1, 1, length), torch.ones(1, 1, taps), stride=stride, padding=padding, dilation=dilation
    )

    share = useful_share(taps, length, seen.shape[-1], stride, padding, dilation)

    assert share == pytest.approx(seen.mean().item() / taps)


def test_a_kernel_that_is_computed_is_no_constant_kernel() -> None:
    class Dynamic(nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            kernel = image.mean() * torch.ones(3, 1, 9, 9)
            return torch.nn.functional.conv2d(image, kernel, padding=4, groups=3)

    program = capture(Dynamic().eval(), (1, 3, 16, 16))

    assert not any(is_depthwise(program, node) for node in operators(program))
    assert list(large_kernels(program)) == []


def test_of_an_operator_with_several_results_the_first_counts() -> None:
    class Halves(nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            left, right = torch.split(image, 2, dim=1)
            product: Tensor = left * right
            return product

    program = capture(Halves().eval(), (1, 4, 6, 6))

    assert output_shape(operators(program)[0]) == (1, 2, 6, 6)
