"""Finding groups of depthwise convolutions in a program, whatever network it came from."""

from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor
from torch.fx import Node

from edgekit.kernel_group import SMALL_TAPS, KernelGroup, KernelStep
from edgekit.program import Program, arguments, constant, is_depthwise, module_path, pair

_aten = torch.ops.aten

_PARTS = (_aten.narrow.default, _aten.slice.Tensor)
"""What takes a part of a map."""

Wrap = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class StepSite:
    """A convolution of a group where it stands: its node, and the map it convolves, before any of it is repeated."""

    node: Node
    source: Node
    step: KernelStep


Chains = tuple[tuple[StepSite, ...], ...]
"""Convolutions over one map, chain by chain."""


@dataclass(frozen=True, slots=True)
class GroupSite:
    """A group where it stands, from the map it reads to the node of its result."""

    group: KernelGroup
    source: Node
    result: Node
    chains: Chains

    @property
    def path(self) -> str:
        """Module path of the group: what the paths of its convolutions have in common."""
        paths = [module_path(site.node).split(".") for chain in self.chains for site in chain]
        shared = []
        for parts in zip(*paths, strict=False):
            if len(set(parts)) > 1:
                break
            shared.append(parts[0])
        return ".".join(shared)


def find_groups(program: Program) -> list[GroupSite]:
    """The groups of a program that are worth a choice, in the order of their results; no two share a node.

    A group has a kernel of more than `SMALL_TAPS` taps, or a circular one, and nothing outside it reads what lies
    between its source and its result.
    """
    found: dict[Node, Chains] = {chain[-1].node: (chain,) for chain in find_chains(program)}
    for node in program.graph.find_nodes(op="call_function", target=_aten.add.Tensor):
        operands = [used for used in node.args if isinstance(used, Node) and used in found]
        if len(operands) == 2 and not node.kwargs and _summable(node, found[operands[0]], found[operands[1]]):
            found[node] = (*found.pop(operands[0]), *found.pop(operands[1]))
    return [site for node, chains in found.items() if worth_choosing(site := _site(node, chains))]


def worth_choosing(site: GroupSite) -> bool:
    """Whether runtimes may have no fast kernel for some convolution of a group."""
    return any(prod(step.taps) > SMALL_TAPS or any(step.wrap) for step in site.group.steps)


def _summable(node: Node, left: Chains, right: Chains) -> bool:
    """Whether a sum is all that becomes of two results over one map."""
    operands = node.all_input_nodes
    once = len(operands) == 2 and all(len(used.users) == 1 for used in operands)
    same_size = len({operand.meta["val"].shape for operand in operands}) == 1
    return once and same_size and left[0][0].source is right[0][0].source


def find_chains(program: Program) -> list[tuple[StepSite, ...]]:
    """Depthwise convolutions that feed each other and nothing else."""
    chains: dict[Node, tuple[StepSite, ...]] = {}
    for node in program.graph.find_nodes(op="call_function", target=_aten.conv2d.default):
        site = step_site(program, node)
        if site is None:
            continue
        before = chains.get(site.source)
        reads = {node} if site.step.wrap == (0, 0, 0, 0) else _readers(arguments(node)["input"])
        if before is not None and set(site.source.users) == reads:
            del chains[site.source]
            chains[node] = (*before, site)
        else:
            chains[node] = (site,)
    return list(chains.values())


def _readers(wrapped: Node) -> set[Node]:
    """The nodes that read a map in order to repeat part of it: the concatenation, and the parts."""
    return {wrapped, *(part for part in wrapped.all_input_nodes if part.target in _PARTS)}


def step_site(program: Program, node: Node) -> StepSite | None:
    """A convolution as a step of a group; None where it is not depthwise with a constant float32 kernel."""
    given = arguments(node)
    weight, bias = constant(program, given["weight"]), constant(program, given["bias"])
    computed = weight is None or (given["bias"] is not None and bias is None)
    if weight is None or computed or weight.dtype is not torch.float32 or not is_depthwise(node, weight):
        return None
    source, wrap = unwrapped(given["input"])
    step = KernelStep(
        taps=(int(weight.shape[2]), int(weight.shape[3])),
        stride=pair(given["stride"]),
        padding=pair(given["padding"]),
        dilation=pair(given["dilation"]),
        wrap=wrap,
        bias=bias is not None,
    )
    return StepSite(node, source, step)


def unwrapped(node: Node) -> tuple[Node, Wrap]:
    """The map behind a circular padding, and how many rows and columns of it that repeats.

    A map padded this way is written as a concatenation with parts of itself, or as a `pad` of mode circular.
    """
    if node.target is _aten.pad.default and arguments(node)["mode"] == "circular" and len(node.users) == 1:
        left, right, above, below = (*arguments(node)["pad"], 0, 0)[:4]
        wrap = (above, below, left, right)
        return (arguments(node)["self"], wrap) if min(wrap) >= 0 else (node, (0, 0, 0, 0))
    if node.target is not _aten.cat.default or len(node.users) != 1:
        return node, (0, 0, 0, 0)
    parts, axis = list(arguments(node)["tensors"]), arguments(node)["dim"] % 4
    whole = next((part for part in parts if all(_is_part(other, part) for other in parts if other is not part)), None)
    if whole is None or parts.count(whole) > 1 or axis < 2 or len(parts) > 3:
        return node, (0, 0, 0, 0)
    place = parts.index(whole)
    lengths = [_repeated(part, whole, axis, before=index < place) for index, part in enumerate(parts)]
    if any(length is None for length in lengths) or place > 1 or len(parts) - place > 2:
        return node, (0, 0, 0, 0)
    before = lengths[0] if place else 0
    after = lengths[-1] if place < len(parts) - 1 else 0
    repeated = (before or 0, after or 0)
    return whole, (*repeated, 0, 0) if axis == 2 else (0, 0, *repeated)


def _is_part(node: Node, whole: Node) -> bool:
    """Whether a node is some part of a map."""
    return node.target in _PARTS and arguments(node)["self"] is whole


def _repeated(part: Node, whole: Node, axis: int, *, before: bool) -> int | None:
    """How much of the far end of a map a part of a concatenation repeats; 0 for the map, None for anything else."""
    if part is whole:
        return 0
    given, side, length = arguments(part), whole.meta["val"].shape[axis], part.meta["val"].shape[axis]
    start = side - length if before else 0
    whole_steps = given.get("step", 1) == 1 and given["dim"] % 4 == axis
    fits = whole_steps and ((given["start"] or 0) - start) % side == 0
    return int(length) if fits and len(part.users) == 1 else None


def _site(result: Node, chains: Chains) -> GroupSite:
    source = chains[0][0].source
    _, channels, height, width = source.meta["val"].shape
    steps = tuple(tuple(site.step for site in chain) for chain in chains)
    return GroupSite(KernelGroup(channels=channels, size=(height, width), chains=steps), source, result, chains)


def weights(program: Program, site: StepSite) -> tuple[Tensor, Tensor | None]:
    """Kernel (C, 1, Kh, Kw) and bias (C,) of a step."""
    given = arguments(site.node)
    weight = constant(program, given["weight"])
    assert weight is not None, "sites have constant kernels"  # noqa: S101
    return weight, constant(program, given["bias"])
