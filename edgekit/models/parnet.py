"""ParNet: a 12-layer network of parallel streams built from RepVGG-SSE blocks.

Paper: Goyal, Bochkovskiy, Deng, Koltun, "Non-deep Networks", NeurIPS 2022.

Shapes below: N batch, C channels, H x W the feature map, all tensors channels-first.

Where the paper is silent this file follows the released code: the gate of a block without a skip is doubled, the gate
of a skip block reads the batch-normalised input, a fusion interleaves its two inputs channel by channel and shuffles
its output, and each fusion input has a batch norm of its own. The activation is the paper's SiLU; see
`detect_activation` for checkpoints that were trained with ReLU.
"""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise

from torch import Tensor, nn

from edgekit.errors import MisuseError, UnknownNameError, WeightsError
from edgekit.models.parnet_blocks import ACTIVATION_LAYERS, Activation, Block, Branches, FusionInput, conv_bn

__all__ = [
    "CONFIGS",
    "Activation",
    "Branches",
    "DetectedActivation",
    "Layout",
    "ParNet",
    "ParNetConfig",
    "adapt_activation",
    "build",
    "detect_activation",
]

STEM_WIDTH = 64
"""Widest the first block of the ImageNet stem becomes."""


class Layout(StrEnum):
    """What surrounds the streams.

    `IMAGENET`: stride-2 blocks down to the first stream, a wide stride-2 block before the classifier.
    `CIFAR`: three stride-1 blocks up to the first stream, a 1 x 1 convolution before the classifier.
    """

    IMAGENET = "imagenet"
    CIFAR = "cifar"


@dataclass(frozen=True, slots=True)
class ParNetConfig:
    """Everything that tells one ParNet from another (paper, table A1).

    `widths` are the channels at each resolution, `depths` the blocks of each stream. The deepest resolution is 1/16 of
    an ImageNet image and 1/4 of a CIFAR image, each one before it twice as fine. The paper has three streams at three
    resolutions.

    Other numbers of streams are our own generalisation: N depths give streams to the N deepest resolutions, finer
    ones keep their down-sampling block only, and features are fused from each stream into the next deeper. A fourth
    resolution comes at the fine end, at 1/2, behind one stem block; at the coarse end 224 would not divide by 64.
    """

    widths: tuple[int, ...]
    last_width: int
    depths: tuple[int, ...] = (4, 5, 5)
    dropout: float = 0.0
    activation: Activation = Activation.SILU
    num_classes: int = 1000
    layout: Layout = Layout.IMAGENET

    def __post_init__(self) -> None:
        count, most = len(self.widths), 4 if self.layout is Layout.IMAGENET else 3
        if not 3 <= count <= most:
            raise MisuseError(f"ParNet's {self.layout} layout takes 3 to {most} widths, not {count}.")
        if not 1 <= len(self.depths) <= count:
            raise MisuseError(
                f"ParNet of {count} widths has 1 to {count} streams, not {len(self.depths)}. Give one depth per stream."
            )

    @property
    def stream_widths(self) -> tuple[int, ...]:
        """Channels of each stream, finest first."""
        return self.widths[-len(self.depths) :]

    @property
    def feature_strides(self) -> tuple[int, ...]:
        """Pixels of the image per element of each stream's output, finest first."""
        deepest = 16 if self.layout is Layout.IMAGENET else 4
        return tuple(deepest >> step for step in reversed(range(len(self.depths))))

    @property
    def total_stride(self) -> int:
        """Image sides must be multiples of this: the pooled branch floors where the convolution beside it ceils."""
        return 32 if self.layout is Layout.IMAGENET else 4


def cifar_config(width: int) -> ParNetConfig:
    """Our own fit of the CIFAR networks, whose widths are published nowhere: (w, 2w, 4w) and 8w before the classifier.

    With w = 32, 112, 168 the fused networks have 1.28, 15.61 and 35.10 M parameters; the paper tells 1.3, 15.5 and 35.
    """
    widths = (width, 2 * width, 4 * width)
    return ParNetConfig(widths, last_width=8 * width, depths=(3, 4, 4), num_classes=10, layout=Layout.CIFAR)


def pico_config(num_classes: int) -> ParNetConfig:
    """Our own: small enough to be trained in minutes on a CPU, for images of 64 x 64."""
    return ParNetConfig(widths=(20, 40, 56), last_width=96, depths=(2, 3, 3), num_classes=num_classes)


def streams_config(widths: tuple[int, ...], depths: tuple[int, ...]) -> ParNetConfig:
    """Our own fit of ParNet-M with another number of streams: as many fused parameters, within 4 %.

    The paper compares 1 to 4 streams at an equal number of parameters and tells no widths. Here they double from one
    resolution to the next and four times the last comes before the classifier, as in ParNet-M, in multiples of 16. One,
    two and four streams have 34.34, 34.59 and 35.82 M fused parameters, ParNet-M with its three 35.58 M.
    """
    return ParNetConfig(widths, last_width=4 * widths[-1], depths=depths)


CONFIGS: dict[str, ParNetConfig] = {
    "parnet_s": ParNetConfig(widths=(96, 192, 384), last_width=1280),
    "parnet_s92": ParNetConfig(widths=(92, 192, 384), last_width=1280),  # the first width of the released settings
    "parnet_m": ParNetConfig(widths=(128, 256, 512), last_width=2048),
    "parnet_l": ParNetConfig(widths=(160, 320, 640), last_width=2560, dropout=0.1),
    "parnet_xl": ParNetConfig(widths=(200, 400, 800), last_width=3200, dropout=0.1),
    "parnet_m_streams1": streams_config((144, 288, 576), (5,)),
    "parnet_m_streams2": streams_config((128, 256, 512), (5, 5)),
    "parnet_m_streams4": streams_config((64, 128, 256, 512), (4, 4, 5, 5)),
    "parnet_cifar_w32": cifar_config(32),
    "parnet_cifar_w112": cifar_config(112),
    "parnet_cifar_w168": cifar_config(168),
    "parnet_pico_digits": pico_config(10),
    "parnet_pico_patterns": pico_config(20),
}


class Head(nn.Module):
    """Global average, dropout, linear classifier."""

    def __init__(self, channels: int, num_classes: int, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, num_classes)."""
        logits: Tensor = self.fc(self.dropout(x.mean(dim=(2, 3))))
        return logits


def stem(config: ParNetConfig) -> nn.Sequential:
    """Image (N, 3, H, W) to the first resolution: 1/4, or 1/2 for four widths; the full image for CIFAR."""
    width, activation = config.widths[0], config.activation
    if config.layout is Layout.CIFAR:
        # Depths 1 and 2 at stride 1, and the one block of depth 3 that replaces one block of every stream.
        return nn.Sequential(Block(3, width, activation), *(Block(width, width, activation) for _ in range(2)))
    if len(config.widths) == 4:
        return nn.Sequential(Block(3, width, activation, stride=2))
    first = min(STEM_WIDTH, width)
    return nn.Sequential(Block(3, first, activation, stride=2), Block(first, width, activation, stride=2))


def fusion(width: int, c_out: int, activation: Activation, stride: int) -> OrderedDict[str, nn.Module]:
    """The layers that turn a pair of (N, C, H, W), stream first, into one (N, C', H/s, W/s); the keys skip 1."""
    return OrderedDict({"0": FusionInput(width), "2": Block(2 * width, c_out, activation, stride, groups=2)})


def final_layer(config: ParNetConfig) -> nn.Module:
    """(N, C, H, W) to the features that are pooled: (N, C', H/2, W/2), at the same size for CIFAR."""
    width, last = config.widths[-1], config.last_width
    if config.layout is Layout.CIFAR:
        return nn.Sequential(conv_bn(width, last, 1), ACTIVATION_LAYERS[config.activation]())
    return Block(width, last, config.activation, stride=2)


def check_sides(x: Tensor, stride: int) -> None:
    """Refuses an image (N, 3, H, W) whose sides are not multiples of a stride."""
    height, width = x.shape[-2:]
    if height % stride or width % stride:
        raise MisuseError(f"ParNet takes images whose sides are multiples of {stride}, not {height} x {width}.")


class Trunk(nn.Module):
    """The down-sampling and the streams, which classification and dense prediction share."""

    def __init__(self, config: ParNetConfig) -> None:
        super().__init__()
        self.config = config
        act = config.activation
        downs = [Block(a, b, act, stride=2) for a, b in pairwise(config.widths)]
        self.inits = nn.ModuleList([stem(config), *downs])
        self.streams = nn.ModuleList(
            nn.Sequential(*(Block(width, width, act) for _ in range(depth)))
            for width, depth in zip(config.stream_widths, config.depths, strict=True)
        )

    def stream_outputs(self, x: Tensor) -> list[Tensor]:
        """(N, 3, H, W) normalised image -> what each stream leaves, at 1/4, 1/8 and 1/16 of its size for three."""
        resolutions = []
        for init in self.inits:
            x = init(x)
            resolutions.append(x)
        inputs = resolutions[-len(self.streams) :]
        return [stream(y) for stream, y in zip(self.streams, inputs, strict=True)]


class ParNet(Trunk):
    """The classification network (paper, section 3.3); its `state_dict` has the key names of the authors' release."""

    def __init__(self, config: ParNetConfig) -> None:
        super().__init__(config)
        act, widths = config.activation, config.stream_widths
        steps = list(pairwise(widths))
        # The first stream has nothing to be fused with: its block only down-samples.
        self.downsamples_2 = nn.ModuleList(
            Block(a, b, act, stride=2) if index == 0 else nn.Sequential(fusion(a, b, act, stride=2))
            for index, (a, b) in enumerate(steps)
        )
        last_fusion = fusion(widths[-1], widths[-1], act, stride=1) if steps else {}
        self.combine = nn.Sequential(OrderedDict({**last_fusion, "3": final_layer(config)}))
        self.head = Head(config.last_width, config.num_classes, config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) normalised image -> (N, num_classes) logits."""
        check_sides(x, self.config.total_stride)
        outputs = self.stream_outputs(x)
        x = outputs[0]
        for index, merge in enumerate((*self.downsamples_2, self.combine)):
            x = merge(x if index == 0 else (outputs[index], x))
        logits: Tensor = self.head(x)
        return logits


def build(name: str, kernel_policy: str | None = None) -> nn.Module:  # noqa: ARG001 - ParNet's kernels are 3 x 3
    """A ParNet of `CONFIGS`, freshly initialised."""
    if name not in CONFIGS:
        raise UnknownNameError("model", name, CONFIGS, "edgekit models")
    return ParNet(CONFIGS[name])


def adapt_activation(model: nn.Module) -> str:
    """Gives a ParNet with loaded weights the activation they were trained with, and tells why in a sentence."""
    found = detect_activation(model.state_dict())
    layer = ACTIVATION_LAYERS[found.activation]
    for path, module in list(model.named_modules()):
        if isinstance(module, tuple(ACTIVATION_LAYERS.values())):
            owner, _, name = path.rpartition(".")
            setattr(model.get_submodule(owner), name, layer())
    return f"activation {found.activation}: {found.reason}"


@dataclass(frozen=True, slots=True)
class DetectedActivation:
    """The activation a checkpoint was trained with, and what tells so."""

    activation: Activation
    reason: str


def detect_activation(state_dict: Mapping[str, Tensor]) -> DetectedActivation:
    """Tells SiLU weights from ReLU weights without data.

    The batch norms that read a block's output (the skips of the streams, the inputs of the fusions) hold the means of
    that output. ReLU makes none negative; SiLU, whose values reach down to -0.28, makes some.

    Raises:
        WeightsError: The checkpoint has none of these means, so it is no unfused ParNet.
    """
    ending = (".rbr_identity.running_mean", ".b1.running_mean", ".b2.running_mean")
    means = {key: float(mean.min()) for key, mean in state_dict.items() if key.endswith(ending)}
    if not means:
        raise WeightsError("The checkpoint has no rbr_identity, b1 or b2 running mean, so it is no unfused ParNet's.")
    key, lowest = min(means.items(), key=lambda item: item[1])
    if lowest < 0:
        return DetectedActivation(Activation.SILU, f"{key} goes down to {lowest:.3g}, which ReLU never makes")
    if not any(state_dict[key].any() for key in means):
        return DetectedActivation(Activation.SILU, f"all {len(means)} running means are 0: untrained, the paper's SiLU")
    return DetectedActivation(Activation.RELU, f"none of {len(means)} running means of activations is negative")
