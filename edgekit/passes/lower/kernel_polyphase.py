"""A large depthwise kernel as a grouped convolution between blocks of pixels: its polyphase decomposition.

    conv2d(x, w: (C, 1, K, K), groups=C)  ->  depth_to_space(conv2d(space_to_depth(pad(x)), P, groups=C))
    P: (16 C, 16, Q, Q),   P[(c, i, j), (r, s), q, p] = w[c, 4 q + r - i, 4 p + s - j],   Q = ceil((K + 3) / 4)

Each block of 4 x 4 pixels becomes 16 channels of one pixel, so each channel of the map becomes a group of 16, and the
kernel meets Q x Q blocks. That is 16 Q^2 multiplications for K^2, a third more at 31 x 31, but they run in a runtime's
dense convolution, 16 channels to 16, instead of a loop over taps that uses nothing twice. The constants are the
kernel's own, copied.

For runtimes without a fast path for so many taps. In TFLite, where XNNPACK has one for 25 at most, 31x31 over 56x56
takes a 25th of the depthwise form's time, and half that of a sum of 5x5 kernels over slices of the padded map.
"""

from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.fx import Node

from edgekit.kernel_group import PHASES, KernelStep, Pair, polyphase_taps
from edgekit.passes.lower.kernel_sites import StepSite, weights
from edgekit.passes.lower.toeplitz import banded
from edgekit.program import Program, arguments, insert_constant

_aten = torch.ops.aten


def write_polyphase(program: Program, site: StepSite) -> Node:
    """Writes the grouped convolution before a convolution's node, and returns the result."""
    node, given = site.node, arguments(site.node)
    weight, bias = weights(program, site)
    channels = len(weight)
    kernel = insert_constant(program, node, f"{given['weight'].target}_phases", between_blocks(weight[:, 0], site.step))
    shift = None
    if bias is not None:
        shift = insert_constant(program, node, f"{given['bias'].target}_phases", bias.repeat_interleave(PHASES**2))
    _, _, height, width = node.meta["val"].shape
    blocks = -(-height // PHASES), -(-width // PHASES)
    with program.graph.inserting_before(node):
        deep = space_to_depth(program, site, blocks)
        convolved = _call(program, site, _aten.conv2d.default, deep, kernel, shift, [1, 1], [0, 0], [1, 1], channels)
        result = depth_to_space(program, site, convolved, blocks)
    result.meta = dict(node.meta)
    return result


def between_blocks(kernel: Tensor, step: KernelStep) -> Tensor:
    """The grouped kernel (16 C, 16, Q, Q') that does to blocks of pixels what a kernel (C, Kh, Kw) does to pixels."""
    down, across = (
        banded(torch.eye(taps, dtype=kernel.dtype), PHASES * count, PHASES, 1, 0, dilation).reshape(
            taps, count, PHASES, PHASES
        )
        for taps, count, dilation in zip(step.taps, polyphase_taps(step), step.dilation, strict=True)
    )
    placed = torch.einsum("ckl,kqri,lpsj->cijrsqp", kernel, down, across)
    return placed.reshape(-1, PHASES**2, *polyphase_taps(step))


def space_to_depth(program: Program, site: StepSite, blocks: Pair) -> Node:
    """The padded map (N, C, H, W) with the pixels of a block as channels, (N, 16 C, H / 4, W / 4)."""
    batch, channels, height, width = site.source.meta["val"].shape
    top, left = site.step.padding
    rows, columns = (count + taps - 1 for count, taps in zip(blocks, polyphase_taps(site.step), strict=True))
    padding = [left, PHASES * columns - width - left, top, PHASES * rows - height - top]
    padded = _call(program, site, _aten.constant_pad_nd.default, site.source, padding)
    apart = _call(program, site, _aten.reshape.default, padded, [batch, channels, rows, PHASES, columns, PHASES])
    moved = _call(program, site, _aten.permute.default, apart, [0, 1, 3, 5, 2, 4])
    return _call(program, site, _aten.reshape.default, moved, [batch, PHASES**2 * channels, rows, columns])


def depth_to_space(program: Program, site: StepSite, deep: Node, blocks: Pair) -> Node:
    """The map whose blocks are the channels of another, as far as the convolution's result goes."""
    batch, channels, height, width = site.node.meta["val"].shape
    apart = _call(program, site, _aten.reshape.default, deep, [batch, channels, PHASES, PHASES, *blocks])
    moved = _call(program, site, _aten.permute.default, apart, [0, 1, 4, 2, 5, 3])
    whole = [PHASES * count for count in blocks]
    result = _call(program, site, _aten.reshape.default, moved, [batch, channels, *whole])
    for axis, (longer, side) in enumerate(zip(whole, (height, width), strict=True), start=2):
        if longer > side:
            result = _call(program, site, _aten.slice.Tensor, result, axis, 0, side)
    return result


def _call(program: Program, site: StepSite, operator: OpOverload, *given: Any) -> Node:
    """A call that comes from where the convolution does; its shape is inferred later."""
    made = program.graph.call_function(operator, given)
    made.meta = {key: value for key, value in site.node.meta.items() if key != "val"}
    return made
