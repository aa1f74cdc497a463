"""Channel permutations vanish: instead of moving maps, the operators behind them read weights in another order.

    conv(shuffle(x), w)                            ->  conv(x, w[:, order])
    grouped(interleave(x, y), w)                   ->  grouped(cat(x[:h], y[:h], x[h:], y[h:]), w')

Where a grouped convolution or a split behind needs certain channels together, the permutation becomes a concatenation
of slices, each moved once, in whatever order suits the slices. One that neither is possible for stays, and if channels
arrive there in another order it becomes one `index_select`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from operator import getitem

import torch
from torch import Tensor
from torch.fx import Node

from edgekit.artifact import RegionCertificate
from edgekit.passes.base import Log
from edgekit.passes.fuse.orders import LAYERS, PASSING, RULES, BlockedError, Edits, Order, joined, pass_through
from edgekit.passes.fuse.permutation_certificate import Witness
from edgekit.passes.fuse.reader import SPLITS, Reader, shape_of
from edgekit.passes.fuse.shuffles import Shuffle, find_shuffles
from edgekit.program import Program, arguments, insert_constant, is_getitem, module_path

_aten = torch.ops.aten

RULE = "permutation"

MOST_SLICES = 24
"""A permutation that takes more slices stays as it is."""


@dataclass(slots=True)
class Attempt:
    """One walk through the program with some permutations taken out.

    Attributes:
        orders: How each node's value is held where not in its own order.
        picked: For each permutation taken out, the channels of its held inputs, one after the other, in the order kept.
        gathered: For each one that stays but whose inputs are held in another order, the channels it has to pick.
        blocked: The latest permutation of an order that got stuck, and the reason.
    """

    edits: Edits
    orders: dict[Node, Order] = field(default_factory=dict)
    picked: dict[Node, Tensor] = field(default_factory=dict)
    gathered: dict[Node, Tensor] = field(default_factory=dict)
    blocked: tuple[Node, str] | None = None


def remove_permutations(program: Program, allowed: Callable[[Node], bool], log: Log) -> list[RegionCertificate]:
    """Takes out every permutation whose order finds its end in weights, in place, and certifies each.

    Raises:
        ParityError: A permutation was not what its weights were ordered for.
    """
    shuffles = find_shuffles(program, allowed)
    if not shuffles:
        return []
    reader, enabled = Reader(program), dict(shuffles)
    while True:
        attempt = _walk(reader, shuffles, enabled, allowed)
        if attempt.blocked is None:
            break
        node, reason = attempt.blocked
        log.decline(RULE, module_path(node) or node.name, reason)
        del enabled[node]
    witness, certificates, found = Witness(reader, dict(shuffles), attempt.orders), [], dict(shuffles)
    attempt.edits.carry_out()
    witness.observe()
    for node in shuffles:
        shuffle = shuffles[node]
        if node in attempt.picked:
            new = _arranged(program, shuffle, attempt.picked[node])
            log.fired[RULE] += 1
        elif node in attempt.gathered:
            new = _gathered(program, shuffle, attempt.gathered[node])
        else:
            continue
        certificates.append(witness.certify(found[node], shuffle, new))
        node.replace_all_uses_with(new)
        # A permutation that reads this one's result has to read what it became.
        for later, other in shuffles.items():
            inputs = tuple(new if used is node else used for used in other.inputs)
            shuffles[later] = replace(other, inputs=inputs)
    return certificates


def _walk(
    reader: Reader, shuffles: dict[Node, Shuffle], enabled: dict[Node, Shuffle], allowed: Callable[[Node], bool]
) -> Attempt:
    """Follows every order through the program until one is blocked."""
    attempt = Attempt(Edits(reader))
    number = {node: index for index, node in enumerate(reader.program.graph.nodes)}
    inside = {node for shuffle in shuffles.values() for node in shuffle.inside}
    for node in reader.program.graph.nodes:
        if node in inside:
            continue
        try:
            order = _visit(node, shuffles, enabled, attempt, allowed)
        except BlockedError as reason:
            stuck = [attempt.orders[used] for used in node.all_input_nodes if used in attempt.orders]
            origins = {origin for order in stuck for origin in order.origins} | ({node} & enabled.keys())
            site = module_path(node) or node.name
            text = str(reason) if node in enabled else f"{reason} ({site})"
            attempt.blocked = max(origins, key=lambda origin: number[origin]), text
            return attempt
        if order is not None:
            attempt.orders[node] = order
    return attempt


def _visit(
    node: Node,
    shuffles: dict[Node, Shuffle],
    enabled: dict[Node, Shuffle],
    attempt: Attempt,
    allowed: Callable[[Node], bool],
) -> Order | None:
    shuffle = shuffles.get(node)
    if shuffle is None:
        if not any(used in attempt.orders for used in node.all_input_nodes):
            return None
        if not allowed(node) and node.op == "call_function":
            raise BlockedError("what it would change is left out by --only or --no-fuse")
        return pass_through(node, attempt.orders, attempt.edits)
    held = joined(list(shuffle.inputs), attempt.orders)
    if node not in enabled:
        if held.origins:
            attempt.gathered[node] = _inverse(held.index)[shuffle.order]
        return None
    # Position p of the held inputs is channel `natural[p]` of the result.
    natural = _inverse(shuffle.order)[held.index]
    positions = torch.argsort(_group_of(node, len(natural))[natural], stable=True)
    count = len(_runs(positions, shuffle))
    if count > MOST_SLICES:
        raise BlockedError(f"it would take {count} slices")
    attempt.picked[node] = positions
    order = Order(natural[positions], held.origins | {node})
    return None if torch.equal(order.index, torch.arange(len(natural))) else order


def _inverse(order: Tensor) -> Tensor:
    return torch.argsort(order)


def _group_of(shuffle: Node, channels: int) -> Tensor:
    """For each channel of a permutation's result, the number of the set that its readers need held together."""
    cuts, seen, pending = {0, channels}, {shuffle}, [shuffle]
    while pending:
        for user in pending.pop().users:
            cuts |= _cuts(user, channels)
            passes = user.target in PASSING or user.target in RULES or is_getitem(user)
            absorbs = user.target in (*SPLITS, *LAYERS, _aten.cat.default, *_SLICES)
            if user not in seen and passes and not absorbs and shape_of(user)[1:2] == (channels,):
                seen.add(user)
                pending.append(user)
    bounds = torch.tensor(sorted(cuts))
    return torch.bucketize(torch.arange(channels), bounds, right=True)


_SLICES = (_aten.slice.Tensor, _aten.narrow.default)


def _cuts(user: Node, channels: int) -> set[int]:
    """Where a reader needs the channels before and behind apart."""
    if user.target in LAYERS[:2]:
        groups = int(arguments(user)["groups"])
        return set(range(0, channels, channels // groups)) if 1 < groups < channels else set()
    if user.target in SPLITS:
        sizes = torch.tensor([part.shape[1] for part in user.meta["val"]])
        return set(sizes.cumsum(0).tolist())
    if user.target in _SLICES and arguments(user)["dim"] == 1:
        start = int(arguments(user)["start"] or 0) % channels
        return {start, start + shape_of(user)[1]}
    return set()


def _runs(positions: Tensor, shuffle: Shuffle) -> list[tuple[int, int, int]]:
    """Stretches of positions that follow each other in one input: (input, first, count), in order."""
    owner: list[int] = []
    local: list[int] = []
    for number, node in enumerate(shuffle.inputs):
        channels = shape_of(node)[1]
        owner += [number] * channels
        local += range(channels)
    runs: list[tuple[int, int, int]] = []
    for position in positions.tolist():
        number, channel = owner[position], local[position]
        if runs and runs[-1][0] == number and runs[-1][1] + runs[-1][2] == channel:
            runs[-1] = (number, runs[-1][1], runs[-1][2] + 1)
        else:
            runs.append((number, channel, 1))
    return runs


def _arranged(program: Program, shuffle: Shuffle, positions: Tensor) -> Node:
    """The held inputs, or slices of them, one after the other."""
    runs = _runs(positions, shuffle)
    pieces: dict[tuple[int, int, int], Node] = {}
    for number, source in enumerate(shuffle.inputs):
        own = sorted(run for run in runs if run[0] == number)
        pieces |= dict(zip(own, _slices(program, shuffle.node, source, [run[2] for run in own]), strict=True))
    parts = [pieces[run] for run in runs]
    if len(parts) == 1:
        return parts[0]
    return _call(program, shuffle.node, _aten.cat.default, parts, 1)


def _slices(program: Program, before: Node, source: Node, sizes: list[int]) -> list[Node]:
    """A node's value split along its channels; the node itself where it stays whole."""
    if len(sizes) == 1:
        return [source]
    split = _call(program, before, _aten.split_with_sizes.default, source, sizes, 1)
    split.meta["val"] = source.meta["val"].split(sizes, 1)
    parts = []
    for index, value in enumerate(split.meta["val"]):
        parts.append(_call(program, before, getitem, split, index))
        parts[-1].meta["val"] = value
    return parts


def _gathered(program: Program, shuffle: Shuffle, channels: Tensor) -> Node:
    """The permutation as one operator, from inputs held in another order."""
    whole = shuffle.inputs[0]
    if len(shuffle.inputs) > 1:
        whole = _call(program, shuffle.node, _aten.cat.default, list(shuffle.inputs), 1)
    index = insert_constant(program, shuffle.node, f"{module_path(shuffle.node)}.order".lstrip("."), channels)
    return _call(program, shuffle.node, _aten.index_select.default, whole, 1, index)


def _call(program: Program, before: Node, target: object, *args: object) -> Node:
    with program.graph.inserting_before(before):
        node = program.graph.call_function(target, args)  # type: ignore[arg-type]
    node.meta = dict(before.meta)
    return node
