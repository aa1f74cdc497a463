"""ParCNetV2: oversized separable convolutions and bifurcate gate units.

Paper: Xu, Zhang, Hu, Wang, Wang, Wu, "ParCNetV2: Oversized Kernel with Enhanced Attention", ICCV 2023.

Shapes below: N batch, C channels, H x W the feature map. Tokens travel channels-last (N, H, W, C) between the
operators; the token mixer works channels-first.

Where the released code and the paper differ, this file follows the released code, except for the kernel policy
at other input sizes (see `KernelPolicy`).
"""

from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

TRAINED_MAPS = (56, 28, 14, 7)
"""Side of each stage's feature map at 224 x 224, where the oversized kernels have their stored length 2H-1."""


class KernelPolicy(StrEnum):
    """What an oversized kernel becomes at an input size other than 224.

    `INTERPOLATE` zooms it linearly (align_corners) to 2H-1 and 2W-1 taps (paper, section 3.1); `KEEP` leaves the
    stored taps as they are, which is what the released code does.
    """

    INTERPOLATE = "interpolate"
    KEEP = "keep"


@dataclass(frozen=True, slots=True)
class ParCNetV2Config:
    """Everything that tells one ParCNetV2 from another (paper, table 1)."""

    widths: tuple[int, int, int, int]
    depths: tuple[int, int, int, int]
    num_classes: int = 1000
    mlp_ratio: float = 5.0
    local_kernel: int = 7
    trained_maps: tuple[int, int, int, int] = TRAINED_MAPS
    kernel_policy: KernelPolicy = KernelPolicy.INTERPOLATE


CONFIGS = {
    "parcnetv2_xt": ParCNetV2Config(widths=(48, 96, 192, 320), depths=(3, 3, 9, 2)),
    "parcnetv2_t": ParCNetV2Config(widths=(64, 128, 320, 512), depths=(3, 3, 12, 3)),
    "parcnetv2_s": ParCNetV2Config(widths=(64, 128, 320, 512), depths=(3, 9, 24, 3)),
    "parcnetv2_b": ParCNetV2Config(widths=(96, 192, 384, 576), depths=(3, 9, 24, 3)),
}
"""Name to configuration (paper, table 1)."""


class L2Norm(nn.Module):
    """Centres the channels and divides by their Euclidean length: `w * (x - mean) / max(|x - mean|, eps)`.

    This is layer normalisation with `w / sqrt(C)` for a weight and no bias; the released code divides by the norm,
    not by the standard deviation. So the result is of size 1 per channel when `w` is near `weight_scale`, sqrt(C).
    """

    def __init__(self, channels: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.weight_scale = channels**0.5  # what random weights are sized by
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) -> (..., C)."""
        centred = x - x.mean(dim=-1, keepdim=True)
        length = torch.linalg.vector_norm(centred, dim=-1, keepdim=True)
        scaled: Tensor = centred / length.clamp_min(self.eps) * self.weight
        return scaled


class ResScale(nn.Module):
    """Learnable per-channel scale of a skip connection, 1 at the start."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """(N, H, W, C) -> (N, H, W, C)."""
        return x * self.scale


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


class SpatialGate(nn.Module):
    """Spatial bifurcate gate unit: one half of the channels gates the convolved other half (paper, eq. 6)."""

    def __init__(self, channels: int, kernel: int, local_kernel: int, policy: KernelPolicy) -> None:
        super().__init__()
        self.pwconv1 = nn.Conv2d(channels, 2 * channels, 1)
        self.dwconv1 = OversizedConv(channels, kernel, policy)
        self.dwconv2 = nn.Conv2d(
            channels, channels, local_kernel, padding=local_kernel // 2, groups=channels, bias=False
        )
        self.pwconv2 = nn.Conv2d(channels, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, H, W, C) -> (N, H, W, C)."""
        gate, value = self.pwconv1(x.permute(0, 3, 1, 2)).chunk(2, dim=1)
        value = functional.gelu(value)
        value = self.dwconv1(value) + self.dwconv2(value)
        mixed: Tensor = self.pwconv2(gate * value)
        return mixed.permute(0, 2, 3, 1)


class ChannelGate(nn.Module):
    """Channel bifurcate gate unit: a feed-forward block whose first half gates the second (paper, eq. 7)."""

    def __init__(self, channels: int, ratio: float) -> None:
        super().__init__()
        hidden = int(ratio * channels)
        self.fc1 = nn.Linear(channels, hidden)
        self.fc2 = nn.Linear(hidden // 2, channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, H, W, C) -> (N, H, W, C)."""
        gate, value = self.fc1(x).chunk(2, dim=-1)
        mixed: Tensor = self.fc2(gate * functional.gelu(value))
        return mixed


class Block(nn.Module):
    """Token mixer and channel mixer, each behind a norm and beside a (scaled) skip."""

    def __init__(self, config: ParCNetV2Config, stage: int) -> None:
        super().__init__()
        channels = config.widths[stage]
        kernel = 2 * config.trained_maps[stage] - 1
        scaled = stage >= 2
        self.norm1 = L2Norm(channels)
        self.token_mixer = SpatialGate(channels, kernel, config.local_kernel, config.kernel_policy)
        self.res_scale1 = ResScale(channels) if scaled else nn.Identity()
        self.norm2 = L2Norm(channels)
        self.mlp = ChannelGate(channels, config.mlp_ratio)
        self.res_scale2 = ResScale(channels) if scaled else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(N, H, W, C) -> (N, H, W, C)."""
        mixed: Tensor = self.res_scale1(x) + self.token_mixer(self.norm1(x))
        out: Tensor = self.res_scale2(mixed) + self.mlp(self.norm2(mixed))
        return out


class Stem(nn.Module):
    """Image (N, 3, H, W) to tokens (N, H/4, W/4, C)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, channels, 7, stride=4, padding=2)
        self.post_norm = L2Norm(channels)

    def forward(self, x: Tensor) -> Tensor:
        tokens: Tensor = self.post_norm(self.conv(x).permute(0, 2, 3, 1))
        return tokens


class Downsample(nn.Module):
    """Norm and dense 3 x 3 convolution of stride 2 between stages, tokens to tokens."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.pre_norm = L2Norm(channels_in)
        self.conv = nn.Conv2d(channels_in, channels_out, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, H, W, C) -> (N, ceil(H/2), ceil(W/2), C')."""
        halved: Tensor = self.conv(self.pre_norm(x).permute(0, 3, 1, 2))
        return halved.permute(0, 2, 3, 1)


class ParCNetV2(nn.Module):
    """The classification network; its `state_dict` has the key names of the authors' release."""

    def __init__(self, config: ParCNetV2Config) -> None:
        super().__init__()
        widths = config.widths
        downs = [Downsample(a, b) for a, b in pairwise(widths)]
        self.downsample_layers = nn.ModuleList([Stem(widths[0]), *downs])
        self.stages = nn.ModuleList(
            nn.Sequential(*(Block(config, stage) for _ in range(depth))) for stage, depth in enumerate(config.depths)
        )
        self.norm = nn.LayerNorm(widths[-1], eps=1e-6)
        self.head = nn.Linear(widths[-1], config.num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) normalised image -> (N, num_classes) logits."""
        for downsample, stage in zip(self.downsample_layers, self.stages, strict=True):
            x = stage(downsample(x))
        logits: Tensor = self.head(self.norm(x.mean(dim=(1, 2))))
        return logits


def build(name: str, kernel_policy: str | None = None) -> ParCNetV2:
    """One of `CONFIGS`; the kernel policy is the paper's unless another is given."""
    config = CONFIGS[name]
    return ParCNetV2(replace(config, kernel_policy=KernelPolicy(kernel_policy)) if kernel_policy else config)
