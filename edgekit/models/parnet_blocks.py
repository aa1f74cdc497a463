"""The blocks of ParNet: RepVGG-SSE with and without a skip, and what joins two resolutions.

Paper: Goyal, Bochkovskiy, Deng, Koltun, "Non-deep Networks", NeurIPS 2022, sections 3.1 and 3.2.

Shapes below: N batch, C channels, H x W the feature map, all tensors channels-first.
"""

from collections import OrderedDict
from enum import StrEnum

import torch
from torch import Tensor, nn


class Activation(StrEnum):
    """The non-linearity after every block: SiLU in the paper, ReLU in networks built from the released settings."""

    SILU = "silu"
    RELU = "relu"


ACTIVATION_LAYERS: dict[Activation, type[nn.Module]] = {Activation.SILU: nn.SiLU, Activation.RELU: nn.ReLU}


def conv_bn(c_in: int, c_out: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Same-padded convolution without bias, then batch norm: (N, C, H, W) -> (N, C', ceil(H/s), ceil(W/s))."""
    conv = nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(OrderedDict(conv=conv, bn=nn.BatchNorm2d(c_out)))


def shuffle_channels(x: Tensor, groups: int) -> Tensor:
    """(N, C, H, W) -> (N, C, H, W): output channel i * groups + g is channel i of group g."""
    return torch.unflatten(x, 1, (groups, -1)).transpose(1, 2).flatten(1, 2)


class Gate(nn.Module):
    """Skip squeeze-excitation: one 1 x 1 convolution of the global average, then sigmoid (paper, section 3.1)."""

    def __init__(self, c_in: int, c_out: int, groups: int) -> None:
        super().__init__()
        conv = nn.Conv2d(c_in, c_out, 1, groups=groups, bias=False)
        self.cvsig = nn.Sequential(OrderedDict(conv=conv, sigmoid=nn.Sigmoid()))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C', 1, 1)."""
        gate: Tensor = self.cvsig(x.mean(dim=(2, 3), keepdim=True))
        return gate


class Branches(nn.Module):
    """The linear part of a block: 3 x 3 and 1 x 1 convolutions beside a gate (paper, section 3.1).

    With a skip, which needs equal channels and stride 1: `dense(x) + point(x) + z * gate(z)` for `z = bn(x)`.
    Without: `(dense(x) + point(x)) * 2 * gate(x)`, so that a gate of one half, the mean at the start, changes nothing.
    """

    def __init__(self, c_in: int, c_out: int, stride: int, groups: int) -> None:
        super().__init__()
        has_skip = c_in == c_out and stride == 1
        self.rbr_identity = nn.BatchNorm2d(c_in) if has_skip else None
        self.rbr_dense = conv_bn(c_in, c_out, 3, stride, groups)
        point = conv_bn(c_in, c_out, 1, groups=groups)
        self.rbr_1x1 = point if stride == 1 else nn.Sequential(nn.AvgPool2d(stride), point)
        self.se = Gate(c_in, c_out, groups)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C', H/s, W/s)."""
        y: Tensor = self.rbr_dense(x) + self.rbr_1x1(x)
        if self.rbr_identity is None:
            y = y * (2 * self.se(x))
        else:
            skip = self.rbr_identity(x)
            y = y + skip * self.se(skip)
        return y


class Block(nn.Module):
    """RepVGG-SSE, down-sampling or fusion block (paper, sections 3.1 and 3.2); groups bring a channel shuffle."""

    def __init__(self, c_in: int, c_out: int, activation: Activation, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.block = Branches(c_in, c_out, stride, groups)
        self.activation = ACTIVATION_LAYERS[activation]()
        self.groups = groups

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C', H/s, W/s)."""
        y: Tensor = self.activation(self.block(x))
        return y if self.groups == 1 else shuffle_channels(y, self.groups)


class FusionInput(nn.Module):
    """Normalises the two inputs of a fusion, each by its own batch norm, and interleaves their channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.b1 = nn.BatchNorm2d(channels)
        self.b2 = nn.BatchNorm2d(channels)

    def forward(self, pair: tuple[Tensor, Tensor]) -> Tensor:
        """Two (N, C, H, W) -> (N, 2C, H, W) with channels stream[0], fused[0], stream[1], fused[1], ..."""
        stream, fused = pair
        return torch.stack((self.b1(stream), self.b2(fused)), dim=2).flatten(1, 2)
