"""ParC-ConvNeXt: ConvNeXt with ParC in the last blocks of its last two stages, and the plain control beside it.

Paper: Zhang, Hu, Wang, "ParC-Net: Position Aware Circular Convolution with Merits from ConvNets and Transformer",
ECCV 2022; the backbone is Liu et al., "A ConvNet for the 2020s", CVPR 2022.

Shapes below: N batch, C channels, H x W the feature map. Tensors travel channels-first; norms and linears of a block
work channels-last.

The ParC kernels and embeddings are as long as the feature map of a 224 x 224 image and are not resized, as in the
released code: no other image size fits.
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from edgekit.errors import MisuseError, UnknownNameError
from edgekit.models.parc_op import HEIGHT, WIDTH, axis_size, circular_conv, position_embedding

NORM_EPS = 1e-6
"""Epsilon of every layer norm."""

TRAINED_MAPS = (56, 28, 14, 7)
"""Side of each stage's feature map at 224 x 224, where the ParC kernels have their length."""


@dataclass(frozen=True, slots=True)
class ParCConvNeXtConfig:
    """Everything that tells one of these networks from another.

    In each stage the blocks from index `parc_from` on are ParC blocks; without any it is a plain ConvNeXt.
    """

    widths: tuple[int, int, int, int]
    depths: tuple[int, int, int, int]
    parc_from: tuple[int, int, int, int]
    num_classes: int = 1000
    mlp_ratio: int = 4
    local_kernel: int = 7
    layer_scale: float = 1e-6
    trained_maps: tuple[int, int, int, int] = TRAINED_MAPS


XT_WIDTHS = (48, 96, 192, 384)
XT_DEPTHS = (3, 3, 9, 3)

CONFIGS: dict[str, ParCConvNeXtConfig] = {
    "parc_convnext_xt": ParCConvNeXtConfig(XT_WIDTHS, XT_DEPTHS, parc_from=(3, 3, 6, 2)),
    "convnext_xt": ParCConvNeXtConfig(XT_WIDTHS, XT_DEPTHS, parc_from=XT_DEPTHS),
}


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of a channels-first tensor."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=NORM_EPS)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - nn.LayerNorm's name for it
        """(N, C, H, W) -> (N, C, H, W)."""
        return super().forward(input.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ParC(nn.Module):
    """Circular convolution with bias and position embedding along one axis of a fixed length (paper, section 3.1)."""

    def __init__(self, channels: int, length: int, dim: int) -> None:
        super().__init__()
        self.pe = position_embedding(channels, length, dim)
        self.gcc_conv = nn.Conv2d(channels, channels, axis_size(length, dim), groups=channels)
        self.length = length
        self.dim = dim

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        if x.shape[self.dim] != self.length:
            raise MisuseError(
                f"A ParC kernel of {self.length} taps meets a feature map of {x.shape[self.dim]}: "
                "ParC-ConvNeXt takes 224 x 224 images only. For other sizes use ParC-Net."
            )
        return circular_conv(x + self.pe, self.gcc_conv.weight, self.dim, self.gcc_conv.bias)


class Block(nn.Module):
    """ConvNeXt block: spatial mixing, norm, a two-layer perceptron, scale, skip.

    The spatial mixing is a depthwise convolution, or, in a ParC block, ParC along the height on the first half of the
    channels and along the width on the second half.
    """

    def __init__(self, config: ParCConvNeXtConfig, stage: int, index: int) -> None:
        super().__init__()
        channels, length = config.widths[stage], config.trained_maps[stage]
        self.gamma = nn.Parameter(torch.full((channels,), config.layer_scale))
        self.is_parc = index >= config.parc_from[stage]
        if self.is_parc:
            self.gcc_H = ParC(channels // 2, length, HEIGHT)
            self.gcc_W = ParC(channels // 2, length, WIDTH)
        else:
            kernel = config.local_kernel
            self.dwconv = nn.Conv2d(channels, channels, kernel, padding=kernel // 2, groups=channels)
        self.norm = nn.LayerNorm(channels, eps=NORM_EPS)
        self.pwconv1 = nn.Linear(channels, config.mlp_ratio * channels)
        self.pwconv2 = nn.Linear(config.mlp_ratio * channels, channels)

    def mix(self, x: Tensor) -> Tensor:
        """Spatial mixing, (N, C, H, W) -> (N, C, H, W)."""
        if self.is_parc:
            first, second = x.chunk(2, dim=1)
            return torch.cat((self.gcc_H(first), self.gcc_W(second)), dim=1)
        mixed: Tensor = self.dwconv(x)
        return mixed

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        tokens = self.norm(self.mix(x).permute(0, 2, 3, 1))
        y: Tensor = self.gamma * self.pwconv2(nn.functional.gelu(self.pwconv1(tokens)))
        return x + y.permute(0, 3, 1, 2)


class ParCConvNeXt(nn.Module):
    """The classification network; its `state_dict` has the key names of the authors' release."""

    def __init__(self, config: ParCConvNeXtConfig) -> None:
        super().__init__()
        widths = config.widths
        stem = nn.Sequential(nn.Conv2d(3, widths[0], 4, stride=4), ChannelNorm(widths[0]))
        downs = [nn.Sequential(ChannelNorm(a), nn.Conv2d(a, b, 2, stride=2)) for a, b in pairwise(widths)]
        self.downsample_layers = nn.ModuleList([stem, *downs])
        self.stages = nn.ModuleList(
            nn.Sequential(*(Block(config, stage, index) for index in range(depth)))
            for stage, depth in enumerate(config.depths)
        )
        self.norm = nn.LayerNorm(widths[-1], eps=NORM_EPS)
        self.head = nn.Linear(widths[-1], config.num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) normalised image -> (N, num_classes) logits; 224 x 224 where there is a ParC block."""
        for downsample, stage in zip(self.downsample_layers, self.stages, strict=True):
            x = stage(downsample(x))
        logits: Tensor = self.head(self.norm(x.mean(dim=(2, 3))))
        return logits


def build(name: str, kernel_policy: str | None = None) -> nn.Module:  # noqa: ARG001 - its kernels have one policy
    """A network of `CONFIGS`, freshly initialised."""
    if name not in CONFIGS:
        raise UnknownNameError("model", name, CONFIGS, "edgekit models")
    return ParCConvNeXt(CONFIGS[name])
