"""Large kernels as grouped convolutions between blocks: the same sums, made of the kernel's own numbers."""

import pytest
import torch
from torch import Tensor, nn

from edgekit.artifact import Shape
from edgekit.errors import ParityError
from edgekit.kernel_group import KernelStep, candidates
from edgekit.passes.base import apply, prove
from edgekit.passes.lower.kernel_forms import KernelForms
from edgekit.passes.lower.kernel_polyphase import between_blocks
from edgekit.passes.lower.kernel_sites import find_groups
from edgekit.program import arguments, constant, constants, operator_counts, operators
from tests.passes.materialising import EXACT_DB, before_gelu, image, probes, proved

ATEN = torch.ops.aten
SHAPE: Shape = (2, 4, 9, 12)
POLYPHASE = KernelForms(("polyphase",))


@pytest.mark.parametrize(
    ("layer", "blocks", "cuts"),
    [
        pytest.param(nn.Conv2d(4, 4, 13, padding=6, groups=4), (4, 4), 1, id="13x13"),
        pytest.param(nn.Conv2d(4, 4, 31, padding=15, groups=4, bias=False), (9, 9), 1, id="31x31, no bias"),
        pytest.param(nn.Conv2d(4, 4, (19, 5), padding=(9, 2), groups=4), (6, 2), 1, id="19x5"),
        pytest.param(nn.Conv2d(4, 4, (8, 6), padding=(3, 1), groups=4), (3, 3), 1, id="even, smaller map"),
        pytest.param(nn.Conv2d(4, 4, 7, padding=(5, 0), groups=4), (3, 3), 2, id="larger and smaller map"),
        pytest.param(nn.Conv2d(4, 4, 7, padding=9, dilation=3, groups=4), (6, 6), 1, id="dilated"),
        pytest.param(nn.Conv2d(4, 4, (6, 9), padding=(2, 4), groups=4), (3, 3), 0, id="whole blocks"),
    ],
)
def test_a_large_kernel_is_a_grouped_convolution(layer: nn.Conv2d, blocks: tuple[int, int], cuts: int) -> None:
    program = before_gelu(layer, SHAPE)
    proven, certificate = proved(POLYPHASE, prove(program, probes(SHAPE)), SHAPE, EXACT_DB)
    after = proven.program

    assert certificate.fired == {"polyphase": 1}
    counts = operator_counts(after)
    assert counts == {"constant_pad_nd": 1, "reshape": 4, "permute": 2, "conv2d": 1, "gelu": 1} | (
        {"slice": cuts} if cuts else {}
    )
    (convolution,) = [node for node in operators(after) if node.target is ATEN.conv2d.default]
    weight = constant(after, convolution.args[1])
    assert weight is not None
    assert weight.shape == (64, 16, *blocks)
    assert arguments(convolution)["groups"] == 4
    assert (arguments(convolution)["bias"] is None) == (layer.bias is None)
    (site,) = find_groups(program)
    assert candidates(site.group)["polyphase"].bytes == sum(value.nbytes for _, value in constants(after))


def test_every_output_of_a_block_has_the_whole_kernel_once() -> None:
    kernel = image((3, 9, 7))
    placed = between_blocks(kernel, KernelStep(taps=(9, 7)))

    assert placed.shape == (48, 16, 3, 3)
    own = kernel.flatten(1).sort().values
    for channel in range(3):
        for row in placed[16 * channel : 16 * channel + 16]:
            assert torch.equal(row[row != 0].sort().values, own[channel])


def test_one_wrong_tap_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(kernel: Tensor, step: KernelStep) -> Tensor:
        placed = between_blocks(kernel, step)
        placed[17, 5, 1, 1] *= 1.01
        return placed

    monkeypatch.setattr("edgekit.passes.lower.kernel_polyphase.between_blocks", wrong)
    program = before_gelu(nn.Conv2d(4, 4, 13, padding=6, groups=4), SHAPE)
    with pytest.raises(ParityError, match="Pass 'kernel-forms' changed the network"):
        apply(POLYPHASE, prove(program, probes(SHAPE)), probes(SHAPE), gate_db=120.0)
