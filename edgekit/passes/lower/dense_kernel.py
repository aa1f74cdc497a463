"""A group of depthwise convolutions as one depthwise convolution.

    conv2d(conv2d(x, h: Kx1), w: 1xK) + conv2d(x, v: 7x7)  ->  conv2d(x, h w + v: KxK)

This is how the paper's supplement runs oversized kernels on a GPU: one large kernel that absorbs the local one. The
products are computed in float64 and rounded once. `edgekit.kernel_group.merges` says which groups have this form.
"""

import torch
from torch import Tensor
from torch.fx import Node

from edgekit.kernel_group import merged_taps
from edgekit.passes.lower.kernel_sites import GroupSite, StepSite, weights
from edgekit.program import Program, arguments, insert_constant

_aten = torch.ops.aten


def write_dense(program: Program, site: GroupSite) -> Node:
    """Writes a group as one convolution before the node of its result, and returns it."""
    height, width = merged_taps(site.group)
    kernel = torch.zeros(site.group.channels, height, width, dtype=torch.float64)
    for chain in site.chains:
        product = chain_kernel(program, chain)
        top, left = (height - product.shape[1]) // 2, (width - product.shape[2]) // 2
        kernel[:, top : top + product.shape[1], left : left + product.shape[2]] += product
    biases = [bias for chain in site.chains if (bias := weights(program, chain[-1])[1]) is not None]
    first = arguments(site.chains[0][0].node)
    name = str(first["weight"].target)
    stored = insert_constant(program, site.result, f"{name}_dense", kernel.float()[:, None])
    shift = None
    if biases:
        shift = insert_constant(program, site.result, f"{name}_dense_bias", sum(map(Tensor.double, biases)).float())  # type: ignore[union-attr]
    padding = [height // 2, width // 2]
    with program.graph.inserting_before(site.result):
        made = program.graph.call_function(
            _aten.conv2d.default, (site.source, stored, shift, [1, 1], padding, [1, 1], site.group.channels)
        )
    made.meta = dict(site.result.meta)
    return made


def chain_kernel(program: Program, chain: tuple[StepSite, ...]) -> Tensor:
    """The kernel (C, Kh, Kw) of convolutions that follow each other along different axes, in float64."""
    product = torch.ones((), dtype=torch.float64)
    for site in chain:
        kernel = weights(program, site)[0].double()[:, 0]
        spread = torch.zeros(len(kernel), *site.step.reach, dtype=torch.float64)
        spread[:, :: site.step.dilation[0], :: site.step.dilation[1]] = kernel
        product = product * spread
    return product
