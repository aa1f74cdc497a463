"""Parts of a permuted tensor are taken before it is permuted.

    unbind(permute(x, [2, 0, 3, 1, 4]), 0)[i]  ->  permute(select(x, 2, i), [0, 2, 1, 3])     likewise select

For ncnn, which has no batch axis: its converter pnnx takes the first one for it, and cannot follow when a permutation
moves it, as attention does that computes queries, keys and values in one layer. With the parts taken first, the batch
stays where it is, and every tensor has an axis less.

Rules:
1. Elements along one axis are taken, by `select` or by `unbind` all of whose parts are used one by one.
2. What they are taken from is a permutation, or an `unbind` of anything, which becomes one `select` for each part.
"""

import torch
from torch.fx import Node

from edgekit.passes.base import Log
from edgekit.program import Program, arguments, is_getitem

_aten = torch.ops.aten


class PartsFirst:
    """Takes elements of tensors before these are permuted."""

    name = "parts-first"

    def __call__(self, program: Program, log: Log) -> None:
        for node in program.graph.find_nodes(op="call_function", target=_aten.unbind.int):
            given = arguments(node)
            if all(is_getitem(user) for user in node.users):
                for part in list(node.users):
                    _take(program, part, given["self"], given["dim"], int(part.args[1]))
                log.fired[self.name] += 1
        for node in program.graph.find_nodes(op="call_function", target=_aten.select.int):
            given = arguments(node)
            if given["self"].target is _aten.permute.default:
                _take(program, node, given["self"], given["dim"], given["index"])
                log.fired[self.name] += 1


def _take(program: Program, part: Node, source: Node, axis: int, index: int) -> None:
    """Writes the element of a tensor, or of what that one permutes, in the place of a node that gives it."""
    order: list[int] = []
    axis %= source.meta["val"].ndim
    if source.target is _aten.permute.default:
        given = arguments(source)
        whole = [each % source.meta["val"].ndim for each in given["dims"]]
        source, axis = given["self"], whole.pop(axis)
        order = [each - (each > axis) for each in whole]
    kept = {key: value for key, value in part.meta.items() if key != "val"}
    with program.graph.inserting_before(part):
        made = program.graph.call_function(_aten.select.int, (source, axis, index))
        made.meta = dict(kept)
        if order not in ([], sorted(order)):
            made = program.graph.call_function(_aten.permute.default, (made, order))
            made.meta = dict(kept)
    part.replace_all_uses_with(made)
