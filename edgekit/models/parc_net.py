"""ParC-Net (EdgeFormer): a MobileViT outline whose global blocks are circular convolutions and channel attention.

Paper: Zhang, Hu, Wang, "ParC-Net: Position Aware Circular Convolution with Merits from ConvNets and Transformer",
ECCV 2022.

Shapes below: N batch, C channels, H x W the feature map, all tensors channels-first. Images are square.

The stored kernels and position embeddings have the length of the feature map at 256 x 256; at every forward they are
zoomed to the height of the map at hand, as in the released code. That code embeds positions in the first ParC block of
each layer only.
"""

from collections import OrderedDict
from dataclasses import dataclass
from math import gcd

import torch
from torch import Tensor, nn

from edgekit.errors import MisuseError, UnknownNameError, WeightsError
from edgekit.models.parc_op import HEIGHT, WIDTH, circular_conv, parc_kernel, position_embedding, resize_axis

EXPANSION = 4
"""Widening inside an inverted residual block, and of the last feature map."""

LAST_WIDTH_CAP = 960
"""Widest the last feature map becomes."""

ATTENTION_REDUCTION = 16
"""Narrowing inside the channel attention."""


ALIASED, ALIAS = "layer_5.0.", "residual."
"""Names of one block in the release, see `ParCNet`."""


@dataclass(frozen=True, slots=True)
class LayerConfig:
    """One of the three ParC layers: channels outside and inside its frame, hidden ones, ParC blocks, trained map."""

    outer: int
    inner: int
    hidden: int
    blocks: int
    trained_map: int


@dataclass(frozen=True, slots=True)
class ParCNetConfig:
    """Everything that tells one ParC-Net from another; `widths` are those of the stem, layer 1 and layer 2."""

    widths: tuple[int, int, int]
    layers: tuple[LayerConfig, LayerConfig, LayerConfig]
    stem_kernel: int = 3
    dropout: float = 0.2
    num_classes: int = 1000

    @property
    def last_width(self) -> int:
        """Channels before the classifier."""
        return min(EXPANSION * self.layers[-1].outer, LAST_WIDTH_CAP)


CONFIGS: dict[str, ParCNetConfig] = {
    "parc_net_s": ParCNetConfig(
        widths=(16, 32, 64),
        layers=(LayerConfig(96, 192, 384, 2, 32), LayerConfig(128, 256, 512, 4, 16), LayerConfig(160, 320, 640, 3, 8)),
    ),
    "parc_net_xs": ParCNetConfig(
        widths=(16, 32, 64),
        layers=(LayerConfig(96, 96, 192, 2, 32), LayerConfig(128, 128, 256, 3, 16), LayerConfig(160, 160, 320, 2, 8)),
    ),
    "parc_net_h": ParCNetConfig(
        widths=(48, 96, 144),
        layers=(LayerConfig(216, 324, 648, 3, 32), LayerConfig(288, 432, 864, 9, 16), LayerConfig(432, 432, 864, 3, 8)),
        stem_kernel=5,
    ),
}


class ConvLayer(nn.Module):
    """Same-padded convolution without bias, then batch norm and SiLU unless switched off."""

    def __init__(
        self, c_in: int, c_out: int, kernel: int, stride: int = 1, groups: int = 1, norm: bool = True, act: bool = True
    ) -> None:
        super().__init__()
        conv = nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, groups=groups, bias=False)
        layers: OrderedDict[str, nn.Module] = OrderedDict(conv=conv)
        if norm:
            layers["norm"] = nn.BatchNorm2d(c_out)
        if act:
            layers["act"] = nn.SiLU()
        self.block = nn.Sequential(layers)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C', ceil(H/s), ceil(W/s))."""
        y: Tensor = self.block(x)
        return y


class InvertedResidual(nn.Module):
    """MobileNetV2 block: widen, depthwise convolution, narrow without activation; skip where the shape stays."""

    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        hidden = EXPANSION * c_in
        self.block = nn.Sequential(
            OrderedDict(
                exp_1x1=ConvLayer(c_in, hidden, 1),
                conv_3x3=ConvLayer(hidden, hidden, 3, stride, groups=hidden),
                red_1x1=ConvLayer(hidden, c_out, 1, act=False),
            )
        )
        self.has_skip = stride == 1 and c_in == c_out

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C', ceil(H/s), ceil(W/s))."""
        y: Tensor = self.block(x)
        return x + y if self.has_skip else y


class ChannelAttention(nn.Module):
    """Squeeze-excitation with batch norms: scales each channel by a gate made from the global averages."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = channels // ATTENTION_REDUCTION
        self.fc = nn.Sequential(
            nn.Conv2d(channels, hidden, 1, bias=False),
            nn.BatchNorm2d(hidden),
            nn.Hardswish(),
            nn.Conv2d(hidden, channels, 1, bias=False),
            nn.BatchNorm2d(channels),
            nn.Hardsigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        gate: Tensor = self.fc(x.mean(dim=(2, 3), keepdim=True))
        return x * gate


def along(x: Tensor, kernel: Tensor, dim: int) -> Tensor:
    """Circular convolution with a kernel zoomed to the height of the map: (N, C, H, H) -> (N, C, H, H)."""
    return circular_conv(x, resize_axis(kernel, x.shape[HEIGHT], dim), dim)


def embed(x: Tensor, embedding: Tensor | None, dim: int) -> Tensor:
    """Adds a position embedding zoomed to the height of the map, if there is one: (N, C, H, H) -> (N, C, H, H)."""
    return x if embedding is None else x + resize_axis(embedding, x.shape[HEIGHT], dim)


class ParCBlock(nn.Module):
    """Circular convolutions along both axes, then a gated perceptron, each beside a skip (paper, section 3.2).

    The first half of the channels goes along the height and then the width, the second half the other way round; so
    after both every output has seen the whole map. The four kernels have no bias.
    """

    def __init__(self, config: LayerConfig, embeds_position: bool) -> None:
        super().__init__()
        half, length = config.inner // 2, config.trained_map
        self.meta_kernel_1_H = parc_kernel(half, length, HEIGHT)
        self.meta_kernel_1_W = parc_kernel(half, length, WIDTH)
        self.meta_kernel_2_H = parc_kernel(half, length, HEIGHT)
        self.meta_kernel_2_W = parc_kernel(half, length, WIDTH)
        self.meta_pe_1_H = position_embedding(half, length, HEIGHT) if embeds_position else None
        self.meta_pe_1_W = position_embedding(half, length, WIDTH) if embeds_position else None
        self.meta_pe_2_H = position_embedding(half, length, HEIGHT) if embeds_position else None
        self.meta_pe_2_W = position_embedding(half, length, WIDTH) if embeds_position else None
        self.pre_Norm_1 = nn.BatchNorm2d(half)
        self.pre_Norm_2 = nn.BatchNorm2d(half)
        self.ffn = nn.Sequential(
            nn.BatchNorm2d(config.inner),
            nn.Conv2d(config.inner, config.hidden, 1),
            nn.Hardswish(),
            nn.Identity(),  # keeps the second convolution at the released key, ffn.4
            nn.Conv2d(config.hidden, config.inner, 1),
        )
        self.ca = ChannelAttention(config.inner)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, H) -> (N, C, H, H)."""
        first, second = x.chunk(2, dim=1)
        a = self.pre_Norm_1(embed(first, self.meta_pe_1_H, HEIGHT))
        b = self.pre_Norm_2(embed(second, self.meta_pe_1_W, WIDTH))
        a = along(a, self.meta_kernel_1_H, HEIGHT)
        b = along(b, self.meta_kernel_1_W, WIDTH)
        a = along(embed(a, self.meta_pe_2_W, WIDTH), self.meta_kernel_2_W, WIDTH)
        b = along(embed(b, self.meta_pe_2_H, HEIGHT), self.meta_kernel_2_H, HEIGHT)
        mixed = torch.cat((first + a, second + b), dim=1)
        gated: Tensor = self.ca(self.ffn(mixed))
        return mixed + gated


class ParCFrame(nn.Module):
    """ParC blocks between an entry and an exit convolution, then fused with the input, the new features first."""

    def __init__(self, config: LayerConfig) -> None:
        super().__init__()
        outer, inner = config.outer, config.inner
        groups = gcd(outer, inner)  # as near to depthwise as the two widths allow
        self.dim_adaptive = nn.Sequential(
            ConvLayer(outer, inner, 3, groups=groups), ConvLayer(inner, inner, 1, norm=False, act=False)
        )
        blocks = [ParCBlock(config, embeds_position=index == 0) for index in range(config.blocks)]
        self.spatial_global_rep = nn.Sequential(*blocks, nn.BatchNorm2d(inner))
        self.channel_adaptive = ConvLayer(inner, outer, 1, groups=groups)
        self.local_global_fusion = ConvLayer(2 * outer, outer, 3)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, H) -> (N, C, H, H)."""
        new = self.channel_adaptive(self.spatial_global_rep(self.dim_adaptive(x)))
        y: Tensor = self.local_global_fusion(torch.cat((new, x), dim=1))
        return y


def list_twice(_module: nn.Module, state_dict: dict[str, Tensor], prefix: str, _metadata: object) -> None:
    """State dict hook: adds the second name of every tensor of `ALIASED`, as a checkpoint of the release has it."""
    start = prefix + ALIASED
    second = {prefix + ALIAS + key.removeprefix(start): key for key in state_dict if key.startswith(start)}
    state_dict.update({alias: state_dict[key] for alias, key in second.items()})


def load_once(_module: nn.Module, state_dict: dict[str, Tensor], prefix: str, *_: object) -> None:
    """Loading hook: drops each second name, whose tensor must equal the first."""
    start = prefix + ALIAS
    for alias in [key for key in state_dict if key.startswith(start)]:
        second, name = state_dict.pop(alias), prefix + ALIASED + alias.removeprefix(start)
        if name not in state_dict or not torch.equal(state_dict[name], second):
            raise WeightsError(
                f"{alias} is another name of {name} in ParC-Net, but the checkpoint holds other values under it. "
                "Give the checkpoint as it was published, or one saved from this model."
            )


class ParCNet(nn.Module):
    """The classification network; its `state_dict` has the key names of the authors' release.

    The release holds the first block of layer 5 under a second name, `residual`, and so lists its tensors twice. Here
    the block is one module, and only the state dict has both names: a released checkpoint loads strictly, with or
    without the second one, and two different values under the two names are an error.
    """

    def __init__(self, config: ParCNetConfig) -> None:
        super().__init__()
        stem, first, second = config.widths
        outers = [second, *(layer.outer for layer in config.layers)]
        layers = [
            nn.Sequential(InvertedResidual(c_in, layer.outer, stride=2), ParCFrame(layer))
            for c_in, layer in zip(outers[:-1], config.layers, strict=True)
        ]
        self.conv_1 = ConvLayer(3, stem, config.stem_kernel, stride=2)
        self.layer_1 = nn.Sequential(InvertedResidual(stem, first, stride=1))
        self.layer_2 = nn.Sequential(
            InvertedResidual(first, second, stride=2),
            InvertedResidual(second, second, stride=1),
            InvertedResidual(second, second, stride=1),
        )
        self.layer_3, self.layer_4, self.layer_5 = layers
        self.conv_1x1_exp = ConvLayer(outers[-1], config.last_width, 1)
        dropout, fc = nn.Dropout(config.dropout), nn.Linear(config.last_width, config.num_classes)
        self.classifier = nn.Sequential(OrderedDict(dropout=dropout, fc=fc))
        self.register_state_dict_post_hook(list_twice)  # type: ignore[no-untyped-call]
        self.register_load_state_dict_pre_hook(load_once)  # type: ignore[no-untyped-call]

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, H) image scaled to 0..1, channels BGR -> (N, num_classes) logits."""
        height, width = x.shape[-2:]
        if height != width:
            raise MisuseError(f"ParC-Net takes square images, not {height} x {width}: its kernels follow the height.")
        x = self.layer_2(self.layer_1(self.conv_1(x)))
        x = self.layer_5(self.layer_4(self.layer_3(x)))
        x = self.conv_1x1_exp(x).mean(dim=(2, 3))
        logits: Tensor = self.classifier(x)
        return logits


def build(name: str, kernel_policy: str | None = None) -> nn.Module:  # noqa: ARG001 - its kernels have one policy
    """A ParC-Net of `CONFIGS`, freshly initialised."""
    if name not in CONFIGS:
        raise UnknownNameError("model", name, CONFIGS, "edgekit models")
    return ParCNet(CONFIGS[name])
