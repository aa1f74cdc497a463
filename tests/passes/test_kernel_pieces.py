"""Kernels of many taps as sums of kernels of few: the same sums, no more taps, and the kernels that stay."""

import itertools

import pytest
import torch
from torch import nn

from edgekit.artifact import Shape
from edgekit.errors import ParityError
from edgekit.kernel_group import candidates, why_not_pieces
from edgekit.passes.base import apply, prove
from edgekit.passes.lower.kernel_forms import KernelForms
from edgekit.passes.lower.kernel_pieces import row_groups
from edgekit.passes.lower.kernel_sites import find_groups
from edgekit.program import arguments, constant, operator_counts, operators
from tests.passes.materialising import EXACT_DB, before_gelu, probes, proved

ATEN = torch.ops.aten
SHAPE: Shape = (2, 4, 9, 11)
PIECES = KernelForms(("pieces",))


@pytest.mark.parametrize(
    ("layer", "pieces"),
    [
        pytest.param(nn.Conv2d(4, 4, 7, padding=3, groups=4), 3, id="7x7"),
        pytest.param(nn.Conv2d(4, 4, 7, padding=3, groups=4, bias=False), 3, id="7x7, no bias"),
        pytest.param(nn.Conv2d(4, 4, 9, padding=4, groups=4), 5, id="9x9"),
        pytest.param(nn.Conv2d(4, 4, 11, padding=5, groups=4), 6, id="11x11"),
        pytest.param(nn.Conv2d(4, 4, (7, 5), padding=(3, 0), groups=4), 2, id="7x5, narrower map"),
        pytest.param(nn.Conv2d(4, 4, 7, padding=4, groups=4), 3, id="7x7, larger map"),
    ],
)
def test_a_kernel_of_many_taps_is_a_sum_of_kernels_of_few(layer: nn.Conv2d, pieces: int) -> None:
    program = before_gelu(layer, SHAPE)
    proven, certificate = proved(PIECES, prove(program, probes(SHAPE)), SHAPE, EXACT_DB)
    after = proven.program

    assert certificate.fired == {"pieces": 1}
    assert operator_counts(after)["conv2d"] == pieces
    assert operator_counts(after)["add"] == pieces - 1
    weights = [constant(after, node.args[1]) for node in operators(after) if node.target is ATEN.conv2d.default]
    assert all(weight is not None and weight[0].numel() <= 25 for weight in weights)
    assert certificate.after.parameters == certificate.before.parameters
    assert certificate.after.macs == certificate.before.macs
    sides = layer.kernel_size[0] // 2 == layer.padding[0]
    if sides:  # as many rows of padding as a piece reaches: no pad and no slice in any runtime
        for node in operators(after):
            if node.target is ATEN.conv2d.default:
                given = arguments(node)
                weight = constant(after, given["weight"])
                assert weight is not None
                assert given["padding"][0] * 2 == given["dilation"][0] * (weight.shape[2] - 1)


@pytest.mark.parametrize("rows", [5, 7, 9, 11])
def test_every_row_is_in_one_group_and_every_group_is_evenly_spaced_about_the_middle(rows: int) -> None:
    groups = row_groups(rows, rows, 25)
    assert sorted(row for group in groups for row in group) == list(range(rows))
    for group in groups:
        assert len(group) * rows <= 25
        assert group[0] + group[-1] == rows - 1
        assert len({after - before for before, after in itertools.pairwise(group)}) <= 1


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        pytest.param(nn.Conv2d(4, 4, 13, padding=6, groups=4), "two rows of 13 taps are more than 25", id="13x13"),
        pytest.param(nn.Conv2d(4, 4, (6, 7), padding=3, groups=4), "an even number of rows has no middle", id="even"),
        pytest.param(nn.Conv2d(4, 4, 7, padding=3, stride=2, groups=4), "it has a stride or is dilated", id="stride"),
        pytest.param(
            nn.Conv2d(4, 4, 7, padding=9, dilation=3, groups=4), "it has a stride or is dilated", id="dilated"
        ),
        pytest.param(
            nn.Conv2d(4, 4, 7, padding=2, groups=4), "the zero padding is less than half the rows", id="unpadded"
        ),
    ],
)
def test_what_cannot_be_taken_apart_has_a_reason_and_no_such_form(layer: nn.Module, reason: str) -> None:
    (site,) = find_groups(before_gelu(layer, SHAPE))
    assert why_not_pieces(site.group.steps[0]) == reason
    assert "pieces" not in candidates(site.group)


def test_a_row_in_the_wrong_place_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgekit.passes.lower.kernel_pieces.row_groups", lambda *_: ((2, 3, 4), (1, 5), (1, 5)))
    program = before_gelu(nn.Conv2d(4, 4, 7, padding=3, groups=4), SHAPE)
    with pytest.raises(ParityError, match="Pass 'kernel-forms' changed the network"):
        apply(PIECES, prove(program, probes(SHAPE)), probes(SHAPE), gate_db=120.0)
