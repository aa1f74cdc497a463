"""A two-dimensional depthwise kernel as one matrix product over all its rows.

    conv2d(x, w: (C, 1, Kh, Kw), groups=C)  ->  matmul(u, T)
    u = concat(x shifted by r rows, for every row r of the kernel): (N, C, H', Kh W)
    T = the banded matrices of the kernel's rows, one below the other: (C, Kh W, W')

A runtime without a fast path for so many taps has one for matrix products. The constants are the kernel's own, copied.
"""

import torch
from torch.fx import Node

from edgekit.passes.lower.kernel_sites import StepSite, weights
from edgekit.passes.lower.toeplitz import add_bias, axis_matrix
from edgekit.program import Program, arguments, insert_constant

_aten = torch.ops.aten


def write_rows(program: Program, site: StepSite) -> Node:
    """Writes the product before a convolution's node, and returns the result."""
    node, step = site.node, site.step
    weight, bias = weights(program, site)
    side = site.source.meta["val"].shape[3]
    matrix = torch.cat([axis_matrix(row, side, step, axis=1) for row in weight[:, 0].unbind(1)], dim=1)
    name = str(arguments(node)["weight"].target)
    stored = insert_constant(program, node, f"{name}_rows", matrix[None])
    with program.graph.inserting_before(node):
        unfolded = unfold_rows(program, site)
        result = program.graph.call_function(_aten.matmul.default, (unfolded, stored))
    result.meta = dict(node.meta)
    return result if bias is None else add_bias(program, node, result, bias)


def unfold_rows(program: Program, site: StepSite) -> Node:
    """For every row of the kernel the rows of the map that it meets, side by side."""
    source, step, rows = site.source, site.step, site.node.meta["val"].shape[2]
    if step.padding[0]:
        padding = [0, 0, step.padding[0], step.padding[0]]
        source = program.graph.call_function(_aten.constant_pad_nd.default, (source, padding))
        source.meta = _origin(site.node)
    parts = []
    for row in range(step.taps[0]):
        start = row * step.dilation[0]
        stop = start + (rows - 1) * step.stride[0] + 1
        part = program.graph.call_function(_aten.slice.Tensor, (source, 2, start, stop, step.stride[0]))
        part.meta = _origin(site.node)
        parts.append(part)
    unfolded = program.graph.call_function(_aten.cat.default, (parts, 3))
    unfolded.meta = _origin(site.node)
    return unfolded


def _origin(node: Node) -> dict[str, object]:
    """Where a node comes from, without its shape."""
    return {key: value for key, value in node.meta.items() if key != "val"}
