"""A depthwise kernel with too many taps for a runtime's fast path as a sum of kernels with few.

    conv2d(x, w: 7x7)  ->  conv2d(x, rows 2 3 4) + conv2d(x, rows 1 5: dilated by 4) + conv2d(x, rows 0 6: dilated by 6)

The rows in the middle stay together; the others go in pairs that lie evenly about the middle, so that every piece,
dilated as far as its rows are apart, has zero padding on all sides alike and needs neither pad nor slice. XNNPACK, for
one, has fast depthwise kernels of up to 25 taps, and is some ten times slower beyond.
`edgekit.kernel_group.why_not_pieces` says which convolutions have this form.
"""

import torch
from torch.fx import Node

from edgekit.kernel_group import PIECE_TAPS
from edgekit.passes.lower.kernel_sites import StepSite, weights
from edgekit.program import Program, arguments, insert_constant

_aten = torch.ops.aten


def write_pieces(program: Program, site: StepSite) -> Node:
    """Writes the sum of the pieces before a convolution's node, and returns it; the first piece has the bias."""
    node, given = site.node, arguments(site.node)
    weight, _ = weights(program, site)
    rows_padded, columns_padded = site.step.padding
    total: Node | None = None
    for index, group in enumerate(row_groups(*site.step.taps, PIECE_TAPS)):
        first, *others = group
        step = others[0] - first if others else 1
        name = f"{given['weight'].target}_rows{'_'.join(map(str, group))}"
        changed = {
            "weight": insert_constant(program, node, name, weight[:, :, list(group)]),
            "bias": None if index else given["bias"],
            "padding": [rows_padded - first, columns_padded],
            "dilation": [step, 1],
        }
        with program.graph.inserting_before(node):
            made = program.graph.call_function(_aten.conv2d.default, tuple({**given, **changed}.values()))
            made.meta = dict(node.meta)
            total = made if total is None else program.graph.call_function(_aten.add.Tensor, (total, made))
            total.meta = dict(node.meta)
    assert total is not None, "every kernel has rows"  # noqa: S101
    return total


def row_groups(rows: int, columns: int, limit: int) -> tuple[tuple[int, ...], ...]:
    """Rows in pieces of up to `limit` taps: as many as fit about the middle, then pairs from there outwards."""
    middle = rows // 2
    reach = min((limit // columns - 1) // 2, middle)
    pairs = ((middle - step, middle + step) for step in range(reach + 1, middle + 1))
    return (tuple(range(middle - reach, middle + reach + 1)), *pairs)
