"""A group as a matrix between pixels: what it answers to one pixel is what the group answers."""

from typing import cast

import pytest
import torch
from torch import nn

from edgekit.kernel_group import candidates
from edgekit.program import constants, run
from edgekit.reference import program_in_float64
from edgekit.tune.probe import in_form, probe_program, probe_shape
from tests.kernels import GROUPS, group, same

NAMES = ["row", "strided plane", "pair with biases", "pair and local", "circular pair", "torus", "even plane"]


@pytest.mark.parametrize("name", NAMES)
def test_a_row_of_the_matrix_is_the_answer_to_one_pixel(name: str) -> None:
    found = GROUPS[name]
    shape = probe_shape(found)
    program = in_form(probe_program(found), "matmul")
    ((_, matrix),) = ((name, value) for name, value in constants(program) if name.endswith("_pixels"))
    (matmul,) = program.graph.find_nodes(op="call_function", target=torch.ops.aten.matmul.default)
    reads = matmul.args[0]
    assert matrix.shape == (1, found.channels, found.size[0] * found.size[1], found.output[0] * found.output[1])
    assert tuple(reads.meta["val"].shape) == (1, found.channels, 1, found.size[0] * found.size[1])

    layers = list(cast("nn.ModuleList", network(name).chains))
    one, nothing = torch.zeros(shape, dtype=torch.float64), torch.zeros(shape, dtype=torch.float64)
    row, column = found.size[0] // 3, found.size[1] - 1
    one[:, :, row, column] = 1.0
    with torch.no_grad():
        answer = torch.stack([layer(one) - layer(nothing) for layer in layers]).sum(0)
    assert torch.allclose(matrix[0, :, row * found.size[1] + column], answer.flatten(2)[0].float(), atol=1e-7)


def network(name: str) -> "torch.nn.Module":
    """The test network of a group, with the weights its program has, in float64."""
    from edgekit.tune.probe import SEED, KernelNetwork

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        return KernelNetwork(GROUPS[name]).double().eval()


def test_what_a_convolved_bias_adds_differs_at_the_border_and_another_does_not() -> None:
    inside, outside = GROUPS["pair with biases"], GROUPS["pair and local"]
    added = {}
    for found in (inside, outside):
        program = in_form(probe_program(found), "matmul")
        ((_, bias),) = ((name, value) for name, value in constants(program) if name.endswith("_pixels_bias"))
        added[found] = bias

    assert added[inside].shape == (1, 4, 1, 63)
    assert len(set(added[inside][0, 0, 0].tolist())) > 1
    assert added[outside].shape == (1, 4, 1, 1)


def test_it_is_for_tiny_maps() -> None:
    assert "matmul" in candidates(group((same(7, 7),), size=(14, 14), channels=384))
    assert "matmul" not in candidates(group((same(7, 7),), size=(28, 28), channels=192))
    program = probe_program(group((same(5, 5, bias=True),), size=(3, 3)))
    x = torch.ones(1, 4, 3, 3)
    assert torch.allclose(run(in_form(program, "matmul"), x)[0].double(), program_in_float64(program)(x.double())[0])
