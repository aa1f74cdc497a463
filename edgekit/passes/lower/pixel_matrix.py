"""A group of depthwise convolutions as one product with a matrix between all pixels, for every channel.

    conv2d(conv2d(x, h), w) + conv2d(x, v)  ->  reshape(matmul(reshape(x, (N, C, 1, H W)), M: (C, H W, H' W')))

For tiny maps, where a kernel covers most of the map wherever it stands. Whatever the group does at the borders, padding
with zeros or with the map itself, is in the matrix. A group of one convolution is copied into it; longer chains are
multiplied in float64 and rounded once.
"""

from math import prod

import torch
from torch import Tensor
from torch.fx import Node

from edgekit.passes.lower.kernel_sites import GroupSite, StepSite, weights
from edgekit.passes.lower.toeplitz import axis_matrix
from edgekit.program import Program, arguments, insert_constant

_aten = torch.ops.aten


def write_matmul(program: Program, site: GroupSite) -> Node:
    """Writes a group as a matrix product before the node of its result, and returns what has its shape."""
    node, group = site.result, site.group
    matrices, shifts = zip(*(chain_matrix(program, chain, group.size) for chain in site.chains), strict=True)
    matrix, added = torch.stack(matrices).sum(0).float(), torch.stack(shifts).sum(0).float()
    name = str(arguments(site.chains[0][0].node)["weight"].target)
    stored = insert_constant(program, node, f"{name}_pixels", matrix[None])
    batch = site.source.meta["val"].shape[0]
    with program.graph.inserting_before(node):
        rows = program.graph.call_function(
            _aten.reshape.default, (site.source, [batch, group.channels, 1, prod(group.size)])
        )
        made = [rows, program.graph.call_function(_aten.matmul.default, (rows, stored))]
    if group.biased:
        values = added if group.biased_inside else added[:, :1]
        shift = insert_constant(program, node, f"{name}_pixels_bias", values[None, :, None])
        with program.graph.inserting_before(node):
            made.append(program.graph.call_function(_aten.add.Tensor, (made[-1], shift)))
    with program.graph.inserting_before(node):
        shape = [batch, group.channels, *group.output]
        made.append(program.graph.call_function(_aten.reshape.default, (made[-1], shape)))
    for each in made[:-1]:
        each.meta = {key: value for key, value in node.meta.items() if key != "val"}
    made[-1].meta = dict(node.meta)
    return made[-1]


def chain_matrix(program: Program, chain: tuple[StepSite, ...], size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """What a chain does to the pixels of a map, (C, H W, H' W'), and what it adds to them, (C, H' W'); in float64."""
    matrix, shift = torch.ones(()), torch.zeros(())
    for index, site in enumerate(chain):
        weight, bias = weights(program, site)
        own = step_matrix(weight.double()[:, 0], site, size)
        matrix = own if index == 0 else matrix @ own
        shift = torch.zeros(own[:, 0].shape, dtype=torch.float64) if index == 0 else (shift[:, None] @ own)[:, 0]
        if bias is not None:
            shift = shift + bias.double()[:, None]
        size = site.step.output(size)
    return matrix, shift


def step_matrix(kernel: Tensor, site: StepSite, size: tuple[int, int]) -> Tensor:
    """The matrix (C, H W, H' W') of one convolution with kernel (C, Kh, Kw)."""
    channels, rows, columns = kernel.shape
    down = axis_matrix(torch.eye(rows, dtype=kernel.dtype), size[0], site.step, 0)
    across = axis_matrix(torch.eye(columns, dtype=kernel.dtype), size[1], site.step, 1)
    matrix = torch.einsum("crk,rip,kjq->cijpq", kernel, down, across)
    return matrix.reshape(channels, prod(size), -1)
