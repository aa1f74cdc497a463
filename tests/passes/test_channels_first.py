"""Channels-last maps computed with their channels first: the same values, no transposes left, and what stays."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from edgekit.artifact import Certificate, Shape
from edgekit.capture import capture
from edgekit.errors import ParityError
from edgekit.passes.base import Log, apply, prove
from edgekit.passes.lower.channels_first import ChannelsFirst, NormForm
from edgekit.program import Program, clone, operator_counts
from tests.passes.materialising import EXACT_DB, image, probes, proved

SHAPE: Shape = (2, 4, 6, 5)
FORMS: tuple[NormForm, ...] = ("transposed", "reduced")


class Net(nn.Module):
    """A function of a channels-last map, between two convolutions."""

    def __init__(self, function: Callable[..., Tensor], *layers: nn.Module, channels_out: int = 4) -> None:
        super().__init__()
        self.function = function
        self.layers = nn.ModuleList(layers)
        self.conv = nn.Conv2d(4, 4, 1)
        self.last = nn.Conv2d(channels_out, 2, 1)
        with torch.no_grad():
            for index, parameter in enumerate(self.parameters()):
                parameter.copy_(image(tuple(parameter.shape), seed=index + 1))

    def forward(self, x: Tensor) -> Tensor:
        y = self.function(self.conv(x).permute(0, 2, 3, 1), *self.layers)
        result: Tensor = self.last(y.permute(0, 3, 1, 2))
        return result


def first(
    function: Callable[..., Tensor], *layers: nn.Module, norm: NormForm, **options: int
) -> tuple[Program, Certificate]:
    program = capture(Net(function, *layers, **options).eval(), SHAPE)
    after, certificate = proved(ChannelsFirst(norm), prove(program, probes(SHAPE)), SHAPE, EXACT_DB)
    return after.program, certificate


@pytest.mark.parametrize("norm", FORMS)
@pytest.mark.parametrize(
    ("function", "layers", "fired"),
    [
        pytest.param(lambda y, fc: fc(y), [nn.Linear(4, 4)], {"linear": 1}, id="linear"),
        pytest.param(lambda y, fc: fc(y), [nn.Linear(4, 4, bias=False)], {"linear": 1}, id="linear, no bias"),
        pytest.param(lambda y, fc: y + functional.gelu(fc(y)), [nn.Linear(4, 4)], {"linear": 1, "gelu": 1, "add": 1}),
        pytest.param(
            lambda y, a, b: a(y) * torch.sigmoid(b(y)),
            [nn.Linear(4, 4), nn.Linear(4, 4)],
            {"linear": 2, "sigmoid": 1, "mul": 1},
            id="gate",
        ),
        pytest.param(lambda y: 2.0 * y + 1.0, [], {"mul": 1, "add": 1}, id="numbers"),
    ],
)
def test_a_channels_last_stretch_has_no_transpose_left(
    norm: NormForm, function: Callable[..., Tensor], layers: list[nn.Module], fired: dict[str, int]
) -> None:
    after, certificate = first(function, *layers, norm=norm)

    assert certificate.fired == fired
    counts = operator_counts(after)
    assert counts["permute"] == 0
    assert counts["linear"] == 0
    assert counts["conv2d"] == 2 + fired.get("linear", 0)
    assert certificate.after.macs == certificate.before.macs
    assert certificate.after.parameters == certificate.before.parameters


@pytest.mark.parametrize("scaled", [True, False])
def test_a_norm_keeps_its_kernel_between_two_transposes_or_is_written_out(scaled: bool) -> None:
    layer = nn.LayerNorm(4, elementwise_affine=scaled)
    kept, _ = first(lambda y, norm: norm(y) + y, layer, norm="transposed")
    assert operator_counts(kept)["layer_norm"] == 1
    assert operator_counts(kept)["permute"] == 2

    written, certificate = first(lambda y, norm: norm(y) + y, layer, norm="reduced")
    counts = operator_counts(written)
    assert (counts["layer_norm"], counts["permute"]) == (0, 0)
    assert (counts["mean"], counts["rsqrt"]) == (2, 1)
    assert certificate.fired == {"layer_norm": 1, "add": 1}


def test_vectors_and_maps_of_constants_are_turned_as_well() -> None:
    class Shifted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.vector = nn.Parameter(torch.ones(4))
            self.map = nn.Parameter(torch.ones(1, 6, 5, 4))

        def forward(self, y: Tensor) -> Tensor:
            result: Tensor = y * self.vector + self.map
            return result

    after, certificate = first(lambda y, shift: shift(y), Shifted(), norm="reduced")
    assert certificate.fired == {"mul": 1, "add": 1}
    assert operator_counts(after)["permute"] == 0


def test_a_mean_over_the_map_needs_no_transpose() -> None:
    class Pooled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 4)
            self.head = nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            result: Tensor = self.head(self.fc(x.permute(0, 2, 3, 1)).mean((1, 2)))
            return result

    program = capture(Pooled().eval(), SHAPE)
    after, certificate = proved(ChannelsFirst("reduced"), prove(program, probes(SHAPE)), SHAPE, EXACT_DB)
    assert certificate.fired == {"linear": 1, "mean": 1}
    assert operator_counts(after.program) == {"conv2d": 1, "mean": 1, "linear": 1}


@pytest.mark.parametrize("norm", FORMS)
def test_where_channels_last_are_needed_the_map_is_transposed_once(norm: NormForm) -> None:
    def attended(y: Tensor, fc: nn.Module) -> Tensor:
        z = fc(y)
        result: Tensor = z.softmax(2) + z.softmax(1)
        return result

    after, certificate = first(attended, nn.Linear(4, 4), norm=norm)
    assert certificate.fired == {"linear": 1}
    counts = operator_counts(after)
    assert counts["permute"] == 2  # for the softmaxes, and what the network itself does at the end
    assert (counts["conv2d"], counts["linear"]) == (3, 0)


def test_a_network_that_returns_channels_last_still_does() -> None:
    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            result: Tensor = self.fc(x.permute(0, 2, 3, 1))
            return result

    program = capture(Last().eval(), SHAPE)
    after, _ = proved(ChannelsFirst("reduced"), prove(program, probes(SHAPE)), SHAPE, EXACT_DB)
    assert operator_counts(after.program) == {"conv2d": 1, "permute": 1}
    assert after.program.graph.output_node().all_input_nodes[0].meta["val"].shape == (2, 6, 5, 3)


@pytest.mark.parametrize(
    "function",
    [
        pytest.param(lambda x: x.permute(0, 2, 3, 1).softmax(-1), id="no operator that can be turned"),
        pytest.param(lambda x: functional.relu(x.permute(0, 3, 2, 1)), id="another transpose"),
        pytest.param(lambda x: functional.relu(x), id="channels first already"),
    ],
)
def test_other_networks_stay(function: Callable[[Tensor], Tensor]) -> None:
    class Only(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return function(x)

    log = Log()
    ChannelsFirst("reduced")(clone(capture(Only().eval(), SHAPE)), log)
    assert not log.fired


def test_a_norm_without_its_eps_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    from edgekit.passes.lower import channels_first

    right = channels_first._Walk._reduced_norm

    def wrong(self: object, node: object, source: object, scale: object, shift: object, eps: float) -> object:
        return right(self, node, source, scale, shift, 100 * eps)  # type: ignore[arg-type]

    monkeypatch.setattr(channels_first._Walk, "_reduced_norm", wrong)
    program = capture(Net(lambda y, norm: norm(y), nn.LayerNorm(4, eps=1e-3)).eval(), SHAPE)
    with pytest.raises(ParityError, match="Pass 'channels-first' changed the network"):
        apply(ChannelsFirst("reduced"), prove(program, probes(SHAPE)), probes(SHAPE), gate_db=120.0)
