"""The float64 yardstick: the matrix form of a depthwise convolution is the convolution, and models stay as they are."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from edgekit.capture import capture
from edgekit.models.weights import random_weights
from edgekit.network import Network
from edgekit.program import fingerprint
from edgekit.reference import ReferenceArithmetic, depthwise_matmul, model_in_float64, program_in_float64

CHANNELS = 3
PAIR = st.tuples(st.integers(1, 3), st.integers(1, 3))


def values(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@settings(max_examples=150, deadline=None)
@given(
    sides=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    taps=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    stride=PAIR,
    padding=st.tuples(st.integers(0, 9), st.integers(0, 9)),
    dilation=PAIR,
    bias=st.booleans(),
    batch=st.integers(1, 2),
)
def test_matrix_products_are_the_convolution(
    sides: tuple[int, int],
    taps: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    bias: bool,
    batch: int,
) -> None:
    reach = [step * (count - 1) + 1 for step, count in zip(dilation, taps, strict=True)]
    padding = tuple(  # type: ignore[assignment]
        max(pad, (need - side + 1) // 2) for pad, need, side in zip(padding, reach, sides, strict=True)
    )
    source, weight = values(batch, CHANNELS, *sides), values(CHANNELS, 1, *taps, seed=1)
    offset = values(CHANNELS, seed=2) if bias else None

    expected = functional.conv2d(source, weight, offset, stride, padding, dilation, CHANNELS)

    found = depthwise_matmul(source, weight, offset, stride, padding, dilation)
    assert found.shape == expected.shape
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Conv2d(4, 4, (13, 1), padding=(6, 0), groups=4), (2, 4, 7, 5)),
        (nn.Conv2d(4, 4, 7, stride=2, padding=3, groups=4, bias=False), (1, 4, 9, 8)),
        (nn.Conv2d(4, 4, 3, padding="same", groups=4), (1, 4, 5, 5)),
        (nn.Conv2d(4, 8, 3, groups=4), (1, 4, 5, 5)),
        (nn.Conv2d(4, 4, 3, groups=2), (1, 4, 5, 5)),
        (nn.Conv2d(1, 1, 3), (1, 1, 5, 5)),
        (nn.Conv1d(4, 4, 3, groups=4), (1, 4, 5)),
        (nn.ConvTranspose2d(4, 4, 3, groups=4), (1, 4, 5, 5)),
        (nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular", groups=4), (1, 4, 5, 5)),
    ],
    ids=["oversized", "stride", "same", "multiplier", "grouped", "one-channel", "1d", "transposed", "circular"],
)
def test_the_context_changes_no_convolution(layer: nn.Module, shape: tuple[int, ...]) -> None:
    layer, source = layer.double().eval(), values(*shape)
    with torch.no_grad():
        expected = layer(source)
        with ReferenceArithmetic():  # type: ignore[no-untyped-call]
            found = layer(source)
    torch.testing.assert_close(found, expected, rtol=1e-13, atol=1e-13)


def test_one_number_holds_for_height_and_width() -> None:
    """What `torch.ops.aten.conv2d` and captured programs may pass on."""
    source, weight = values(1, 4, 9, 8), values(4, 1, 3, 3, seed=1)
    expected = functional.conv2d(source, weight, stride=2, padding=1, dilation=2, groups=4)
    with ReferenceArithmetic():  # type: ignore[no-untyped-call]
        found = torch.ops.aten.convolution(source, weight, None, [2], [1], [2], False, [0], 4)
    torch.testing.assert_close(found, expected, rtol=1e-13, atol=1e-13)


def test_the_context_leaves_float32_to_torch() -> None:
    layer, source = nn.Conv2d(4, 4, 7, padding=3, groups=4).eval(), values(1, 4, 9, 9).float()
    with torch.no_grad():
        expected = layer(source)
        with ReferenceArithmetic():  # type: ignore[no-untyped-call]
            assert layer(source).equal(expected)


def network() -> nn.Sequential:
    model = nn.Sequential(nn.Conv2d(3, 6, 3), nn.Conv2d(6, 6, 5, padding=2, groups=6), nn.BatchNorm2d(6), nn.GELU())
    random_weights(model, seed=1)
    return model.eval()


def test_a_model_in_float64_leaves_the_model_untouched() -> None:
    model = network()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    source = values(1, 3, 8, 8).float()

    result = model_in_float64(model)(source)[0]

    assert result.dtype is torch.float64
    assert not result.requires_grad
    after = model.state_dict()
    assert all(after[name].equal(value) and after[name].dtype is value.dtype for name, value in before.items())
    assert not model.training
    with torch.no_grad():
        torch.testing.assert_close(result, network().double()(source.double()), rtol=1e-13, atol=1e-13)


def test_a_model_in_float64_does_not_follow_the_model() -> None:
    model, source = network(), values(1, 3, 8, 8).float()
    forward = model_in_float64(model)
    (before,) = forward(source)
    with torch.no_grad():
        next(model.parameters()).zero_()
    assert forward(source)[0].equal(before)


def test_a_program_in_float64_leaves_the_program_untouched_and_is_the_model_in_float64() -> None:
    model, source = network(), values(1, 3, 8, 8).float()
    program = capture(model, (1, 3, 8, 8))
    before = fingerprint(program)

    result = program_in_float64(program)(source)[0]

    assert fingerprint(program) == before
    torch.testing.assert_close(result, model_in_float64(model)(source)[0], rtol=1e-13, atol=1e-13)


def test_the_reference_of_a_network_is_what_its_captured_program_gives_in_float64(tiny: Network) -> None:
    forward = program_in_float64(tiny.programs["capture"])
    for case in tiny.reference.cases:
        (found,), (expected,) = forward(*map(torch.from_numpy, case.inputs)), case.outputs
        assert found.dtype is torch.float64
        torch.testing.assert_close(found, torch.from_numpy(expected.values), rtol=1e-12, atol=1e-12)
