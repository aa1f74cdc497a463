"""Channel permutations: folded into the weights behind them, or left with the reason."""

import re
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from edgekit.artifact import RegionCertificate, RegionSize
from edgekit.capture import capture
from edgekit.errors import ParityError
from edgekit.passes.base import Log
from edgekit.passes.fuse import Fuse, permute
from edgekit.passes.fuse.orders import Edits
from edgekit.program import arguments, clone, constant, module_path, operator_counts
from tests.passes.fusing import SHAPE, Calls, conv, fused, norm, reasons

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")


def by_view(x: Tensor, groups: int = 2) -> Tensor:
    n, c, h, w = x.shape
    return x.view(n, groups, c // groups, h, w).transpose(1, 2).contiguous().view(n, c, h, w)


def by_unflatten(x: Tensor) -> Tensor:
    return torch.unflatten(x, 1, (4, 2)).transpose(1, 2).flatten(1, 2)


def by_operator(x: Tensor) -> Tensor:
    return torch.channel_shuffle(x, 2)


def by_index(x: Tensor) -> Tensor:
    return x.index_select(1, torch.tensor([7, 6, 5, 4, 3, 2, 1, 0]))


def interleaved(x: Tensor) -> Tensor:
    return torch.stack((x.relu(), x.sigmoid()), dim=2).flatten(1, 2)


def by_list(x: Tensor) -> Tensor:
    return x[:, torch.tensor([2, 1, 0, 3, 4, 7, 5, 6])]


def flipped(x: Tensor) -> Tensor:
    return x.flip(1)


SHUFFLES: dict[str, Callable[[Tensor], Tensor]] = {
    "view": by_view,
    "unflatten": by_unflatten,
    "operator": by_operator,
    "index": by_index,
    "list": by_list,
    "flip": flipped,
}


@pytest.mark.parametrize("name", SHUFFLES)
def test_a_shuffle_becomes_an_order_of_weights(name: str) -> None:
    torch.manual_seed(0)
    model = Calls(
        lambda m, x: m.point(torch.relu(m.norm(m.depth(SHUFFLES[name](torch.tanh(m.first(x))))))).mean((2, 3)),
        first=conv(1),
        depth=conv(groups=8),
        norm=norm(),
        point=conv(1),
    )
    program, _, _ = fused(model)

    assert operator_counts(program) == {"conv2d": 3, "tanh": 1, "relu": 1, "mean": 1}


def test_a_gate_and_a_pool_pass_an_order_on() -> None:
    torch.manual_seed(0)

    def forward(m: nn.Module, x: Tensor) -> Tensor:
        y = by_view(torch.relu(m.first(x)))  # type: ignore[operator]
        y = nn.functional.max_pool2d(y * torch.sigmoid(y) + 1.0, 2)
        return m.head(y.mean((2, 3)))  # type: ignore[operator, no-any-return]

    program, _, _ = fused(Calls(forward, first=conv(), head=nn.Linear(8, 5)))

    assert not {"view", "transpose", "contiguous", "index_select"} & operator_counts(program).keys()


def test_an_interleaved_concat_becomes_slices_where_groups_read_it() -> None:
    torch.manual_seed(0)
    model = Calls(
        lambda m, x: m.head(by_view(torch.relu(m.grouped(interleaved(x))))),
        grouped=conv(groups=2, c_in=16, c_out=16),
        head=conv(1, c_in=16),
    )
    program, _, _ = fused(model)

    assert operator_counts(program) == {
        "relu": 2,
        "sigmoid": 1,
        "split_with_sizes": 2,
        "cat": 1,
        "conv2d": 2,
    }


def test_a_permutation_of_the_output_stays() -> None:
    program, _, refusals = fused(Calls(lambda m, x: by_view(m.conv(x)), conv=conv()))

    assert operator_counts(program) == {"conv2d": 1, "reshape": 2, "transpose": 1}
    assert "output needs the channels in their own order" in reasons(refusals)


def test_a_permutation_that_mixes_groups_stays() -> None:
    torch.manual_seed(0)
    model = Calls(
        lambda m, x: m.two(by_view(torch.relu(m.one(x)), 4)),
        one=conv(1, c_in=64, c_out=64),
        two=conv(1, c_in=64, c_out=64, groups=16),
    )
    program, _, refusals = fused(model, (1, 64, 5, 5))

    assert operator_counts(program)["transpose"] == 1
    assert "it would take 64 slices" in reasons(refusals)


class Unit(nn.Module):
    """A ShuffleNetV2 unit: half of the channels pass, half are convolved, and both are shuffled together."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.branch = nn.Sequential(
            nn.Conv2d(half, half, 1, bias=False),
            norm(half),
            nn.ReLU(inplace=True),
            nn.Conv2d(half, half, 3, padding=1, groups=half, bias=False),
            norm(half),
            nn.Conv2d(half, half, 1, bias=False),
            norm(half),
            nn.ReLU(inplace=True),
        )

    def forward(self, x: Tensor) -> Tensor:
        kept, rest = x.chunk(2, dim=1)
        return by_view(torch.cat((kept, self.branch(rest)), dim=1))


def test_the_shuffles_of_a_shufflenet_vanish() -> None:
    torch.manual_seed(0)
    units = [Unit(32) for _ in range(3)]
    model = nn.Sequential(conv(c_out=32), norm(32), nn.ReLU(), *units, conv(1, c_in=32, c_out=16), norm(16), nn.ReLU())
    program, certificates, _ = fused(model)
    counts = operator_counts(program)
    permutations = [each for each in certificates if each.rule == "permutation"]

    assert counts["conv2d"] == 2 + 3 * 3
    assert [each.site for each in permutations] == ["3", "4", "5"]
    assert [each.reordered for each in permutations] == [("4.branch.0",), ("5.branch.0",), ("6",)]
    assert not {"batch_norm", "view", "transpose", "contiguous", "index_select", "mul", "add"} & counts.keys()


KEEP: dict[str, Callable[[Tensor], Tensor]] = {
    "channels twice": lambda x: x.index_select(1, torch.tensor([0, 0, 1, 2, 3, 4, 5, 6])),
    "channels for rows": lambda x: x.permute(0, 2, 1, 3),
    "channels for pixels": lambda x: x.reshape(2, 64, 8).transpose(1, 2).reshape(2, 8, 8, 8),
}


@pytest.mark.parametrize("name", KEEP)
def test_what_keeps_the_shape_but_not_the_channels_ends_an_order(name: str) -> None:
    torch.manual_seed(0)
    model = Calls(lambda m, x: m.last(KEEP[name](by_operator(torch.relu(m.first(x))))), first=conv(), last=conv())
    program, _, refusals = fused(model, (2, 8, 8, 8))

    assert operator_counts(program)["channel_shuffle"] == 1
    assert re.search("channels are moved in a way that is no permutation|mixes channels with pixels", reasons(refusals))


def test_what_moves_pixels_alone_passes_an_order_on() -> None:
    torch.manual_seed(0)
    model = Calls(
        lambda m, x: m.last(by_operator(torch.relu(m.first(x))).transpose(2, 3).flip(3)), first=conv(), last=conv()
    )

    assert operator_counts(fused(model)[0]) == {"conv2d": 2, "relu": 1, "transpose": 1, "flip": 1}


def test_an_order_that_is_computed_is_none() -> None:
    model = Calls(lambda m, x: m.conv(x.index_select(1, x[0, :, 0, 0].argsort())), conv=conv())

    assert operator_counts(fused(model)[0])["index_select"] == 1


def permuted(model: nn.Module) -> list[RegionCertificate]:
    return [each for each in fused(model)[1] if each.rule == "permutation"]


def test_a_certificate_tells_what_moved_maps_and_whose_weights_are_in_order_instead() -> None:
    torch.manual_seed(0)
    model = Calls(
        lambda m, x: m.point(torch.relu(m.norm(m.depth(by_view(torch.tanh(m.first(x))))))).mean((2, 3)),
        first=conv(1),
        depth=conv(groups=8),
        norm=norm(),
        point=conv(1),
    )
    (found,) = permuted(model)

    assert found.before.operators == ("view", "transpose", "contiguous", "view")
    assert found.after == RegionSize(operators=(), parameters=0, macs=0)
    assert found.reordered == ("depth", "norm", "point")
    assert (found.max_abs, found.snr_db, found.bound, found.used) == (0.0, 400.0, 0.0, 0.0)
    assert found.source_line.endswith("return self.function(self, x)")
    assert found.decision == "0 operators move maps where 4 did"


def test_what_is_left_of_an_interleaved_concat_is_in_its_certificate() -> None:
    torch.manual_seed(0)
    model = Calls(
        lambda m, x: m.head(torch.relu(m.grouped(interleaved(x)))),
        grouped=conv(groups=2, c_in=16, c_out=16),
        head=conv(1, c_in=16),
    )
    (found,) = permuted(model)

    assert found.before.operators == ("stack", "flatten")
    assert found.after.operators == ("split_with_sizes", "split_with_sizes", "cat")
    assert found.reordered == ("grouped",)


def test_permutations_that_meet_are_certified_each() -> None:
    torch.manual_seed(0)

    def forward(m: nn.Module, x: Tensor) -> Tensor:
        left, right = by_view(torch.relu(m.left(x))), by_view(torch.relu(m.right(x)))  # type: ignore[operator]
        return m.head(torch.cat((left * torch.sigmoid(right) - right, by_view(left)), 1))  # type: ignore[no-any-return, operator]

    found = permuted(Calls(forward, left=conv(), right=conv(1), head=conv(1, c_in=16)))

    assert [each.reordered for each in found] == [("head",)] * 3


@pytest.mark.parametrize("layer", ["depth", "norm", "point", "grouped", "head"])
def test_one_weight_in_the_wrong_place_is_a_parity_error(layer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)

    def forward(m: nn.Module, x: Tensor) -> Tensor:
        y = m.point(torch.relu(m.norm(m.depth(by_view(torch.tanh(x))))))  # type: ignore[operator]
        y = by_view(torch.relu(m.grouped(by_view(torch.relu(y)))))  # type: ignore[operator]
        return m.head(y.mean((2, 3)))  # type: ignore[no-any-return, operator]

    model = Calls(
        forward,
        depth=conv(groups=8),
        norm=norm(),
        point=conv(1),
        grouped=conv(1, groups=2),
        head=nn.Linear(8, 5),
    )
    program = clone(capture(model.eval(), SHAPE))
    carry_out = Edits.carry_out
    swapped: list[str] = []

    def swap_two(edits: Edits) -> None:
        carry_out(edits)
        for node, argument, _ in edits.planned:
            if module_path(node) == layer and argument == "weight":
                value = constant(program, arguments(node)["weight"])
                assert value is not None
                axis = 1 if value.ndim > 1 and value.shape[1] > 1 else 0
                first, second = value.select(axis, 0).clone(), value.select(axis, 1).clone()
                value.select(axis, 0).copy_(second)
                value.select(axis, 1).copy_(first)
                swapped.append(layer)

    monkeypatch.setattr(Edits, "carry_out", swap_two)
    message = rf"Taking out the permutation .+ changes what {layer} computes by \S+, where"
    with pytest.raises(ParityError, match=message):
        Fuse()(program, Log())
    assert swapped


def test_maps_left_in_another_order_are_a_parity_error(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model = Calls(
        lambda m, x: m.head(torch.relu(m.grouped(interleaved(x)))),
        grouped=conv(groups=2, c_in=16, c_out=16),
        head=conv(1, c_in=16),
    )
    program = clone(capture(model.eval(), SHAPE))
    runs = permute._runs
    monkeypatch.setattr(permute, "_runs", lambda positions, shuffle: runs(positions, shuffle)[::-1])
    with pytest.raises(ParityError, match=r"Taking out the permutation .+--no-fuse"):
        Fuse()(program, Log())
