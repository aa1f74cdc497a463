"""Blocks of pixels as channels and back, by channels last: the same bits, and what is left alone."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from edgekit.artifact import Shape
from edgekit.errors import ParityError
from edgekit.passes.base import Log, apply, prove
from edgekit.passes.lower import LOWERINGS, blocks_last
from edgekit.passes.lower.blocks_last import BlocksLast
from edgekit.passes.lower.kernel_forms import KernelForms
from edgekit.program import clone, finish, operator_counts, run
from tests.passes.materialising import before_gelu, captured, image, probes, proved

EXACT_DB = 250.0
SHAPE: Shape = (2, 6, 12, 10)


def deep(x: Tensor) -> Tensor:
    return x.reshape(2, 6, 3, 4, 5, 2).permute(0, 1, 3, 5, 2, 4).reshape(2, 48, 3, 5).exp()


def wide(x: Tensor) -> Tensor:
    return x.reshape(2, 1, 3, 2, 12, 10).permute(0, 1, 4, 2, 5, 3).reshape(2, 1, 36, 20).exp()


@pytest.mark.parametrize("function", [deep, wide])
def test_blocks_go_by_channels_last(function: Callable[[Tensor], Tensor]) -> None:
    program = captured(function, SHAPE)
    proven, certificate = proved(BlocksLast(), prove(program, probes(SHAPE)), SHAPE, EXACT_DB)

    assert certificate.fired == {"blocks-last": 1}
    assert operator_counts(proven.program) == {"permute": 3, "reshape": 2, "exp": 1}
    assert torch.equal(run(proven.program, image(SHAPE))[0], run(program, image(SHAPE))[0])


def test_a_polyphase_kernel_goes_both_ways() -> None:
    program = before_gelu(nn.Conv2d(6, 6, 7, padding=3, groups=6), SHAPE)
    KernelForms(("polyphase",))(program, Log())
    finish(program)
    _, certificate = proved(BlocksLast(), prove(program, probes(SHAPE)), SHAPE, EXACT_DB)
    assert certificate.fired == {"blocks-last": 2}


def read_twice(x: Tensor) -> Tensor:
    blocks = x.reshape(2, 6, 3, 4, 5, 2)
    return blocks.permute(0, 1, 3, 5, 2, 4).reshape(2, 48, 3, 5).sum() * blocks


def one_row(x: Tensor) -> Tensor:
    return x.reshape(2, 6, 3, 4, 5, 2).permute(0, 1, 3, 5, 2, 4).reshape(2, -1)


def tokens(x: Tensor) -> Tensor:
    return x.reshape(2, 6, 3, 4, 5, 2).permute(0, 2, 4, 3, 5, 1).reshape(2, 15, 48)


def to_the_end(x: Tensor) -> Tensor:
    return x.reshape(2, 6, 3, 4, 5, 2).permute(0, 1, 3, 5, 2, 4)


@pytest.mark.parametrize("function", [read_twice, one_row, tokens, to_the_end])
def test_other_orders_stay(function: Callable[[Tensor], Tensor]) -> None:
    program, log = captured(function, SHAPE), Log()
    after = clone(program)
    BlocksLast()(after, log)
    assert not log.fired
    assert operator_counts(finish(after)) == operator_counts(program)


def test_blocks_in_another_order_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def turned(six: Shape) -> tuple[Shape, Shape, Shape]:
        n, c, h, s, w, t = six
        return (n, c, h * s, w * t), (n, h, t, w, s, c), (n, c * s * t, h, w)

    monkeypatch.setattr(blocks_last, "ORDERS", {(0, 1, 3, 5, 2, 4): turned})
    with pytest.raises(ParityError, match="Pass 'blocks-last' changed the network"):
        apply(BlocksLast(), prove(captured(deep, SHAPE), probes(SHAPE)), probes(SHAPE), gate_db=100.0)


def test_tflite_has_it_after_the_kernels_have_their_forms() -> None:
    having = {key for key, lowering in LOWERINGS.items() if any(isinstance(one, BlocksLast) for one in lowering.after)}
    assert having == {("tflite", "fp32"), ("tflite", "int8")}
