"""ConvNeXt-T with the parts of ParCNetV2: oversized convolutions alone, and both bifurcate gate units with them.

Paper: Xu et al., "ParCNetV2: Oversized Kernel with Enhanced Attention", ICCV 2023, supplement, table 1; the backbone is
Liu et al., "A ConvNet for the 2020s", CVPR 2022.

Shapes below: N batch, C channels, H x W the feature map. Tensors travel channels-first.

Nothing of these two was released, so where the parts go is our own reading:

1. Oversized convolutions: one beside the 7 x 7 of every block, both added, as in ParCNetV2. This has 28.96 M
   parameters; the table says 30 M, which no placing of such kernels reaches, for all of them have 0.37 M together.
2. Both gate units: the spatial one takes the place of the depthwise convolution and the channel one that of the
   perceptron. The spatial gate's 1 x 1 convolutions cost 3 C^2, so the channel gate gets 5 C^2, at a ratio of 10/3
   instead of ParCNetV2's 5, and a block keeps ConvNeXt's 8 C^2. At 5 the network would have 37 M; the table says 29 M.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from edgekit.errors import UnknownNameError
from edgekit.models import parc_convnext
from edgekit.models.parc_convnext import NORM_EPS, ParCConvNeXt, ParCConvNeXtConfig
from edgekit.models.parcnetv2_mixers import ChannelGate, KernelPolicy, OversizedConv, SpatialGate


@dataclass(frozen=True, slots=True)
class OversizedConfig:
    """A plain ConvNeXt and what its blocks get."""

    convnext: ParCConvNeXtConfig
    gated: bool
    gate_ratio: float = 10 / 3
    kernel_policy: KernelPolicy = KernelPolicy.INTERPOLATE


T_DEPTHS = (3, 3, 9, 3)
CONVNEXT_T = ParCConvNeXtConfig(widths=(96, 192, 384, 768), depths=T_DEPTHS, parc_from=T_DEPTHS)

CONFIGS = {
    "convnext_t_oc": OversizedConfig(CONVNEXT_T, gated=False),
    "convnext_t_oc_bgu": OversizedConfig(CONVNEXT_T, gated=True),
}


class OversizedBlock(parc_convnext.Block):
    """ConvNeXt block with an oversized convolution beside its local one."""

    def __init__(self, config: OversizedConfig, stage: int) -> None:
        super().__init__(config.convnext, stage, index=0)
        kernel = 2 * config.convnext.trained_maps[stage] - 1
        self.oversized = OversizedConv(config.convnext.widths[stage], kernel, config.kernel_policy)

    def mix(self, x: Tensor) -> Tensor:
        """Spatial mixing, (N, C, H, W) -> (N, C, H, W)."""
        mixed: Tensor = self.dwconv(x) + self.oversized(x)
        return mixed


class GatedBlock(nn.Module):
    """ConvNeXt block of gate units: spatial gate, norm, channel gate, scale, skip."""

    def __init__(self, config: OversizedConfig, stage: int) -> None:
        super().__init__()
        convnext = config.convnext
        channels, kernel = convnext.widths[stage], 2 * convnext.trained_maps[stage] - 1
        self.gamma = nn.Parameter(torch.full((channels,), convnext.layer_scale))
        self.token_mixer = SpatialGate(channels, kernel, convnext.local_kernel, config.kernel_policy)
        self.norm = nn.LayerNorm(channels, eps=NORM_EPS)
        self.mlp = ChannelGate(channels, config.gate_ratio)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        tokens = self.token_mixer(x.permute(0, 2, 3, 1))
        y: Tensor = self.gamma * self.mlp(self.norm(tokens))
        return x + y.permute(0, 3, 1, 2)


class OversizedConvNeXt(ParCConvNeXt):
    """The classification network: ConvNeXt around other blocks."""

    def __init__(self, config: OversizedConfig) -> None:
        super().__init__(replace(config.convnext, depths=(0, 0, 0, 0)))
        block = GatedBlock if config.gated else OversizedBlock
        self.stages = nn.ModuleList(
            nn.Sequential(*(block(config, stage) for _ in range(depth)))
            for stage, depth in enumerate(config.convnext.depths)
        )


def build(name: str, kernel_policy: str | None = None) -> OversizedConvNeXt:
    """A network of `CONFIGS`, freshly initialised; the kernel policy is the paper's unless another is given."""
    if name not in CONFIGS:
        raise UnknownNameError("model", name, CONFIGS, "edgekit models")
    config = CONFIGS[name]
    return OversizedConvNeXt(replace(config, kernel_policy=KernelPolicy(kernel_policy)) if kernel_policy else config)
