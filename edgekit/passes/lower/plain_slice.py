"""A part of a tensor is taken by a slice.

    narrow(x, dim, start, length)  ->  slice(x, dim, start, start + length)

For ncnn, whose converter pnnx knows slices, and leaves this in its file as a layer that ncnn does not have.

Rule: every `narrow`.
"""

import torch

from edgekit.passes.base import Log
from edgekit.program import Program, arguments

_aten = torch.ops.aten


class PlainSlice:
    """Writes `narrow` as a slice."""

    name = "plain-slice"

    def __call__(self, program: Program, log: Log) -> None:
        for node in program.graph.find_nodes(op="call_function", target=_aten.narrow.default):
            given = arguments(node)
            size = given["self"].meta["val"].shape[given["dim"]]
            start = given["start"] % max(size, 1)
            with program.graph.inserting_before(node):
                part = program.graph.call_function(
                    _aten.slice.Tensor, (given["self"], given["dim"], start, start + given["length"])
                )
            part.meta = dict(node.meta)
            node.replace_all_uses_with(part)
            log.fired[self.name] += 1
