"""Names of layers decode to the layers they were made of, and to nothing else."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from edgekit.dense_layer import DenseLayer, parse
from edgekit.errors import MisuseError

NAMED = {
    "convolution 64>128 at 14x14: 3x3 /2x2 padded 1x1x1x1, relu": DenseLayer(
        kind="convolution",
        inputs=64,
        outputs=128,
        size=(14, 14),
        taps=(3, 3),
        stride=(2, 2),
        padding=(1, 1, 1, 1),
        clip="relu",
    ),
    "convolution 3>8 at 9x7: 5x1 dilated 2x1, relu6": DenseLayer(
        kind="convolution", inputs=3, outputs=8, size=(9, 7), taps=(5, 1), dilation=(2, 1), clip="relu6"
    ),
    "convolution 8>8 at 1x1: 1x1": DenseLayer(kind="convolution", inputs=8, outputs=8, size=(1, 1)),
    "linear 320>1280 at 196": DenseLayer(kind="linear", inputs=320, outputs=1280, size=(196,)),
    "linear 64>10": DenseLayer(kind="linear", inputs=64, outputs=10),
}


@pytest.mark.parametrize("name", NAMED)
def test_a_name_is_a_layer(name: str) -> None:
    assert (str(NAMED[name]), parse(name)) == (name, NAMED[name])


SIDE = st.integers(1, 3000)
PAIR = st.tuples(SIDE, SIDE)
CHANNELS = {"inputs": SIDE, "outputs": SIDE}
LAYERS = st.one_of(
    st.builds(
        DenseLayer,
        kind=st.just("convolution"),
        **CHANNELS,
        size=PAIR,
        taps=PAIR,
        stride=PAIR,
        dilation=PAIR,
        padding=st.tuples(*[st.integers(0, 99)] * 4),
        clip=st.sampled_from(["", "relu", "relu6"]),
    ),
    st.builds(DenseLayer, kind=st.just("linear"), **CHANNELS, size=st.one_of(st.just(()), st.tuples(SIDE))),
)


@given(LAYERS)
def test_every_name_decodes(layer: DenseLayer) -> None:
    assert parse(str(layer)) == layer


@pytest.mark.parametrize(
    "name",
    [
        "",
        "convolution 3>8",
        "convolution 3>8 at 9x9",
        "linear 3>8: 1x1",
        "linear 3-8",
        "conv 3>8 at 9x9: 1x1",
        "x" * 99,
    ],
)
def test_what_is_no_name_is_refused_with_one(name: str) -> None:
    with pytest.raises(MisuseError, match=r"is no layer\. One is called 'convolution 64>128 at 14x14: 3x3'"):
        parse(name)


def test_what_it_gives_is_what_torch_gives() -> None:
    for layer in (each for each in NAMED.values() if each.kind == "convolution"):
        top, left, bottom, right = layer.padding
        x = nn.functional.pad(torch.zeros(1, layer.inputs, *layer.size), (left, right, top, bottom))
        conv = nn.Conv2d(layer.inputs, layer.outputs, layer.taps, layer.stride, 0, layer.dilation)
        given_by_torch = conv(x)
        assert tuple(given_by_torch.shape[2:]) == layer.result
        assert layer.given == given_by_torch.numel()
        assert layer.macs == given_by_torch.numel() * conv.weight[0].numel()


def test_a_linear_layer_works_on_every_vector() -> None:
    layer = NAMED["linear 320>1280 at 196"]
    assert (layer.macs, layer.read, layer.given) == (320 * 1280 * 196, 320 * 196, 1280 * 196)
    assert NAMED["linear 64>10"].macs == 640
