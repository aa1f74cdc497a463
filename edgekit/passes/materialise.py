"""Materialise: whatever depends only on weights and the fixed input size becomes a constant.

Afterwards the program has one resolution. Three rules, each its own pass, in this order:

1. `FoldConstants`: an operator all of whose inputs are constants is computed once, in float64, and rounded once.
       conv2d(x, upsample_bilinear2d(weight))  ->  conv2d(x, weight')
2. `CropKernels`: taps of a convolution that can only ever meet zero padding are dropped (exact, any weights).
       conv2d(x: ..56, weight: 111, padding 55)  at 48 pixels  ->  weight: 95, padding 47
3. `L2NormToLayerNorm`: centring and division by the Euclidean length is layer normalisation with another weight,
       (x - mean) / max(|x - mean|, eps) * w  ->  layer_norm(x, w / sqrt(C), eps' = eps^2 / C)
   because |x - mean| = sqrt(C) * std, and sqrt(var + eps^2/C) meets max(std, eps/sqrt(C)) on both sides of eps.
"""

import math

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.fx import Node

from edgekit.passes.base import Log
from edgekit.program import Program, arguments, constant, insert_constant, module_path, pair

_aten = torch.ops.aten

FOLD_LIMIT_BYTES = 64 << 20
"""A folded constant larger than this, and larger than what it was made of, is left to be computed."""


class FoldConstants:
    """Computes every operator whose inputs are all constants."""

    name = "fold-constants"

    def __call__(self, program: Program, log: Log) -> None:
        for node in list(program.graph.nodes):
            if not _is_pure(node) or not node.all_input_nodes or any(map(_is_written, node.all_input_nodes)):
                continue
            sources = [constant(program, used) for used in node.all_input_nodes]
            if any(source is None for source in sources):
                continue
            folded = _evaluate(program, node)
            if folded is None:
                continue
            source_bytes = sum(source.nbytes for source in sources if source is not None)
            if folded.nbytes > max(FOLD_LIMIT_BYTES, source_bytes):
                log.decline(self.name, module_path(node), f"the constant would take {folded.nbytes >> 20} MiB")
                continue
            _replace(program, node, str(node.all_input_nodes[0].target), folded)
            log.fired[str(node.target).removeprefix("aten.")] += 1


def _is_pure(node: Node) -> bool:
    """Whether a node is an operator that always gives the same result and writes nothing."""
    seeded = torch.Tag.nondeterministic_seeded
    return isinstance(node.target, OpOverload) and not _writes(node) and seeded not in node.target.tags


def _is_written(source: Node) -> bool:
    """Whether some operator writes into a constant, so that it is none."""
    return any(map(_writes, source.users))


def _writes(node: Node) -> bool:
    """Whether an operator writes into one of its inputs."""
    return isinstance(node.target, OpOverload) and node.target._schema.is_mutable  # noqa: SLF001 - ATen's signatures


class CropKernels:
    """Drops convolution taps that only ever multiply zero padding."""

    name = "crop-kernels"

    def __call__(self, program: Program, log: Log) -> None:
        for node in program.graph.find_nodes(op="call_function", target=_aten.conv2d.default):
            given = arguments(node)
            weight = constant(program, given["weight"])
            stride, padding, dilation = (pair(given[name]) for name in ("stride", "padding", "dilation"))
            if weight is None or stride != (1, 1) or dilation != (1, 1):
                continue
            kernel, sides = weight.shape[-2:], given["input"].meta["val"].shape[-2:]
            cut = tuple(
                min(max(0, pad - (side - 1)), (taps - 1) // 2)
                for pad, side, taps in zip(padding, sides, kernel, strict=True)
            )
            if cut == (0, 0):
                continue
            if any(taps != 2 * pad + 1 for taps, pad in zip(kernel, padding, strict=True)):
                log.decline(self.name, module_path(node), "the output is not as large as the input")
                continue
            _crop(program, node, weight, cut)
            log.fired[self.name] += 1


def _crop(program: Program, node: Node, weight: Tensor, cut: tuple[int, ...]) -> None:
    """Takes `cut` taps off both ends of each axis, and as much padding with them."""
    given = arguments(node)
    rows, columns = cut
    padding = pair(given["padding"])
    cropped = weight[..., rows : weight.shape[-2] - rows, columns : weight.shape[-1] - columns]
    given["weight"] = insert_constant(program, node, str(given["weight"].target), cropped)
    given["padding"] = [padding[0] - rows, padding[1] - columns]
    node.args, node.kwargs = tuple(given.values()), {}


class L2NormToLayerNorm:
    """Turns centring and division by the Euclidean length over the last axis into layer normalisation."""

    name = "l2norm-to-layernorm"

    def __call__(self, program: Program, log: Log) -> None:
        for length in program.graph.find_nodes(op="call_function", target=_aten.linalg_vector_norm.default):
            found = _match_l2norm(program, length)
            if isinstance(found, str):
                log.decline(self.name, module_path(length), found)
                continue
            source, scaled, weight, eps = found
            channels = source.meta["val"].shape[-1]
            folded = (weight.double() / math.sqrt(channels)).to(weight.dtype)
            name = f"{module_path(length)}.weight".lstrip(".")
            with program.graph.inserting_before(scaled):
                norm = program.graph.call_function(
                    _aten.layer_norm.default,
                    (source, [channels], insert_constant(program, scaled, name, folded), None, eps * eps / channels),
                )
            norm.meta = dict(scaled.meta)
            scaled.replace_all_uses_with(norm)
            log.fired[self.name] += 1


def _match_l2norm(program: Program, length: Node) -> tuple[Node, Node, Tensor, float] | str:
    """The source, the last node, the weight and eps of an L2 norm around a vector norm; or why it is none."""
    given = arguments(length)
    centred, axes = given["self"], given["dim"]
    if centred.target is not _aten.sub.Tensor or given["ord"] != 2 or not given["keepdim"]:
        return "not the Euclidean length of a centred tensor"
    source, mean = centred.args[:2]
    whole = arguments(centred)["alpha"] == 1
    if not whole or not isinstance(mean, Node) or not _is_mean_of(mean, source, axes):
        return "not centred by its own mean over the same axis"
    if axes not in ([-1], [source.meta["val"].ndim - 1]):
        return "normalises another axis than the last"
    clamp = _only_user(length, _aten.clamp_min.default)
    quotient = clamp and _only_user(clamp, _aten.div.Tensor)
    if clamp is None or quotient is None or quotient.args[0] is not centred:
        return "the length is not clamped from below and divided by"
    scaled = _only_user(quotient, _aten.mul.Tensor)
    weight = constant(program, scaled.args[1]) if scaled is not None else None
    if scaled is None or weight is None or tuple(weight.shape) != (source.meta["val"].shape[-1],):
        return "no per-channel weight follows"
    return source, scaled, weight, float(arguments(clamp)["min"])


def _is_mean_of(mean: Node, source: Node, axes: list[int]) -> bool:
    """Whether a node is the mean of another over the given axes, kept as axes of length 1."""
    if mean.target is not _aten.mean.dim:
        return False
    given = arguments(mean)
    return bool(given["self"] is source and given["dim"] == axes and given["keepdim"])


def _only_user(node: Node, target: object) -> Node | None:
    """The node's one user, if it has one and that is the operator asked for."""
    users = list(node.users)
    return users[0] if len(users) == 1 and users[0].target is target else None


def _evaluate(program: Program, node: Node) -> Tensor | None:
    """The node's value from its constants, computed in float64 and rounded once to the node's own type."""

    def wide(used: Node) -> Tensor:
        value = constant(program, used)
        assert value is not None, "only called when every input is a constant"  # noqa: S101
        return value.double() if value.dtype is torch.float32 else value

    inputs, options = torch.fx.map_arg((node.args, node.kwargs), wide)
    with torch.no_grad():
        value = node.target(*inputs, **options)  # type: ignore[operator]
    expected = node.meta["val"]
    return value.to(expected.dtype) if isinstance(value, Tensor) and isinstance(expected, Tensor) else None


def _replace(program: Program, node: Node, name: str, value: Tensor) -> None:
    """Puts a constant in a node's place."""
    stored = insert_constant(program, node, name, value)
    stored.meta = {**node.meta, "val": node.meta["val"]}
    node.replace_all_uses_with(stored)


MATERIALISE = (FoldConstants(), CropKernels(), L2NormToLayerNorm())
"""The passes of this stage, in order."""
