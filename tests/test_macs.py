"""MACs: exact figures of the shipped networks, and half of what torch's own counter counts, operator by operator."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from edgekit.artifact import Shape
from edgekit.capture import capture
from edgekit.models.build import build
from edgekit.models.cards import CARDS
from edgekit.program import Program, operators, stats

FIGURES = [  # name, parameters, MACs at 224 x 224
    pytest.param("parcnetv2_t", 24_935_144, 4_269_260_288, id="t"),
    pytest.param("parcnetv2_s", 39_436_520, 7_780_626_944, id="s"),
    pytest.param("parcnetv2_b", 56_368_360, 12_491_869_248, id="b"),
]


def test_the_smallest_captured_network_has_exactly_the_published_size(smallest: Program) -> None:
    size, card = stats(smallest), CARDS["parcnetv2_xt"]
    assert (size.parameters, size.macs) == (card.parameters, card.macs) == (7_427_720, 1_553_449_088)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "parameters", "macs"), FIGURES)
def test_the_captured_networks_have_exactly_the_published_size(name: str, parameters: int, macs: int) -> None:
    size, card = stats(capture(build(name, None), CARDS[name].input_shape)), CARDS[name]
    assert (size.parameters, size.macs) == (card.parameters, card.macs) == (parameters, macs)


class Operation(nn.Module):
    """A function of the input and of weights of the given shapes."""

    def __init__(self, function: Callable[..., Tensor], *shapes: Shape) -> None:
        super().__init__()
        self.function = function
        self.weights = nn.ParameterList([torch.ones(shape) for shape in shapes])

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, *self.weights)


def counted(model: nn.Module, shape: Shape) -> int:
    return stats(capture(model.eval(), shape)).macs


def attention(x: Tensor, key: Tensor, value: Tensor) -> Tensor:
    return functional.scaled_dot_product_attention(x, key, value)


AGREEING: dict[str, tuple[nn.Module, Shape, int]] = {  # model, input shape, MACs by hand
    "conv2d": (nn.Conv2d(3, 8, 3, padding=1), (2, 3, 8, 9), 2 * 8 * 8 * 9 * 27),
    "conv2d-stride-dilation": (nn.Conv2d(3, 8, 3, stride=2, dilation=2), (1, 3, 9, 9), 8 * 3 * 3 * 27),
    "conv2d-grouped": (nn.Conv2d(4, 8, 3, groups=2), (1, 4, 8, 9), 8 * 6 * 7 * 18),
    "conv2d-depthwise": (nn.Conv2d(4, 4, (5, 1), groups=4, bias=False), (1, 4, 8, 9), 4 * 4 * 9 * 5),
    "conv2d-padding-same": (nn.Conv2d(3, 8, 3, padding="same"), (1, 3, 8, 9), 8 * 8 * 9 * 27),
    "conv1d": (nn.Conv1d(4, 6, 3), (2, 4, 9), 2 * 6 * 7 * 12),
    "conv1d-padding-same": (nn.Conv1d(4, 6, 3, padding="same"), (2, 4, 9), 2 * 6 * 9 * 12),
    "conv3d": (nn.Conv3d(2, 3, 2), (1, 2, 4, 4, 4), 3 * 27 * 16),
    "conv3d-padding-same": (nn.Conv3d(2, 3, 3, padding="same"), (1, 2, 4, 4, 4), 3 * 64 * 54),
    "transposed2d": (nn.ConvTranspose2d(4, 6, 3, stride=2), (2, 4, 5, 6), 2 * 4 * 30 * 54),
    "transposed2d-grouped": (nn.ConvTranspose2d(4, 6, 3, stride=2, groups=2), (1, 4, 5, 6), 4 * 30 * 27),
    "transposed1d": (nn.ConvTranspose1d(4, 6, 3, stride=2), (2, 4, 5), 2 * 4 * 5 * 18),
    "transposed3d": (nn.ConvTranspose3d(4, 6, 2), (1, 4, 3, 3, 3), 4 * 27 * 48),
    "linear": (nn.Linear(4, 6), (2, 4), 2 * 24),
    "linear-on-a-map": (nn.Linear(4, 6, bias=False), (2, 5, 7, 4), 2 * 35 * 24),
    "mm": (Operation(torch.mm, (4, 6)), (3, 4), 72),
    "matmul": (Operation(torch.matmul, (4, 6)), (2, 3, 4), 144),
    "matmul-broadcast": (Operation(torch.matmul, (5, 4, 6)), (2, 1, 3, 4), 2 * 5 * 72),
    "bmm": (Operation(torch.bmm, (2, 4, 6)), (2, 3, 4), 144),
    "addmm": (Operation(lambda x, w, b: torch.addmm(b, x, w), (4, 6), (6,)), (3, 4), 72),
    "baddbmm": (Operation(lambda x, w, b: torch.baddbmm(b, x, w), (2, 4, 6), (2, 3, 6)), (2, 3, 4), 144),
    "einsum": (Operation(lambda x, w: torch.einsum("bij, bjk -> bik", x, w), (2, 4, 6)), (2, 3, 4), 144),
    "einsum-toeplitz": (Operation(lambda x, w: torch.einsum("nchw,chk->nckw", x, w), (3, 5, 7)), (2, 3, 5, 4), 840),
    "einsum-implicit": (Operation(lambda x, w: torch.einsum("ij,jk", x, w), (4, 6)), (3, 4), 72),
    "einsum-ellipsis": (Operation(lambda x, w: torch.einsum("...ij,jk->...ik", x, w), (4, 6)), (2, 3, 4), 144),
    "einsum-transpose": (Operation(lambda x: torch.einsum("ij->ji", x)), (3, 4), 0),
    "einsum-three": (Operation(lambda x, w, v: torch.einsum("ij,jk,kl->il", x, w, v), (4, 5), (5, 6)), (3, 4), 150),
    "einsum-three-implicit": (
        Operation(lambda x, w, v: torch.einsum("ij,jk,kl", x, w, v), (4, 5), (5, 6)),
        (3, 4),
        150,
    ),
    "tensordot": (Operation(lambda x, w: torch.tensordot(x, w, dims=2), (3, 4, 5)), (2, 3, 4), 120),
    "tensordot-last": (Operation(lambda x, w: torch.tensordot(x, w, dims=1), (4, 5)), (2, 3, 4), 120),
    "inner": (Operation(torch.inner, (5, 4)), (3, 4), 60),
    "attention": (Operation(attention, (2, 3, 7, 4), (2, 3, 7, 6)), (2, 3, 5, 4), 2 * 3 * 5 * 7 * (4 + 6)),
    "nothing-to-count": (nn.Sequential(nn.BatchNorm2d(3), nn.GELU(), nn.AvgPool2d(2)), (1, 3, 4, 4), 0),
}


@pytest.mark.parametrize(("model", "shape", "by_hand"), AGREEING.values(), ids=AGREEING)
def test_macs_are_half_of_what_torch_counts(model: nn.Module, shape: Shape, by_hand: int) -> None:
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        model.eval()(torch.ones(shape))
    assert counter.get_total_flops() == 2 * by_hand
    assert counted(model, shape) == by_hand


def test_self_attention_of_a_whole_layer() -> None:
    """Two projections in, four heads of scores and sums, one projection out; torch's counter is blind to its kernel."""
    layer = nn.MultiheadAttention(8, 4, batch_first=True)
    tokens, width = 5, 8
    by_hand = 4 * tokens * width * width + 2 * tokens * tokens * width
    assert counted(Operation(lambda x: layer(x, x, x)[0]), (1, tokens, width)) == by_hand


VECTORS: dict[str, tuple[nn.Module, Shape, int]] = {
    "matmul": (Operation(torch.matmul, (4,)), (2, 3, 4), 24),
    "mv": (Operation(torch.mv, (4,)), (3, 4), 12),
    "dot": (Operation(torch.dot, (4,)), (4,), 4),
    "addmv": (Operation(lambda x, v, b: torch.addmv(b, x, v), (4,), (3,)), (3, 4), 12),
    "einsum": (Operation(lambda x, v: torch.einsum("ij,j->i", x, v), (4,)), (3, 4), 12),
    "einsum-gated": (
        Operation(lambda x, w, v: torch.einsum("...ij,jk,k->...i", x, w, v), (4, 5), (5,)),
        (2, 3, 4),
        150,
    ),
}
"""torch counts none of these, or not all of them."""


@pytest.mark.parametrize(("model", "shape", "by_hand"), VECTORS.values(), ids=VECTORS)
def test_products_with_a_vector(model: nn.Module, shape: Shape, by_hand: int) -> None:
    assert counted(model, shape) == by_hand


def test_macs_of_a_chain_are_the_sum_over_its_operators() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 2, 3))
    program = capture(model.eval(), (1, 3, 6, 6))
    assert [node.target for node in operators(program)].count(torch.ops.aten.conv2d.default) == 2
    assert stats(program).macs == 36 * 12 + 2 * 16 * 36
