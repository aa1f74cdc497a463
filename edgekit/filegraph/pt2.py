"""Files of `torch.export`, read only when that runs no code of theirs (see `edgekit.archive`)."""

import io
from pathlib import Path

import torch
from torch import Tensor
from torch.fx import Node

from edgekit.archive import reason_for_distrust
from edgekit.errors import ArtifactError
from edgekit.filegraph.base import FileGraph, FileNode
from edgekit.macs import node_macs
from edgekit.program import is_getitem, module_path, operator_name


def read(path: Path) -> FileGraph:
    """The graph of a `.pt2` file.

    Raises:
        ArtifactError: Reading it could run code in it.
    """
    content = path.read_bytes()
    reason = reason_for_distrust(io.BytesIO(content))
    if reason is not None:
        raise ArtifactError(f"{path.name} is not read: that could run code in it, for {reason}.")
    graph = torch.export.load(io.BytesIO(content)).graph
    nodes = {
        node.name: FileNode(
            name=node.name,
            kind=operator_name(node),
            module=module_path(node),
            macs=node_macs(node),
            operands=tuple(_source(used).name for used in node.all_input_nodes),
            results=(node.name,),
        )
        for node in graph.nodes
        if node.op == "call_function" and not is_getitem(node)
    }
    return FileGraph(nodes, {node.name: _size(node) for node in graph.nodes})


def _source(node: Node) -> Node:
    """The node behind one that only picks an element of a tuple."""
    return _source(node.all_input_nodes[0]) if is_getitem(node) else node


def _size(node: Node) -> int:
    """Bytes of a node's results."""
    value = node.meta.get("val")
    tensors = value if isinstance(value, (list, tuple)) else (value,)
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors if isinstance(tensor, Tensor))
