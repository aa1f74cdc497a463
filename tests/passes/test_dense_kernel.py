"""A group as one kernel: what it is, and proof that the groups without this form would be something else."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d

from edgekit.errors import ParityError
from edgekit.kernel_group import KernelGroup, KernelStep, candidates
from edgekit.passes.base import apply, prove
from edgekit.passes.lower.kernel_forms import KernelForms
from edgekit.program import constants, operators
from edgekit.tune.probe import in_form, probe_program, probe_shape
from tests.kernels import GROUPS, circular, group, same
from tests.passes.materialising import image, probes

DENSE = KernelForms(("dense",))


def kernels(found: KernelGroup) -> list[Tensor]:
    """The kernels (C, Kh, Kw) of a group's test network, convolution by convolution."""
    named = constants(probe_program(found))
    return [value.double()[:, 0] for name, value in named if name.startswith("chains") and value.dim() == 4]


def test_the_kernel_is_the_product_of_the_pair_and_absorbs_the_local_one() -> None:
    found = GROUPS["pair and local"]
    tall, wide, local = kernels(found)
    expected = tall * wide
    expected[:, 5:12, 3:10] += local

    program = in_form(probe_program(found), "dense")

    ((_, made),) = ((name, value) for name, value in constants(program) if name.endswith("_dense"))
    assert torch.equal(made[:, 0], expected.float())
    (convolution,) = (node for node in operators(program) if node.args[-1] == found.channels)
    assert convolution.args[3:] == ([1, 1], [8, 6], [1, 1], 4)


def test_the_biases_of_all_chains_become_one() -> None:
    found = GROUPS["pair and local"]
    biases = [value for name, value in constants(probe_program(found)) if "chains" in name and value.dim() == 1]

    ((_, made),) = (
        (name, value)
        for name, value in constants(in_form(probe_program(found), "dense"))
        if name.endswith("_dense_bias")
    )
    assert len(biases) == 2
    assert torch.equal(made, sum(map(Tensor.double, biases)).float())  # type: ignore[union-attr]


NOT_MERGED = [
    pytest.param(group((same(17, 1, bias=True), same(1, 13))), id="a bias inside"),
    pytest.param(group((same(17, 1), same(1, 13, bias=True)), (same(1, 5, bias=True), same(5, 1))), id="in one chain"),
    pytest.param(group((circular(0, 9), circular(1, 7))), id="circular"),
    pytest.param(group((KernelStep(taps=(7, 7), wrap=(3, 3, 3, 3)),), (same(7, 7),)), id="circular and local"),
]


@pytest.mark.parametrize("found", NOT_MERGED)
def test_a_group_without_this_form_would_be_something_else(found: KernelGroup, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "dense" not in candidates(found)
    monkeypatch.setattr("edgekit.kernel_group.merges", lambda _: True)
    before = prove(probe_program(found), probes(probe_shape(found)))
    with pytest.raises(ParityError, match="changed the network"):
        apply(DENSE, before, probes(probe_shape(found)), gate_db=100.0)


@pytest.mark.parametrize(
    ("first", "second", "one"),
    [
        pytest.param(same(9, 1), same(1, 9), True, id="across each other"),
        pytest.param(same(1, 9), same(1, 5), False, id="both along one axis"),
        pytest.param(same(7, 7), same(3, 3), False, id="two planes"),
        pytest.param(same(9, 1), same(3, 3), False, id="a line and a plane"),
    ],
)
def test_kernels_along_one_axis_are_one_kernel_only_away_from_the_border(
    first: KernelStep, second: KernelStep, one: bool
) -> None:
    """The second kernel meets zeros beyond the map, where one kernel would meet what the first one gives there."""
    found = group((first, second), size=(21, 19))
    x, (left, right) = image(probe_shape(found)).double(), kernels(found)
    apart = conv2d(
        conv2d(x, left[:, None], padding=first.padding, groups=4), right[:, None], padding=second.padding, groups=4
    )
    rows, columns = (second.taps[axis] - 1 for axis in (0, 1))
    spread = nn.functional.pad(left, (columns, columns, rows, rows))
    kernel = conv2d(spread[None], right.flip(1, 2)[:, None], groups=4)[0]
    together = conv2d(x, kernel[:, None], padding=(kernel.shape[1] // 2, kernel.shape[2] // 2), groups=4)

    assert torch.allclose(apart[:, :, 6:-6, 6:-6], together[:, :, 6:-6, 6:-6])
    assert torch.allclose(apart, together) == one == ("dense" in candidates(found))


@pytest.mark.parametrize(
    "step",
    [
        pytest.param(KernelStep(taps=(7, 7), padding=(3, 3), stride=(2, 2)), id="strided"),
        pytest.param(KernelStep(taps=(7, 7), padding=(2, 2)), id="unpadded"),
    ],
)
def test_a_sum_that_does_not_keep_the_size_has_no_such_form(step: KernelStep, monkeypatch: pytest.MonkeyPatch) -> None:
    found = group((step,), (step,))
    assert "dense" not in candidates(found)
    monkeypatch.setattr("edgekit.kernel_group.merges", lambda _: True)
    before = prove(probe_program(found), probes(probe_shape(found)))
    with pytest.raises((ParityError, RuntimeError)):
        apply(DENSE, before, probes(probe_shape(found)), gate_db=100.0)
