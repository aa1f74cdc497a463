"""ParCNetV2: oversized separable convolutions and bifurcate gate units.

Paper: Xu, Zhang, Hu, Wang, Wang, Wu, "ParCNetV2: Oversized Kernel with Enhanced Attention", ICCV 2023.

Shapes below: N batch, C channels, H x W the feature map. Tokens travel channels-last (N, H, W, C) between the
operators; the token mixer works channels-first.

Where the released code and the paper differ, this file follows the released code, except for the kernel policy
at other input sizes (see `KernelPolicy`).

The networks without one component (paper, table 6) were not released. Which layer stays in the place of the missing
one is our own reading, told beside each of them in `CONFIGS`.
"""

from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor, nn

from edgekit.errors import MisuseError, UnknownNameError
from edgekit.models.parcnetv2_mixers import ChannelGate, KernelPolicy, SpatialGate

TRAINED_MAPS = (56, 28, 14, 7)
"""Side of each stage's feature map at 224 x 224, where the oversized kernels have their stored length 2H-1."""

Stages = tuple[bool, bool, bool, bool]
"""One switch per stage."""

ALL: Stages = (True, True, True, True)
NONE: Stages = (False, False, False, False)
EARLY: Stages = (True, True, False, False)
LATE: Stages = (False, False, True, True)


@dataclass(frozen=True, slots=True)
class ParCNetV2Config:
    """Everything that tells one ParCNetV2 from another (paper, table 1), and a whole one from an ablated one (table 6).

    Attributes:
        mlp_ratio: Width inside the channel mixer over its input's, both halves of a gate unit together.
        oversized: Stages whose token mixer has the oversized convolution.
        local: Stages whose token mixer has the local convolution.
        spatial_gate: Whether the token mixer is gated; if not, its first 1 x 1 convolution keeps the width.
        channel_gate: Whether the channel mixer is gated; if not, it is a plain perceptron.
    """

    widths: tuple[int, int, int, int]
    depths: tuple[int, int, int, int]
    num_classes: int = 1000
    mlp_ratio: float = 5.0
    local_kernel: int = 7
    trained_maps: tuple[int, int, int, int] = TRAINED_MAPS
    kernel_policy: KernelPolicy = KernelPolicy.INTERPOLATE
    oversized: Stages = ALL
    local: Stages = ALL
    spatial_gate: bool = True
    channel_gate: bool = True

    def __post_init__(self) -> None:
        if bare := [stage for stage in range(4) if not (self.oversized[stage] or self.local[stage])]:
            raise MisuseError(
                f"Stage {bare[0]} has neither an oversized nor a local convolution. Switch one of them on."
            )


def pico_config(num_classes: int) -> ParCNetV2Config:
    """Our own: small enough to be trained in minutes on a CPU, at 64 x 64, where its kernels have 31 to 3 taps."""
    return ParCNetV2Config(
        widths=(24, 48, 64, 80), depths=(1, 2, 3, 1), num_classes=num_classes, trained_maps=(16, 8, 4, 2)
    )


XT = ParCNetV2Config(widths=(48, 96, 192, 320), depths=(3, 3, 9, 2))

CONFIGS = {
    "parcnetv2_xt": XT,
    "parcnetv2_t": ParCNetV2Config(widths=(64, 128, 320, 512), depths=(3, 3, 12, 3)),
    "parcnetv2_s": ParCNetV2Config(widths=(64, 128, 320, 512), depths=(3, 9, 24, 3)),
    "parcnetv2_b": ParCNetV2Config(widths=(96, 192, 384, 576), depths=(3, 9, 24, 3)),
    # Table 6. Our reading: the local 7 x 7 stays where the oversized convolution goes; an ungated token mixer is
    # 1 x 1, GELU, convolutions, 1 x 1; an ungated channel mixer is the usual perceptron of ratio 4, close in size to
    # the gated one (8 C^2 against 7.5 C^2); a network that is not uniform is local early and global late, as
    # ParCNetV1 is.
    "parcnetv2_xt_no_oc": replace(XT, oversized=NONE),
    "parcnetv2_xt_no_sbgu": replace(XT, spatial_gate=False),
    "parcnetv2_xt_no_cbgu": replace(XT, channel_gate=False, mlp_ratio=4.0),
    "parcnetv2_xt_no_uniform": replace(XT, local=EARLY, oversized=LATE),
    "parcnetv2_pico_digits": pico_config(10),
    "parcnetv2_pico_patterns": pico_config(20),
}
"""Name to configuration (paper, tables 1 and 6)."""


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


class Block(nn.Module):
    """Token mixer and channel mixer, each behind a norm and beside a (scaled) skip."""

    def __init__(self, config: ParCNetV2Config, stage: int) -> None:
        super().__init__()
        channels = config.widths[stage]
        kernel = 2 * config.trained_maps[stage] - 1 if config.oversized[stage] else None
        local_kernel = config.local_kernel if config.local[stage] else None
        scaled = stage >= 2
        self.norm1 = L2Norm(channels)
        self.token_mixer = SpatialGate(channels, kernel, local_kernel, config.kernel_policy, gated=config.spatial_gate)
        self.res_scale1 = ResScale(channels) if scaled else nn.Identity()
        self.norm2 = L2Norm(channels)
        self.mlp = ChannelGate(channels, config.mlp_ratio, gated=config.channel_gate)
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


class Trunk(nn.Module):
    """The four stages, which classification and dense prediction share."""

    def __init__(self, config: ParCNetV2Config) -> None:
        super().__init__()
        widths = config.widths
        downs = [Downsample(a, b) for a, b in pairwise(widths)]
        self.downsample_layers = nn.ModuleList([Stem(widths[0]), *downs])
        self.stages = nn.ModuleList(
            nn.Sequential(*(Block(config, stage) for _ in range(depth))) for stage, depth in enumerate(config.depths)
        )

    def stage_outputs(self, x: Tensor) -> list[Tensor]:
        """(N, 3, H, W) normalised image -> the tokens each stage leaves, at 1/4, 1/8, 1/16 and 1/32 of its size."""
        outputs = []
        for downsample, stage in zip(self.downsample_layers, self.stages, strict=True):
            x = stage(downsample(x))
            outputs.append(x)
        return outputs


class ParCNetV2(Trunk):
    """The classification network; its `state_dict` has the key names of the authors' release."""

    def __init__(self, config: ParCNetV2Config) -> None:
        super().__init__(config)
        self.norm = nn.LayerNorm(config.widths[-1], eps=1e-6)
        self.head = nn.Linear(config.widths[-1], config.num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) normalised image -> (N, num_classes) logits."""
        tokens = self.stage_outputs(x)[-1]
        logits: Tensor = self.head(self.norm(tokens.mean(dim=(1, 2))))
        return logits


def configure(name: str, kernel_policy: str | None = None) -> ParCNetV2Config:
    """One of `CONFIGS`; the kernel policy is the paper's unless another is given."""
    if name not in CONFIGS:
        raise UnknownNameError("model", name, CONFIGS, "edgekit models")
    config = CONFIGS[name]
    return replace(config, kernel_policy=KernelPolicy(kernel_policy)) if kernel_policy else config


def build(name: str, kernel_policy: str | None = None) -> ParCNetV2:
    """The classification network of one of `CONFIGS`, freshly initialised."""
    return ParCNetV2(configure(name, kernel_policy))
