"""A depthwise kernel with too many taps for a runtime's fast path becomes a sum of kernels with few.

    conv2d(x, w: 7x7)  ->  conv2d(x, rows 2 3 4) + conv2d(x, rows 1 5: dilated by 4) + conv2d(x, rows 0 6: dilated by 6)

The rows in the middle stay together; the others go in pairs that lie evenly about the middle, so that every piece,
dilated as far as its rows are apart, has zero padding on all sides alike and needs neither pad nor slice. XNNPACK, for
one, has fast depthwise kernels of up to 25 taps, and is some ten times slower beyond.

Rules:
1. The convolution is depthwise with stride 1, a constant weight of odd height, and as many rows of zero padding above
   as below.
2. It has more than `limit` taps, and two of its rows have no more.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.fx import Node

from edgekit.passes.base import Log
from edgekit.program import Program, arguments, constant, insert_constant, is_depthwise, module_path, pair

_aten = torch.ops.aten


@dataclass(frozen=True, slots=True)
class KernelPieces:
    """Writes medium depthwise kernels as sums of small ones.

    Attributes:
        limit: Most taps of a piece.
    """

    limit: int

    @property
    def name(self) -> str:
        return "kernel-pieces"

    def __call__(self, program: Program, log: Log) -> None:
        for node in program.graph.find_nodes(op="call_function", target=_aten.conv2d.default):
            weight = constant(program, arguments(node)["weight"])
            if weight is None or not is_depthwise(node, weight) or weight[0].numel() <= self.limit:
                continue
            reason = self._why_not(node, weight)
            if reason:
                log.decline(self.name, module_path(node), reason)
                continue
            _rewrite(program, node, weight, row_groups(weight.shape[2], weight.shape[3], self.limit))
            log.fired[self.name] += 1

    def _why_not(self, node: Node, weight: Tensor) -> str | None:
        given = arguments(node)
        rows, columns = weight.shape[2:]
        if 2 * columns > self.limit:
            return f"two rows of {columns} taps are more than {self.limit}"
        if rows % 2 == 0:
            return "an even number of rows has no middle"
        if pair(given["stride"]) != (1, 1) or pair(given["dilation"]) != (1, 1):
            return "it has a stride or is dilated"
        if pair(given["padding"])[0] < rows // 2:
            return "the padding is less than half the rows"
        return None


def row_groups(rows: int, columns: int, limit: int) -> tuple[tuple[int, ...], ...]:
    """Rows in pieces of up to `limit` taps: as many as fit about the middle, then pairs from there outwards."""
    middle = rows // 2
    reach = min((limit // columns - 1) // 2, middle)
    pairs = ((middle - step, middle + step) for step in range(reach + 1, middle + 1))
    return (tuple(range(middle - reach, middle + reach + 1)), *pairs)


def _rewrite(program: Program, node: Node, weight: Tensor, groups: tuple[tuple[int, ...], ...]) -> None:
    """Puts the sum of the pieces in the convolution's place; the first piece has the bias."""
    given = arguments(node)
    padding = pair(given["padding"])
    total: Node | None = None
    for index, group in enumerate(groups):
        first, *others = group
        step = others[0] - first if others else 1
        name = f"{given['weight'].target}_rows{'_'.join(map(str, group))}"
        piece = insert_constant(program, node, name, weight[:, :, list(group)])
        changed = {
            "weight": piece,
            "bias": None if index else given["bias"],
            "padding": [padding[0] - first, padding[1]],
            "dilation": [step, 1],
        }
        with program.graph.inserting_before(node):
            made = program.graph.call_function(_aten.conv2d.default, tuple({**given, **changed}.values()))
            made.meta = dict(node.meta)
            total = made if total is None else program.graph.call_function(_aten.add.Tensor, (total, made))
            total.meta = dict(node.meta)
    assert total is not None, "every kernel has rows"  # noqa: S101
    node.replace_all_uses_with(total)
