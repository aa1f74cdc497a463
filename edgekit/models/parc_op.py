"""ParC: position-aware circular convolution, the operator of ParC-Net and ParC-ConvNeXt.

Paper: Zhang, Hu, Wang, "ParC-Net: Position Aware Circular Convolution with Merits from ConvNets and Transformer",
ECCV 2022, section 3.1.

Along one axis of length n, with a kernel k of n taps and a position embedding p of n values per channel:

    x'[i] = x[i] + p[i]        out[i] = sum over j of k[j] * x'[(i + j) mod n]

Every output sees the whole axis, and the embedding tells it where: the sum alone is the same up to a rotation wherever
the content stands.
"""

import torch
from torch import Tensor, nn

HEIGHT = 2
"""Dimension of the height in an (N, C, H, W) tensor, and of the taps in the (C, 1, n, 1) kernel that runs along it."""

WIDTH = 3
"""Dimension of the width, and of the taps in the (C, 1, 1, n) kernel that runs along it."""


def axis_size(length: int, dim: int) -> tuple[int, int]:
    """(n, 1) along the height, (1, n) along the width."""
    return (length, 1) if dim == HEIGHT else (1, length)


def position_embedding(channels: int, length: int, dim: int) -> nn.Parameter:
    """A fresh embedding (1, C, n, 1) or (1, C, 1, n), the same for every position of the other axis."""
    embedding = nn.Parameter(torch.empty(1, channels, *axis_size(length, dim)))
    nn.init.trunc_normal_(embedding, std=0.02)
    return embedding


def parc_kernel(channels: int, length: int, dim: int) -> nn.Parameter:
    """A fresh depthwise kernel (C, 1, n, 1) or (C, 1, 1, n), drawn as `nn.Conv2d` draws its own."""
    kernel = nn.Parameter(torch.empty(channels, 1, *axis_size(length, dim)))
    nn.init.kaiming_uniform_(kernel, a=5**0.5)
    return kernel


def circular_conv(x: Tensor, kernel: Tensor, dim: int, bias: Tensor | None = None) -> Tensor:
    """The sum of the module's docstring for each channel: (N, C, H, W) -> (N, C, H, W).

    The kernel has as many taps as the axis has positions. All of the axis but its last position is repeated behind it,
    so a depthwise convolution without padding does the wrapping.
    """
    wrapped = torch.cat((x, x.narrow(dim, 0, x.shape[dim] - 1)), dim)
    return nn.functional.conv2d(wrapped, kernel, bias, groups=x.shape[1])


def resize_axis(values: Tensor, length: int, dim: int) -> Tensor:
    """Zooms a kernel or an embedding linearly to this length; the end values keep their places."""
    if values.shape[dim] == length:
        return values
    return nn.functional.interpolate(values, size=axis_size(length, dim), mode="bilinear", align_corners=True)
