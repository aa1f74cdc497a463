"""UperNet on ParCNetV2: semantic segmentation from the four stages of the backbone.

Papers: Xiao et al., "Unified Perceptual Parsing for Scene Understanding", ECCV 2018; on ParCNetV2 the ADE20K table of
Xu et al., "ParCNetV2: Oversized Kernel with Enhanced Attention", ICCV 2023. The layout and the key names are those of
mmsegmentation: a pyramid of pooled maps on the last stage, a feature pyramid of 512 channels over all stages, 150
classes, and an auxiliary classifier on the third stage that only training runs. The dropout before both classifiers,
which has no weights, is left out.

Shapes below: N batch, C channels, H x W the feature map, all tensors channels-first.

What the paper's figures count, settled by arithmetic. Its parameters include the auxiliary head: without it T has 54 M
instead of 55. Its FLOPs are multiply-accumulates of the deployed path, without the auxiliary head, at 512 x 2048, and
with the kernels as they are stored for 224 (`KernelPolicy.KEEP`): zoomed, T has 953 G instead of 932.

    parameters               T            S            B
    backbone        24,422,144   38,923,520   55,791,456
    decode head     29,711,510   29,711,510   30,219,414
    auxiliary head     776,342      776,342      923,798
    sum             54,909,996   69,411,372   86,934,668
    paper                 55 M         69 M         87 M

    MACs at 512 x 2048                     T                  S                  B
    backbone, keep            89,208,127,488    162,588,524,544    261,042,536,448
    decode head              842,430,676,992    842,430,676,992    844,479,135,744
    sum                      931,638,804,480  1,005,019,201,536  1,105,521,672,192
    paper                              932 G             1005 G             1105 G
    auxiliary head             3,177,185,280      3,177,185,280      3,781,165,056
    backbone, interpolate    110,177,550,336    194,354,085,888    306,121,605,120
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgekit.errors import UnknownNameError
from edgekit.models import parcnetv2
from edgekit.models.features import ParCNetV2Features
from edgekit.models.parcnetv2 import ParCNetV2Config
from edgekit.models.window_pool import WindowPool


@dataclass(frozen=True, slots=True)
class UperNetConfig:
    """Everything that tells one of these networks from another.

    Attributes:
        auxiliary_channels: Width of the auxiliary head; None leaves it out, for checkpoints that have none.
        resize_logits: Whether the logits, found at a quarter of the image's size, are resized to the image's.
    """

    backbone: ParCNetV2Config
    channels: int = 512
    pool_sizes: tuple[int, ...] = (1, 2, 3, 6)
    num_classes: int = 150
    auxiliary_channels: int | None = 256
    resize_logits: bool = True


BACKBONES = {f"upernet_{name}": name for name in ("parcnetv2_t", "parcnetv2_s", "parcnetv2_b")}
"""Name to the name of its backbone."""


class ConvNormAct(nn.Module):
    """Same-padded convolution without bias, batch norm, ReLU."""

    def __init__(self, channels_in: int, channels_out: int, kernel: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels_in, channels_out, kernel, padding=kernel // 2, bias=False)
        self.bn = nn.BatchNorm2d(channels_out)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C', H, W)."""
        return functional.relu(self.bn(self.conv(x)))


def resize(x: Tensor, like: Tensor) -> Tensor:
    """(N, C, H, W) to the height and width of another map, linearly; half-pixel centres."""
    return functional.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=False)


class DecodeHead(nn.Module):
    """Pyramid pooling, feature pyramid and classifier."""

    def __init__(self, config: UperNetConfig) -> None:
        super().__init__()
        *fine, coarse = config.backbone.widths
        width = config.channels
        self.conv_seg = nn.Conv2d(width, config.num_classes, 1)
        self.psp_modules = nn.ModuleList(
            nn.Sequential(WindowPool(size), ConvNormAct(coarse, width, 1)) for size in config.pool_sizes
        )
        self.bottleneck = ConvNormAct(coarse + len(config.pool_sizes) * width, width, 3)
        self.lateral_convs = nn.ModuleList(ConvNormAct(channels, width, 1) for channels in fine)
        self.fpn_convs = nn.ModuleList(ConvNormAct(width, width, 3) for _ in fine)
        self.fpn_bottleneck = ConvNormAct((1 + len(fine)) * width, width, 3)

    def pool(self, x: Tensor) -> Tensor:
        """The coarsest map (N, C, H, W) beside its averages over ever smaller windows -> (N, C', H, W)."""
        pooled = [resize(module(x), like=x) for module in self.psp_modules]
        joined: Tensor = self.bottleneck(torch.cat([x, *pooled], dim=1))
        return joined

    def forward(self, features: tuple[Tensor, ...]) -> Tensor:
        """Maps from fine to coarse -> (N, classes, H, W) at the size of the first."""
        laterals = [conv(x) for conv, x in zip(self.lateral_convs, features[:-1], strict=True)]
        laterals.append(self.pool(features[-1]))
        for level in reversed(range(len(laterals) - 1)):
            laterals[level] = laterals[level] + resize(laterals[level + 1], like=laterals[level])
        smoothed = [conv(x) for conv, x in zip(self.fpn_convs, laterals[:-1], strict=True)]
        smoothed.append(laterals[-1])
        joined = torch.cat([smoothed[0], *(resize(x, like=smoothed[0]) for x in smoothed[1:])], dim=1)
        logits: Tensor = self.conv_seg(self.fpn_bottleneck(joined))
        return logits


class AuxiliaryHead(nn.Module):
    """A convolution and a classifier on the map of the third stage."""

    def __init__(self, channels_in: int, channels: int, num_classes: int) -> None:
        super().__init__()
        self.conv_seg = nn.Conv2d(channels, num_classes, 1)
        self.convs = nn.Sequential(ConvNormAct(channels_in, channels, 3))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, classes, H, W)."""
        logits: Tensor = self.conv_seg(self.convs(x))
        return logits


class UperNet(nn.Module):
    """The segmentation network; its `state_dict` has the key names of mmsegmentation.

    The auxiliary head is there for checkpoints and counts; `forward` does not run it.
    """

    def __init__(self, config: UperNetConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone = ParCNetV2Features(config.backbone)
        self.decode_head = DecodeHead(config)
        width, channels = config.backbone.widths[2], config.auxiliary_channels
        self.auxiliary_head = AuxiliaryHead(width, channels, config.num_classes) if channels else None

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) normalised image -> (N, classes, H, W) logits, or (N, classes, H/4, W/4) when not resized."""
        logits: Tensor = self.decode_head(self.backbone(x))
        return resize(logits, like=x) if self.config.resize_logits else logits


def build(name: str, kernel_policy: str | None = None, *, resize_logits: bool = True) -> UperNet:
    """A network of `BACKBONES`, freshly initialised."""
    if name not in BACKBONES:
        raise UnknownNameError("model", name, BACKBONES, "edgekit models")
    backbone = parcnetv2.configure(BACKBONES[name], kernel_policy)
    return UperNet(UperNetConfig(backbone, resize_logits=resize_logits))
