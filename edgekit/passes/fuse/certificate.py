"""The certificate of a region: what was there, what is left, and the measured proof that it computes the same.

A region is run alone: its old operators in float64, its new ones in float32, on the inputs of `probes`.

Bound. For y = sum of n products w_i x_i plus a shift, float32 with unit roundoff u = 2^-24 gives, whatever the order of
summation, |y' - y| <= gamma_n sum |w_i| |x_i| with gamma_n = n u / (1 - n u): one rounding for each weight, product and
addition. That bound is never reached; roundings that are independent with mean zero obey, with probability at least
1 - 2 n exp(-lambda^2 / 2) (Higham and Mary 2019, theorem 2.4),

    |y' - y| <= lambda sqrt(n + 3) u (sum |w_i| |x_i| + |shift|),        lambda = 8

which is the bound used, for every element, the three more roundings being the folded weight's, the shift's and the
sum's. It is sharp enough that one channel of a kernel wrong by 1 % exceeds it: that moves the output of a lone channel
by 1e-2 of its magnitude, n = 10^4 allows 5e-5.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import sqrt
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node

from edgekit.artifact import RegionCertificate, RegionSize, Shape
from edgekit.errors import ParityError
from edgekit.macs import node_macs
from edgekit.numerics import EQUAL_DB, snr_db
from edgekit.passes.fuse.probes import CASES, probe
from edgekit.program import Program, constant, is_getitem, module_path, operator_name

LAMBDA = 8.0
UNIT_ROUNDOFF = 2.0**-24

REFERENCE_NOISE = 2.0**-42
"""What float64 itself may be off, of the largest value on the way: where branches cancel, nothing else is left."""


@dataclass(frozen=True, slots=True)
class Region:
    """A rewritten region, while both versions are in the graph.

    Attributes:
        before: The nodes that computed `old`, in order, without constants.
        after: The nodes that compute `new`, constants among them.
        sources: Old source to what it has become.
        shapes: Old source to the shape it is given for the proof, see `probes`.
        taps: Products summed for each output.
        channel_axis: Where the channels are.
    """

    rule: str
    decision: str
    old: Node
    new: Node
    before: tuple[Node, ...]
    after: tuple[Node, ...]
    sources: Mapping[Node, Node]
    shapes: Mapping[Node, Shape]
    taps: int
    channel_axis: int


def certify(program: Program, region: Region) -> RegionCertificate:
    """Measures a region against its old operators in float64.

    Raises:
        ParityError: A difference exceeds its bound.
    """
    inputs = {source: probe(shape, region.channel_axis) for source, shape in region.shapes.items()}
    with torch.no_grad():
        wide = {source: value.double() for source, value in inputs.items()}
        expected, peak = interpret(program, region.before, wide, region.old, _wide)
        renamed = {region.sources[source]: value for source, value in inputs.items()}
        actual = interpret(program, region.after, renamed, region.new, _as_is)[0].double()
        sizes = {node: value.abs() for node, value in renamed.items()}
        magnitude = interpret(program, region.after, sizes, region.new, _magnitude)[0].double()
    bounds = LAMBDA * sqrt(region.taps + 3) * UNIT_ROUNDOFF * magnitude + REFERENCE_NOISE * peak
    difference = (actual - expected).abs()
    ratio = difference / bounds
    worst = int(ratio.argmax())
    used = float(ratio.reshape(-1)[worst])
    site = module_path(region.old) or region.old.name
    if not used <= 1.0:
        raise ParityError(
            f"Fusing {site} ({region.rule}; {source_line(region.old)}) changes what it computes: a difference of "
            f"{float(difference.reshape(-1)[worst]):.3g} where float32 rounding explains "
            f"{float(bounds.reshape(-1)[worst]):.3g}. Leave it out with --no-fuse '{site}', and please report it."
        )
    return RegionCertificate(
        rule=region.rule,
        site=site,
        source_line=source_line(region.old),
        decision=region.decision,
        before=measure(program, region.before),
        after=measure(program, region.after),
        max_abs=float(difference.max()),
        snr_db=min(_snr(expected[index], actual[index]) for index in range(len(CASES))),
        bound=float(bounds.reshape(-1)[worst]),
        used=used,
    )


def _snr(expected: Tensor, actual: Tensor) -> float:
    """SNR of one input; a region that gives only zeros, and does so exactly, is equal."""
    equal = bool((expected == actual).all())
    return EQUAL_DB if equal else snr_db(expected.numpy(), actual.numpy())


def _wide(value: Tensor) -> Tensor:
    return value.double() if value.is_floating_point() else value


def _as_is(value: Tensor) -> Tensor:
    return value


def _magnitude(value: Tensor) -> Tensor:
    return value.abs() if value.is_floating_point() else value


def interpret(
    program: Program, nodes: Sequence[Node], values: Mapping[Node, Tensor], result: Node, convert: Any
) -> tuple[Tensor, float]:
    """Interprets nodes on given values; also gives the largest value met. Magnitudes are added, never subtracted."""
    known: dict[Node, Any] = dict(values)

    def lookup(node: Node) -> Any:
        if node not in known:
            stored = constant(program, node)
            assert stored is not None, f"{node} is neither a source nor a constant of its region"  # noqa: S101
            known[node] = convert(stored)
        return known[node]

    for node in nodes:
        if node.op != "call_function":
            continue
        args, kwargs = torch.fx.map_arg((node.args, node.kwargs), lookup)
        if convert is _wide:  # what asks for float32 means the type the program computes in
            args = tuple(torch.float64 if value is torch.float32 else value for value in args)
        target = node.target
        if convert is _magnitude and target is torch.ops.aten.sub.Tensor:
            target = torch.ops.aten.add.Tensor
        value = target(*args, **kwargs)  # type: ignore[operator]
        known[node] = value.abs() if convert is _magnitude else value
    tensors = [value for value in (*known.values(), lookup(result)) if isinstance(value, Tensor)]
    return torch.as_tensor(lookup(result)), max(float(value.abs().max()) for value in tensors)


def measure(program: Program, nodes: Sequence[Node]) -> RegionSize:
    """Size of a part of a program."""
    working = [node for node in nodes if node.op == "call_function" and not is_getitem(node)]
    read = {used for node in working for used in node.all_input_nodes if used.op == "get_attr"}
    constants = {str(node.target): constant(program, node) for node in read}
    return RegionSize(
        operators=tuple(operator_name(node) for node in working),
        parameters=sum(value.numel() for value in constants.values() if value is not None),
        macs=sum(node_macs(node) for node in working),
    )


def source_line(node: Node) -> str:
    """Where a node comes from in the user's code: the innermost line outside of torch."""
    found = ""
    lines = str(node.meta.get("stack_trace") or "").splitlines()
    for where, text in pairwise(lines):
        if where.lstrip().startswith('File "') and "/torch/" not in where:
            path, line = where.split('"')[1], where.split(", line ")[1].split(",")[0]
            found = f"{'/'.join(path.split('/')[-2:])}:{line}  {text.strip()}"
    return found
