"""What mixes pixels and channels in ParCNetV2: oversized convolutions and bifurcate gate units.

Paper: Xu, Zhang, Hu, Wang, Wang, Wu, "ParCNetV2: Oversized Kernel with Enhanced Attention", ICCV 2023, section 3.

Shapes below: N batch, C channels, H x W the feature map. Both gate units take and give tokens, (N, H, W, C).
"""

from enum import StrEnum

from torch import Tensor, nn
from torch.nn import functional


class KernelPolicy(StrEnum):
    """What an oversized kernel becomes at an input size other than 224.

    `INTERPOLATE` zooms it linearly (align_corners) to 2H-1 and 2W-1 taps (paper, section 3.1); `KEEP` leaves the
    stored taps as they are, which is what the released code does.
    """

    INTERPOLATE = "interpolate"
    KEEP = "keep"


class OversizedConv(nn.Module):
    """Depthwise (K, 1) then (1, K) convolution with K = 2H-1, so every output sees the whole map (paper, eq. 4)."""

    def __init__(self, channels: int, kernel: int, policy: KernelPolicy) -> None:
        super().__init__()
        self.conv_h = nn.Conv2d(channels, channels, (kernel, 1), padding=(kernel // 2, 0), groups=channels, bias=False)
        self.conv_w = nn.Conv2d(channels, channels, (1, kernel), padding=(0, kernel // 2), groups=channels, bias=False)
        self.policy = policy

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        if self.policy is KernelPolicy.KEEP:
            separable: Tensor = self.conv_w(self.conv_h(x))
            return separable
        height, width = x.shape[-2:]
        groups = self.conv_h.groups
        along_h = zoom(self.conv_h.weight, (2 * height - 1, 1))
        along_w = zoom(self.conv_w.weight, (1, 2 * width - 1))
        x = functional.conv2d(x, along_h, padding=(height - 1, 0), groups=groups)
        return functional.conv2d(x, along_w, padding=(0, width - 1), groups=groups)


def zoom(kernel: Tensor, size: tuple[int, int]) -> Tensor:
    """Resizes a (C, 1, Kh, Kw) kernel linearly; end taps and the centre tap keep their places."""
    if tuple(kernel.shape[-2:]) == size:
        return kernel
    return functional.interpolate(kernel, size=size, mode="bilinear", align_corners=True)


def bifurcate(x: Tensor, *, gated: bool, dim: int) -> tuple[Tensor | None, Tensor]:
    """The gate and the value that one tensor holds, as halves along a dimension, or no gate; GELU is on the value."""
    if not gated:
        return None, functional.gelu(x)
    gate, value = x.chunk(2, dim=dim)
    return gate, functional.gelu(value)


class SpatialGate(nn.Module):
    """Spatial bifurcate gate unit: one half of the channels gates the convolved other half (paper, eq. 6).

    Without the gate it is 1 x 1 convolution, GELU, convolutions, 1 x 1 convolution.

    Args:
        kernel: Taps of the oversized convolution; None leaves it out.
        local_kernel: Side of the local convolution beside it; None leaves it out.
    """

    def __init__(
        self, channels: int, kernel: int | None, local_kernel: int | None, policy: KernelPolicy, *, gated: bool = True
    ) -> None:
        super().__init__()
        self.gated = gated
        self.pwconv1 = nn.Conv2d(channels, 2 * channels if gated else channels, 1)
        self.dwconv1 = OversizedConv(channels, kernel, policy) if kernel else None
        self.dwconv2 = (
            nn.Conv2d(channels, channels, local_kernel, padding=local_kernel // 2, groups=channels, bias=False)
            if local_kernel
            else None
        )
        self.pwconv2 = nn.Conv2d(channels, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, H, W, C) -> (N, H, W, C)."""
        gate, value = bifurcate(self.pwconv1(x.permute(0, 3, 1, 2)), gated=self.gated, dim=1)
        convolved = [conv(value) for conv in (self.dwconv1, self.dwconv2) if conv is not None]
        value = convolved[0] if len(convolved) == 1 else convolved[0] + convolved[1]
        mixed: Tensor = self.pwconv2(value if gate is None else gate * value)
        return mixed.permute(0, 2, 3, 1)


class ChannelGate(nn.Module):
    """Channel bifurcate gate unit: a feed-forward block whose first half gates the second (paper, eq. 7).

    Without the gate it is linear, GELU, linear.
    """

    def __init__(self, channels: int, ratio: float, *, gated: bool = True) -> None:
        super().__init__()
        self.gated = gated
        hidden = int(ratio * channels)
        self.fc1 = nn.Linear(channels, hidden)
        self.fc2 = nn.Linear(hidden // 2 if gated else hidden, channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, H, W, C) -> (N, H, W, C)."""
        gate, value = bifurcate(self.fc1(x), gated=self.gated, dim=-1)
        mixed: Tensor = self.fc2(value if gate is None else gate * value)
        return mixed
