"""What quantizers read of the layers of a file: what each is, and what stands right beside it."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import nn

from edgekit.artifact import TensorSpec
from edgekit.capture import capture
from edgekit.exporters import EXPORTERS
from edgekit.exporters.base import ExportSpec
from edgekit.filegraph import read_graph
from edgekit.quant import QUANTIZERS
from edgekit.quant.base import Layer
from edgekit.quant.choose import Link, links
from edgekit.quiet import silenced

SHAPE = (1, 3, 16, 16)


class Chained(nn.Module):
    """a -> relu -> b (relu6) -> c, and c -> d, c -> gelu; then the head, which takes the sum."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.b, self.c = nn.Conv2d(8, 8, 3, dilation=2), nn.Conv2d(8, 12, 1)
        self.d, self.head = nn.Conv2d(12, 12, 1), nn.Linear(12, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        c = self.c(nn.functional.relu6(self.b(torch.relu(self.a(x)))))
        logits: torch.Tensor = self.head((self.d(c) + nn.functional.gelu(c)).mean((2, 3)))
        return logits


DENSE = ("onnx", "openvino", "tflite")
"""Formats whose runtimes compute in int8, so that it is measured whether that pays."""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[tuple[Layer, ...], Path]]:
    """Format to the layers of the network's file, and the file."""

    @cache
    def written(name: str) -> tuple[tuple[Layer, ...], Path]:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            program = capture(Chained().eval(), SHAPE)
        inputs, outputs = TensorSpec(name="x", shape=SHAPE), TensorSpec(name="y", shape=(1, 5))
        folder = tmp_path_factory.mktemp(name)
        with silenced():
            files = EXPORTERS[name].load()(program, ExportSpec((inputs,), (outputs,), {}), folder, "net")[0].files
        return QUANTIZERS[name].load().layers(files[0]), files[0]

    return written


EXPECTED = [
    "convolution 3>8 at 16x16: 3x3 /2x2 padded 1x1x1x1, relu",
    "convolution 8>8 at 8x8: 3x3 dilated 2x2, relu6",
    "convolution 8>12 at 4x4: 1x1",
    "convolution 12>12 at 4x4: 1x1",
    "linear 12>5",
]


@pytest.mark.parametrize("name", DENSE)
def test_layers_are_what_they_are_in_the_network(
    name: str, found: Callable[[str], tuple[tuple[Layer, ...], Path]]
) -> None:
    layers, _ = found(name)
    names = [str(each.dense) for each in layers]
    if name == "tflite":  # which has the zeros around the first map in an operator of their own
        assert names[0] == "convolution 3>8 at 18x18: 3x3 /2x2, relu"
        names[0] = EXPECTED[0]
    assert names == EXPECTED
    assert [each.dense.macs for each in layers if each.dense] == [each.macs for each in layers]


@pytest.mark.parametrize("name", DENSE)
def test_neighbours_are_found_behind_biases_and_clipping(
    name: str, found: Callable[[str], tuple[tuple[Layer, ...], Path]]
) -> None:
    layers, path = found(name)
    beside = links(layers, read_graph(QUANTIZERS[name].runtime, path))
    a, b, c, d, head = (each.name for each in layers)
    assert [beside[each] for each in (a, b, c, d)] == [Link(None, False), Link(a, False), Link(b, True), Link(c, True)]
    assert beside[head].float_readers
    assert links(layers[:1], read_graph(QUANTIZERS[name].runtime, path))[a] == Link(None, True)
