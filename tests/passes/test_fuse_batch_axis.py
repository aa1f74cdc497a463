"""A permutation may put the channels where the batch is; fusing then takes another axis for the channels."""

import torch
from torch import Tensor, nn

from edgekit.capture import capture
from edgekit.passes.fuse import fuse
from edgekit.program import operator_counts, run


class Turned(nn.Module):
    """As the relative positions of Swin V2: heads last, then first, then copied."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 6)

    def forward(self, x: Tensor) -> Tensor:
        turned: Tensor = self.layer(x).tanh().permute(2, 0, 1)
        return turned.contiguous().sigmoid()


def test_channels_in_the_place_of_the_batch() -> None:
    image = torch.randn(5, 4, 3, generator=torch.Generator().manual_seed(0))
    program = capture(Turned().eval(), (5, 4, 3))
    fused, _, _ = fuse(program)
    assert operator_counts(fused) == {"linear": 1, "tanh": 1, "permute": 1, "sigmoid": 1}
    torch.testing.assert_close(run(fused, image)[0], run(program, image)[0], rtol=1e-6, atol=1e-6)
