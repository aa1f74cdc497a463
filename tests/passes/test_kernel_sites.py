"""Groups of depthwise convolutions in any program: however it spells them, and nothing that only looks like one."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from edgekit.capture import capture
from edgekit.kernel_group import KernelGroup, KernelStep
from edgekit.models.parc_op import HEIGHT, circular_conv
from edgekit.passes.lower.kernel_sites import find_chains, find_groups, unwrapped
from edgekit.program import Program
from tests.kernels import circular, group, same
from tests.passes.materialising import captured

SHAPE = (2, 4, 9, 7)
COLUMN = (4, 1, 9, 1)
pad = nn.functional.pad


def depthwise(x: Tensor, w: Tensor, *padding: int) -> Tensor:
    return nn.functional.conv2d(x, w, padding=padding or 0, groups=w.shape[0])


def groups(program: Program) -> list[KernelGroup]:
    return [site.group for site in find_groups(program)]


# -- circular convolutions --------------------------------------------------------------------------------------------

AFTER, BEFORE, BOTH = (0, 8, 0, 0), (8, 0, 0, 0), (3, 5, 0, 0)
SPELLINGS = [
    pytest.param(lambda x, w: circular_conv(x, w, HEIGHT), AFTER, id="ParC"),
    pytest.param(lambda x, w: depthwise(torch.cat((x, x[:, :, :-1, :]), 2), w), AFTER, id="slice after"),
    pytest.param(lambda x, w: depthwise(torch.cat((x, x[:, :, 0:8]), -2), w), AFTER, id="slice, negative axis"),
    pytest.param(lambda x, w: depthwise(torch.cat((x[:, :, 1:], x), 2), w), BEFORE, id="slice before"),
    pytest.param(lambda x, w: depthwise(torch.cat((x[:, :, -8:], x), 2), w), BEFORE, id="negative slice before"),
    pytest.param(lambda x, w: depthwise(torch.cat((x[:, :, -3:], x, x[:, :, :5]), 2), w), BOTH, id="slices around"),
    pytest.param(
        lambda x, w: depthwise(torch.cat((x.narrow(2, 6, 3), x, x.narrow(2, 0, 5)), 2), w), BOTH, id="narrow around"
    ),
    pytest.param(lambda x, w: depthwise(pad(x, (0, 0, 3, 5), mode="circular"), w), BOTH, id="padded"),
    pytest.param(lambda x, w: depthwise(pad(x, (2, 1, 3, 5), mode="circular"), w), (3, 5, 2, 1), id="padded both ways"),
]


@pytest.mark.parametrize(("function", "wrap"), SPELLINGS)
def test_a_circular_convolution_is_known_however_it_is_written(
    function: Callable[..., Tensor], wrap: tuple[int, int, int, int]
) -> None:
    assert groups(captured(function, SHAPE, COLUMN)) == [group((KernelStep(taps=(9, 1), wrap=wrap),))]


def test_a_layer_that_pads_circularly_is_known() -> None:
    layer = nn.Conv2d(4, 4, (5, 3), padding=(2, 1), padding_mode="circular", groups=4)
    assert groups(capture(layer.eval(), SHAPE)) == [group((KernelStep(taps=(5, 3), wrap=(2, 2, 1, 1), bias=True),))]


def test_circular_convolutions_along_both_axes_are_a_chain() -> None:
    def function(x: Tensor, column: Tensor, row: Tensor) -> Tensor:
        return circular_conv(circular_conv(x, column, HEIGHT), row, HEIGHT + 1)

    assert groups(captured(function, SHAPE, COLUMN, (4, 1, 1, 7))) == [group((circular(0, 9), circular(1, 7)))]


NOT_CIRCULAR = [
    pytest.param(lambda x, w: depthwise(torch.cat((x, x[:, :, 1:]), 2), w), id="the near end, after"),
    pytest.param(lambda x, w: depthwise(torch.cat((x[:, :, :8], x), 2), w), id="the far end, before"),
    pytest.param(lambda x, w: depthwise(torch.cat((x, x), 2)[:, :, :17], w), id="cut off"),
    pytest.param(lambda x, w: depthwise(torch.cat((x, x[:, :, ::2]), 2), w), id="every other row"),
    pytest.param(lambda x, w: depthwise(torch.cat((x, -x[:, :, :8]), 2), w), id="another sign"),
    pytest.param(lambda x, w: depthwise(torch.cat((x, x[:, :, :4], x[:, :, :4]), 2), w), id="twice behind"),
    pytest.param(lambda x, w: depthwise(torch.cat((x, x[..., :1].expand(-1, -1, -1, 7)), 2), w), id="expanded"),
    pytest.param(lambda x, w: depthwise(pad(x, (0, 0, 4, 4), mode="reflect"), w), id="reflected"),
    pytest.param(lambda x, w: depthwise(pad(x, (0, 0, 4, 4), mode="replicate"), w), id="repeated edges"),
    pytest.param(lambda x, w: depthwise(pad(x, (0, 0, 4, -1), mode="circular"), w), id="cropped"),
    pytest.param(lambda x, w: depthwise(pad(x, (0, 0, 4, 4)), w), id="zeros"),
]


@pytest.mark.parametrize("function", NOT_CIRCULAR)
def test_what_only_looks_circular_is_not(function: Callable[..., Tensor]) -> None:
    chains = find_chains(captured(function, SHAPE, COLUMN))
    assert [site.step.wrap for chain in chains for site in chain] == [(0, 0, 0, 0)]


def test_a_padded_map_that_something_else_reads_stays() -> None:
    def function(x: Tensor, w: Tensor) -> Tensor:
        wrapped = torch.cat((x, x[:, :, :8]), 2)
        return depthwise(wrapped, w).sum() * wrapped

    program = captured(function, SHAPE, COLUMN)
    assert [site.step.wrap for chain in find_chains(program) for site in chain] == [(0, 0, 0, 0)]


def test_a_map_joined_with_itself_is_no_map() -> None:
    program = captured(lambda x, w: depthwise(torch.cat((x, x), 2), w), SHAPE, COLUMN)
    (joined,) = program.graph.find_nodes(op="call_function", target=torch.ops.aten.cat.default)
    assert unwrapped(joined) == (joined, (0, 0, 0, 0))


# -- chains and sums --------------------------------------------------------------------------------------------------

ROW, PLANE = (4, 1, 1, 13), (4, 1, 7, 7)


def column(x: Tensor, w: Tensor) -> Tensor:
    return depthwise(x, w, w.shape[2] // 2, w.shape[3] // 2)


def test_the_papers_operator_is_one_group() -> None:
    program = captured(lambda x, h, w, v: column(column(x, h), w) + column(x, v), SHAPE, (4, 1, 17, 1), ROW, PLANE)
    assert groups(program) == [group((same(17, 1), same(1, 13)), (same(7, 7),))]


def test_a_cross_of_three_is_one_group() -> None:
    program = captured(
        lambda x, h, w, v: column(x, h) + column(x, w) + column(x, v), SHAPE, (4, 1, 15, 3), ROW, (4, 1, 3, 3)
    )
    assert groups(program) == [group((same(15, 3),), (same(1, 13),), (same(3, 3),))]


APART = [
    pytest.param(lambda x, a, b: column(x, a) * column(x, b), id="a product"),
    pytest.param(lambda x, a, b: column(x, a) - column(x, b), id="a difference"),
    pytest.param(lambda x, a, b: torch.add(column(x, a), column(x, b), alpha=2), id="a weighted sum"),
    pytest.param(lambda x, a, b: column(x, a) + column(torch.relu(x), b), id="another map"),
    pytest.param(lambda x, a, b: column(torch.relu(column(x, a)), b), id="something between"),
    pytest.param(
        lambda x, a, b: column(x, a)[:, :, :1] + column(x, b)[:, :, :1].relu() * 1.0, id="other operators between"
    ),
    pytest.param(lambda x, a, b: (y := column(x, a)) * column(y, b), id="what is between is read elsewhere"),
    pytest.param(lambda x, a, b: (y := column(x, a)) + column(x, b) * y.mean(), id="a part is read elsewhere"),
    pytest.param(lambda x, a, b: (column(x, a), column(x, b)), id="two results"),
]


@pytest.mark.parametrize("function", APART)
def test_what_is_no_chain_and_no_sum_stays_apart(function: Callable[..., Tensor]) -> None:
    program = captured(function, SHAPE, ROW, PLANE)
    assert sorted(len(found.steps) for found in groups(program)) == [1, 1]


def test_sums_of_one_result_with_itself_or_with_another_size_are_no_groups() -> None:
    twice = captured(lambda x, a: (y := column(x, a)) + y, SHAPE, PLANE)
    spread = captured(lambda x, a, b: column(x, a) + nn.functional.conv2d(x, b, groups=4), SHAPE, PLANE, (4, 1, 9, 1))
    assert groups(twice) == [group((same(7, 7),))]
    assert len(groups(spread)) == 1  # 9 rows and 1 row are added: not two of one kind of map
    assert all(len(found.chains) == 1 for found in groups(spread))


@pytest.mark.parametrize(
    ("function", "shape"),
    [
        pytest.param(column, (4, 1, 3, 3), id="few taps"),
        pytest.param(lambda x, w: nn.functional.conv2d(x, w, padding=3), (4, 4, 7, 7), id="dense"),
        pytest.param(lambda x, w: nn.functional.conv2d(x, w, padding=3, groups=4), (8, 1, 7, 7), id="two for each"),
        pytest.param(lambda x, w: nn.functional.conv2d(x, w, padding=3, groups=2), (4, 2, 7, 7), id="in groups"),
        pytest.param(lambda x, w: column(x, w * x.mean()), (4, 1, 7, 7), id="computed"),
        pytest.param(lambda x, w: column(x.double(), w.double()).float(), (4, 1, 7, 7), id="double"),
    ],
)
def test_what_there_is_nothing_to_choose_for(function: Callable[..., Tensor], shape: tuple[int, ...]) -> None:
    assert groups(captured(function, SHAPE, shape)) == []


def test_groups_of_a_network_have_the_path_their_convolutions_share(smallest: Program) -> None:
    sites = find_groups(smallest)

    assert sites
    for site in sites:
        (pair, local) = site.group.chains
        assert [step.axis for step in pair] in ([0, 1], [1, 0])
        assert local == (same(7, 7, bias=local[0].bias),)
        assert site.path.startswith("stages.")
    assert len({site.path for site in sites}) == len(sites)
