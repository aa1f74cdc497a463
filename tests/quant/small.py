"""A small network with every kind of layer: dense, pointwise, depthwise, a gate, a matrix per channel, a linear one."""

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from edgekit.artifact import TensorSpec
from edgekit.capture import capture
from edgekit.exporters import EXPORTERS
from edgekit.exporters.base import ExportSpec
from edgekit.inputs import natural
from edgekit.passes.base import apply, prove
from edgekit.passes.lower import LOWERINGS
from edgekit.quant.base import Feed

SHAPE = (1, 3, 16, 16)
IMAGES = 8
METADATA = {"edgekit.model": "small", "edgekit.precision": "int8"}

INT8 = {"convolution": 2, "linear": 1}
FLOAT = {"grouped": 1, "product": 1, "gate": 2}
"""How many layers of the network are what, and why those stay float that do."""


class Small(nn.Module):
    """conv3x3 -> squeeze-excitation -> depthwise + matrix per channel -> pointwise -> pool -> linear, 16 channels."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, stride=2, padding=1)
        self.squeeze, self.excite = nn.Conv2d(16, 4, 1), nn.Conv2d(4, 16, 1)
        self.depthwise = nn.Conv2d(16, 16, 5, padding=2, groups=16)
        self.banded = nn.Parameter(torch.zeros(16, 8, 8))
        self.pointwise = nn.Conv2d(16, 24, 1)
        self.head = nn.Linear(24, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.stem(x))
        gate = self.excite(torch.relu(self.squeeze(x.mean((2, 3), keepdim=True))))
        x = x * torch.sigmoid(gate)
        x = self.depthwise(x) + self.banded @ x
        x = nn.functional.gelu(self.pointwise(x))
        logits: Tensor = self.head(x.mean((2, 3)))
        return logits


def network() -> nn.Module:
    """The network, its weights from a seed, of a size that keeps every map alive."""
    model, generator = Small().eval(), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            scale = parameter[0].numel() ** -0.5 if parameter.ndim > 1 else 0.05  # biases must not drown the rest
            parameter.copy_(scale * torch.randn(parameter.shape, generator=generator))
    return model


def write(name: str, folder: Path) -> Path:
    """The network as a float file, lowered as for int8 where there is such a lowering."""
    runtime = EXPORTERS[name].runtime
    probe = (torch.from_numpy(natural(SHAPE)),)
    proven = prove(capture(network(), SHAPE), [probe])
    lowering = LOWERINGS.get((runtime, "int8"), LOWERINGS[runtime, "fp32"])
    for rewrite in lowering.passes:
        proven, _ = apply(rewrite, proven, [probe], 120.0)
    spec = ExportSpec((TensorSpec(name="input", shape=SHAPE),), (TensorSpec(name="logits", shape=(1, 10)),), METADATA)
    return EXPORTERS[name].load()(proven.program, spec, folder, "net")[0].files[0]


def calibrating() -> Iterator[Feed]:
    """Inputs to calibrate with."""
    for index in range(IMAGES):
        yield {"input": natural(SHAPE, index)}


def held_out() -> Iterator[Feed]:
    """Inputs to compare on."""
    for index in range(100, 116):
        yield {"input": natural(SHAPE, index)}
