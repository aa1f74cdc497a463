"""Looking into a network: what it computes, where its work and weights are, and which kernels are large."""

from collections.abc import Iterator

import torch
from msgspec import Struct
from torch import Tensor
from torch.fx import Node

from edgekit.artifact import Certificate, GraphStats, RegionCertificate, Shape
from edgekit.macs import node_macs
from edgekit.program import (
    Program,
    arguments,
    constant,
    module_path,
    operator_name,
    operators,
    stats,
)

LARGE_KERNEL = 7
"""A depthwise kernel is worth a line when a side has at least this many taps."""

_conv2d = torch.ops.aten.conv2d.default


class OperatorRow(Struct, frozen=True, kw_only=True):
    """All nodes of one operator: how many, their MACs, and the constants they read (elements)."""

    operator: str
    nodes: int
    macs: int
    parameters: int


class ModuleRow(Struct, frozen=True, kw_only=True):
    """A module of the network: its last output's shape, operators, MACs and parameters (elements)."""

    module: str
    output: Shape
    operators: int
    macs: int
    parameters: int


class KernelRow(Struct, frozen=True, kw_only=True):
    """A large depthwise kernel: where it is, its taps, the map it slides over, and its share of taps that meet data."""

    module: str
    taps: tuple[int, int]
    channels: int
    input: Shape
    useful_taps: float


class Inspection(Struct, frozen=True, kw_only=True):
    """What `edgekit inspect` tells about a network."""

    totals: GraphStats
    operators: tuple[OperatorRow, ...]
    modules: tuple[ModuleRow, ...]
    kernels: tuple[KernelRow, ...]
    passes: tuple[Certificate, ...]
    regions: tuple[RegionCertificate, ...]


def describe(
    program: Program, passes: tuple[Certificate, ...], regions: tuple[RegionCertificate, ...], depth: int = 2
) -> Inspection:
    """Describes a program; modules are summed up to `depth` parts of their path."""
    return Inspection(
        totals=stats(program),
        operators=operator_rows(program),
        modules=module_rows(program, depth),
        kernels=tuple(kernel_row(program, node) for node in large_kernels(program)),
        passes=passes,
        regions=regions,
    )


def read_constants(program: Program, node: Node) -> int:
    """Elements of the constants a node reads."""
    found = (constant(program, used) for used in node.all_input_nodes)
    return sum(value.numel() for value in found if value is not None)


def operator_rows(program: Program) -> tuple[OperatorRow, ...]:
    """One row per kind of operator, most MACs first."""
    groups: dict[str, list[Node]] = {}
    for node in operators(program):
        groups.setdefault(operator_name(node), []).append(node)
    rows = [
        OperatorRow(
            operator=name,
            nodes=len(nodes),
            macs=sum(map(node_macs, nodes)),
            parameters=sum(read_constants(program, node) for node in nodes),
        )
        for name, nodes in groups.items()
    ]
    return tuple(sorted(rows, key=lambda row: (-row.macs, -row.nodes, row.operator)))


def module_rows(program: Program, depth: int) -> tuple[ModuleRow, ...]:
    """One row per module, in the order of execution."""
    groups: dict[str, list[Node]] = {}
    for node in operators(program):
        groups.setdefault(".".join(module_path(node).split(".")[:depth]) or "(outermost)", []).append(node)
    return tuple(
        ModuleRow(
            module=name,
            output=output_shape(nodes[-1]),
            operators=len(nodes),
            macs=sum(map(node_macs, nodes)),
            parameters=sum(read_constants(program, node) for node in nodes),
        )
        for name, nodes in groups.items()
    )


def output_shape(node: Node) -> Shape:
    """Shape of a node's (first) result."""
    value = node.meta["val"]
    tensor = value if isinstance(value, Tensor) else value[0]
    return tuple(int(side) for side in tensor.shape)


def is_depthwise(program: Program, node: Node) -> bool:
    """Whether a node is a depthwise convolution with a constant kernel."""
    if node.target is not _conv2d:
        return False
    given = arguments(node)
    weight = constant(program, given["weight"])
    return weight is not None and given["groups"] == weight.shape[0] > 1 and weight.shape[1] == 1


def large_kernels(program: Program) -> Iterator[Node]:
    """Depthwise convolutions with a side of at least `LARGE_KERNEL` taps."""
    for node in operators(program):
        if is_depthwise(program, node):
            weight = constant(program, arguments(node)["weight"])
            if weight is not None and max(weight.shape[-2:]) >= LARGE_KERNEL:
                yield node


def kernel_row(program: Program, node: Node) -> KernelRow:
    """Describes one large kernel."""
    given = arguments(node)
    weight = constant(program, given["weight"])
    assert weight is not None  # noqa: S101 - large_kernels yields only constant kernels
    source, output = output_shape(given["input"]), output_shape(node)
    shares = [
        useful_share(*axis)
        for axis in zip(
            *(weight.shape[-2:], source[-2:], output[-2:], given["stride"], given["padding"], given["dilation"]),
            strict=True,
        )
    ]
    return KernelRow(
        module=module_path(node),
        taps=(int(weight.shape[2]), int(weight.shape[3])),
        channels=int(weight.shape[0]),
        input=source,
        useful_taps=shares[0] * shares[1],
    )


def useful_share(taps: int, length: int, outputs: int, stride: int, padding: int, dilation: int) -> float:
    """Along one axis, the share of multiplications whose tap meets the map and not its padding."""
    positions = torch.arange(outputs)[:, None] * stride - padding + torch.arange(taps)[None, :] * dilation
    return float(((positions >= 0) & (positions < length)).double().mean())
