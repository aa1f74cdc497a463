"""A large kernel as a product with its rows: the same numbers, where they belong."""

import pytest
import torch

from edgekit.kernel_group import KernelStep
from edgekit.passes.lower.kernel_rows import unfold_rows
from edgekit.passes.lower.kernel_sites import find_groups
from edgekit.program import clone, constants, finish, run
from edgekit.tune.probe import in_form, probe_program, probe_shape
from tests.kernels import group, same
from tests.passes.materialising import image

STEPS = [
    same(7, 7),
    same(31, 5),
    KernelStep(taps=(7, 7), padding=(0, 2)),
    KernelStep(taps=(7, 7), padding=(3, 3), stride=(2, 1)),
    KernelStep(taps=(7, 7), padding=(6, 6), dilation=(2, 2)),
    KernelStep(taps=(6, 6), padding=(2, 1), stride=(3, 2)),
]


@pytest.mark.parametrize("step", STEPS, ids=str)
def test_every_row_of_the_kernel_meets_its_rows_of_the_map(step: KernelStep) -> None:
    """What is unfolded is what `nn.functional.unfold` finds for a kernel of one column."""
    found = group((step,), size=(13, 11))
    program = clone(probe_program(found))
    (site,) = find_groups(program)
    (placeholder,) = program.graph.find_nodes(op="placeholder")
    site.source.replace_all_uses_with(placeholder)
    with program.graph.inserting_before(site.chains[0][0].node):
        here = type(site.chains[0][0])(site.chains[0][0].node, placeholder, step)
        unfolded = unfold_rows(program, here)
    program.graph.output_node().args = ((unfolded,),)
    x = image(probe_shape(found))

    expected = torch.nn.functional.unfold(
        x, (step.taps[0], 1), (step.dilation[0], 1), (step.padding[0], 0), (step.stride[0], 1)
    )
    by_rows = expected.reshape(1, 4, step.taps[0], found.output[0], 11).permute(0, 1, 3, 2, 4).flatten(3)
    assert torch.equal(run(finish(program), x)[0], by_rows)


@pytest.mark.parametrize("step", STEPS, ids=str)
def test_the_matrix_has_each_tap_as_often_as_it_meets_the_map(step: KernelStep) -> None:
    found = group((step,), size=(13, 11))
    program = probe_program(found)
    (name,) = (name for name, _ in constants(program) if name.startswith("chains") and name.endswith("weight"))
    kernel = dict(constants(program))[name][:, 0]
    ((_, matrix),) = ((name, value) for name, value in constants(in_form(program, "rows")) if name.endswith("_rows"))

    assert matrix.shape == (1, 4, step.taps[0] * 11, found.output[1])
    for channel, row, column in ((0, 0, 0), (1, 2, 1), (3, step.taps[0] - 1, step.taps[1] - 1)):
        part = matrix[0, channel, row * 11 : (row + 1) * 11]
        starts = [place * step.stride[1] - step.padding[1] for place in range(found.output[1])]
        meets = sum(0 <= start + column * step.dilation[1] < 11 for start in starts)
        assert int((part == kernel[channel, row, column]).sum()) == meets
