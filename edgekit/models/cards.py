"""The data sheets of the models edgekit ships, as data: reading them loads no framework."""

from collections.abc import Mapping
from types import MappingProxyType

from msgspec import structs

from edgekit.artifact import ModelCard, Preprocessing, Shape, SizeRule
from edgekit.errors import MisuseError, UnknownNameError

IMAGENET = Preprocessing(
    interpolation="bicubic",
    crop_fraction=0.875,
    channel_order="RGB",
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
)

_PARCNETV2_PAPER = "Xu et al., ParCNetV2: Oversized Kernel with Enhanced Attention, ICCV 2023"

_PARCNETV2_NOTES = (
    "At sizes other than 224 the oversized kernels are zoomed linearly to 2H-1 and 2W-1 taps, as in the paper "
    "(--kernel interpolate); the released code keeps the 224 taps (--kernel keep). At 224 the two are the same.",
    "The norms divide by the Euclidean length over the channels, as the released code does; the paper says nothing.",
    "The release carries no preprocessing; mean, std, bicubic and crop 0.875 are the defaults its training used.",
)


UNIT = Preprocessing(
    interpolation="bilinear",
    crop_fraction=1.0,
    channel_order="RGB",
    mean=(0.5, 0.5, 0.5),
    std=(0.25, 0.25, 0.25),
)
"""Of the demo models: whole images, about zero mean and unit variance."""


def _parcnetv2(name: str, title: str, parameters: int, macs: int) -> ModelCard:
    return ModelCard(
        name=name,
        family="parcnetv2",
        summary=f"{title}: oversized depthwise convolutions and bifurcate gate units",
        paper=_PARCNETV2_PAPER,
        input_shape=(1, 3, 224, 224),
        size_rule=SizeRule(minimum=3),
        preprocessing=IMAGENET,
        classes=1000,
        parameters=parameters,
        macs=macs,
        kernel_policies=("interpolate", "keep"),
        notes=_PARCNETV2_NOTES,
    )


_PARNET_NOTES = (
    "The activation is the paper's SiLU. The released settings build ReLU: with --weights the checkpoint's own running "
    "means decide, and the manifest says which it was.",
    "Parameters and MACs are those of the network as trained, before its branches are fused.",
)

_CIFAR_NOTE = "Its widths are our own fit of the paper's parameter counts; no code or checkpoint was released."


def _parnet(name: str, title: str, parameters: int, macs: int, *notes: str) -> ModelCard:
    return ModelCard(
        name=name,
        family="parnet",
        summary=f"{title}: 12 layers deep, three parallel streams of RepVGG-SSE blocks",
        paper="Goyal et al., Non-deep Networks, NeurIPS 2022",
        input_shape=(1, 3, 224, 224),
        size_rule=SizeRule(minimum=32, multiple_of=32),
        preprocessing=IMAGENET,
        classes=1000,
        parameters=parameters,
        macs=macs,
        weights_licence="released by the authors, licence not stated",
        notes=(*_PARNET_NOTES, *notes),
    )


def _parnet_cifar(width: int, parameters: int, macs: int) -> ModelCard:
    imagenet = _parnet(f"parnet_cifar_w{width}", f"ParNet for 32-pixel images, width {width}", parameters, macs)
    return structs.replace(
        imagenet,
        input_shape=(1, 3, 32, 32),
        size_rule=SizeRule(minimum=4, multiple_of=4),
        preprocessing=structs.replace(IMAGENET, crop_fraction=1.0),
        classes=10,
        weights_licence="none published",
        notes=(*imagenet.notes, _CIFAR_NOTE, "Its preprocessing is unknown; ImageNet's mean and std stand in."),
    )


_PARCNETV1_PAPER = "Zhang, Hu, Wang, ParC-Net: Position Aware Circular Convolution, ECCV 2022"

_MOBILE = Preprocessing(
    interpolation="bilinear",
    crop_fraction=256 / 288,
    channel_order="BGR",
    mean=(0.0, 0.0, 0.0),
    std=(1.0, 1.0, 1.0),
)


def _convnext(name: str, summary: str, rule: SizeRule, parameters: int, macs: int, *notes: str) -> ModelCard:
    return ModelCard(
        name=name,
        family="parc_convnext",
        summary=summary,
        paper=_PARCNETV1_PAPER,
        input_shape=(1, 3, 224, 224),
        size_rule=rule,
        preprocessing=IMAGENET,
        classes=1000,
        parameters=parameters,
        macs=macs,
        notes=("The release carries no preprocessing; ImageNet's usual values stand in.", *notes),
    )


def _parc_net(name: str, title: str, parameters: int, macs: int) -> ModelCard:
    return ModelCard(
        name=name,
        family="parc_net",
        summary=f"{title}: MobileViT's frame with circular convolutions along each axis",
        paper=_PARCNETV1_PAPER,
        input_shape=(1, 3, 256, 256),
        size_rule=SizeRule(minimum=32, square=True),
        preprocessing=_MOBILE,
        classes=1000,
        parameters=parameters,
        macs=macs,
        weights_licence="released by the authors, licence not stated",
        notes=(
            "Images are BGR in 0..1, neither centred nor scaled further, as in the release.",
            "Kernels and position embeddings are resized to the map linearly, for every input size, as in the release.",
            "The paper's 1740 M MACs charge pooled layers at every pixel; the count here does not.",
        ),
    )


def _ablation(name: str, without: str, parameters: int, macs: int) -> ModelCard:
    """ParCNetV2-XT with one component taken away (paper, table 6)."""
    whole = _parcnetv2(name, f"ParCNetV2-XT without {without}", parameters, macs)
    local = name.endswith("_no_oc")
    notes = ("What takes the component's place is our reading of the paper; no code was released.",)
    return structs.replace(
        whole,
        summary=f"ParCNetV2-XT without {without} (ablation)",
        kernel_policies=() if local else whole.kernel_policies,
        notes=(*(whole.notes[1:] if local else whole.notes), *notes),
    )


def _oversized_convnext(name: str, summary: str, parameters: int, note: str) -> ModelCard:
    """ConvNeXt-T with parts of ParCNetV2 (supplement, table 1)."""
    return ModelCard(
        name=name,
        family="convnext_oversized",
        summary=summary,
        paper=_PARCNETV2_PAPER,
        input_shape=(1, 3, 224, 224),
        size_rule=SizeRule(minimum=32, multiple_of=32),
        preprocessing=IMAGENET,
        classes=1000,
        parameters=parameters,
        macs=4_745_222_400,
        kernel_policies=("interpolate", "keep"),
        notes=("Where the parts go is our reading of the paper; no code was released.", note),
    )


def _parnet_streams(streams: int, parameters: int, macs: int) -> ModelCard:
    """ParNet-M's size spread over another number of streams."""
    card = _parnet(f"parnet_m_streams{streams}", f"ParNet-M with {streams} streams", parameters, macs)
    plural = "s" if streams > 1 else ""
    return structs.replace(
        card,
        summary=f"ParNet of ParNet-M's size with {streams} parallel stream{plural} (ablation)",
        weights_licence="none published",
        notes=(*card.notes, "Widths and depths are ours, chosen for ParNet-M's fused size; the paper gives none."),
    )


def _upernet(size: str, parameters: int, macs: int) -> ModelCard:
    backbone = f"ParCNetV2-{size.upper()}"
    return ModelCard(
        name=f"upernet_parcnetv2_{size}",
        family="upernet",
        summary=f"UperNet on {backbone}: semantic segmentation",
        paper=_PARCNETV2_PAPER,
        input_shape=(1, 3, 512, 512),
        size_rule=SizeRule(minimum=32),
        preprocessing=structs.replace(IMAGENET, interpolation="bilinear", crop_fraction=1.0),
        classes=150,
        parameters=parameters,
        macs=macs,
        kernel_policies=("interpolate", "keep"),
        notes=(
            *_PARCNETV2_NOTES[:2],
            "The parameters include the auxiliary head, as the paper's do; it is for training and not exported.",
            "The paper's MACs are those at 512 x 2048 with the kernels kept at 224 (--kernel keep), without that head.",
            "Logits come at the size of the image. The short side of an image is resized to 512.",
        ),
    )


def _pico(of: ModelCard, classes: int, top1: str, *notes: str) -> ModelCard:
    """A demo model: a small one of its family, trained on an embedded set, its weights in the package."""
    data = of.name.rpartition("_")[2]
    return structs.replace(
        of,
        summary=f"{of.summary}; trained on {data}",
        input_shape=(1, 3, 64, 64),
        preprocessing=UNIT,
        classes=classes,
        weights_licence="Apache-2.0, in the package",
        notes=(
            f"Its weights come with edgekit: {top1} of the test images of {data} are classified right in float32.",
            f"`python scripts/train_demo.py {of.name}` trains it; widths, depths and training are our own.",
            *notes,
        ),
    )


def _parcnetv2_pico(data: str, classes: int, parameters: int, macs: int, top1: str) -> ModelCard:
    return _pico(
        _parcnetv2(f"parcnetv2_pico_{data}", "ParCNetV2-pico", parameters, macs),
        *(classes, top1),
        "At sizes other than 64 the oversized kernels are zoomed (--kernel interpolate) or kept (--kernel keep).",
    )


def _parnet_pico(data: str, classes: int, parameters: int, macs: int, top1: str) -> ModelCard:
    of = _parnet(f"parnet_pico_{data}", "ParNet-pico", parameters, macs)
    shallow = structs.replace(of, summary=of.summary.replace("12 layers", "10 layers"))
    return _pico(shallow, classes, top1, _PARNET_NOTES[1])


CARDS: Mapping[str, ModelCard] = MappingProxyType(
    {
        card.name: card
        for card in (
            _parcnetv2("parcnetv2_xt", "ParCNetV2-XT", 7_427_720, 1_553_449_088),
            _parcnetv2("parcnetv2_t", "ParCNetV2-T", 24_935_144, 4_269_260_288),
            _parcnetv2("parcnetv2_s", "ParCNetV2-S", 39_436_520, 7_780_626_944),
            _parcnetv2("parcnetv2_b", "ParCNetV2-B", 56_368_360, 12_491_869_248),
            _parnet("parnet_s", "ParNet-S", 20_983_848, 5_373_907_136),
            _parnet(
                *("parnet_s92", "ParNet-S with first width 92", 20_930_936, 5_259_501_056),
                "The released checkpoint has this width; the paper's parameter count fits 96.",
            ),
            _parnet("parnet_m", "ParNet-M", 38_953_256, 9_534_824_640),
            _parnet("parnet_l", "ParNet-L", 60_180_008, 14_803_691_712),
            _parnet("parnet_xl", "ParNet-XL", 93_176_168, 23_016_065_472),
            _parnet_cifar(32, 1_408_362, 170_978_912),
            _parnet_cifar(112, 17_141_722, 2_085_866_832),
            _parnet_cifar(168, 38_535_682, 4_690_612_920),
            _convnext(
                *("parc_convnext_xt", "ParC-ConvNeXt-XT: ConvNeXt at half width with circular convolutions"),
                SizeRule(minimum=224, maximum=224),
                *(7_412_824, 1_139_222_400),
                "The circular kernels and position embeddings fit 224 x 224 and nothing else.",
            ),
            _convnext(
                *("convnext_xt", "ConvNeXt at half width, the control of ParC-ConvNeXt-XT"),
                SizeRule(minimum=32),
                *(7_438_360, 1_143_964_032),
            ),
            _parc_net("parc_net_s", "ParC-Net-S", 5_037_088, 1_657_347_584),
            _parc_net("parc_net_xs", "ParC-Net-XS", 2_646_184, 1_081_445_888),
            _parc_net("parc_net_h", "ParC-Net-H", 20_403_940, 8_544_418_656),
            _ablation("parcnetv2_xt_no_oc", "oversized convolutions", 7_254_120, 1_409_255_808),
            _ablation("parcnetv2_xt_no_sbgu", "spatial gates", 6_853_784, 1_435_033_728),
            _ablation("parcnetv2_xt_no_cbgu", "channel gates", 7_710_488, 1_612_656_768),
            _ablation("parcnetv2_xt_no_uniform", "uniform stages", 7_248_040, 1_410_227_968),
            _oversized_convnext(
                *("convnext_t_oc", "ConvNeXt-T with oversized convolutions", 28_962_952),
                "The paper says 30 M parameters, which no placing of such kernels reaches: they have 0.37 M together.",
            ),
            _oversized_convnext(
                *("convnext_t_oc_bgu", "ConvNeXt-T with oversized convolutions and both gate units", 28_958_536),
                "The channel gate's ratio, 10/3, keeps a block's size and so the paper's 29 M parameters.",
            ),
            _parnet_streams(1, 37_566_056, 4_870_571_712),
            _parnet_streams(2, 37_866_792, 7_222_616_256),
            _parnet_streams(4, 39_226_152, 11_846_959_296),
            _parcnetv2_pico("digits", 10, 370_442, 10_550_752, "99.1%"),
            _parcnetv2_pico("patterns", 20, 371_252, 10_551_552, "TOP1_B"),
            _parnet_pico("digits", 10, 335_518, 10_752_300, "99.6%"),
            _parnet_pico("patterns", 20, 336_488, 10_753_260, "95.5%"),
            _upernet("t", 54_909_996, 234_349_264_896),
            _upernet("s", 69_411_372, 253_430_464_512),
            _upernet("b", 86_934_668, 279_465_050_112),
        )
    }
)
"""Name to card."""


def card(name: str) -> ModelCard:
    """The card of a model.

    Raises:
        UnknownNameError: There is no such model; the message names the closest.
    """
    if name not in CARDS:
        raise UnknownNameError("model", name, CARDS, "edgekit models")
    return CARDS[name]


def check_input(of: ModelCard, shape: Shape) -> None:
    """Refuses an input shape the network cannot take.

    Raises:
        MisuseError: Wrong rank, channels or side; the message gives the nearest shapes that work.
    """
    if len(of.input_shape) != 4:
        if len(shape) != len(of.input_shape) or min(shape) < 1:
            raise MisuseError(f"{of.name} takes {text(of.input_shape)}, and cannot take {text(shape)}.")
        return
    channels = of.input_shape[1]
    if len(shape) != 4 or min(shape) < 1 or shape[1] != channels:
        raise MisuseError(
            f"{of.name} takes images as Nx{channels}xHxW with positive sides, not {text(shape)}. "
            f"Its own input is {text(of.input_shape)}."
        )
    rule = of.size_rule
    height, width = shape[2:]
    if rule.square and height != width:
        side = rule.nearest(max(height, width))[0]
        raise MisuseError(f"{of.name} takes square images only. Nearest that works: {text((*shape[:2], side, side))}.")
    if rule.allows(height) and rule.allows(width):
        return
    low, high = ([rule.nearest(side)[end] for side in (height, width)] for end in (0, -1))
    options = dict.fromkeys(text((*shape[:2], *sides)) for sides in (low, high))
    raise MisuseError(
        f"{of.name} cannot take {height}x{width}: sides are {rule_text(rule)}. Nearest that work: {', '.join(options)}."
    )


def rule_text(rule: SizeRule) -> str:
    """Which sides a network takes, in words."""
    if rule.minimum == rule.maximum:
        return f"{rule.minimum} pixels, no other"
    multiples = f"multiples of {rule.multiple_of}, " if rule.multiple_of > 1 else ""
    return f"{multiples}at least {rule.minimum} pixels{', both the same' if rule.square else ''}"


def check_kernel_policy(of: ModelCard, policy: str | None) -> str | None:
    """The kernel policy to use: the one asked for, or the card's first.

    Raises:
        MisuseError: The network has no such policy.
    """
    if policy is None:
        return of.kernel_policies[0] if of.kernel_policies else None
    if policy in of.kernel_policies:
        return policy
    known = " or ".join(of.kernel_policies)
    raise MisuseError(
        f"{of.name} has no kernel policy {policy!r}; it takes {known}."
        if known
        else f"{of.name} has no oversized kernels, so --kernel does not apply. Leave it out."
    )


def text(shape: Shape) -> str:
    """(1, 3, 224, 224) as 1x3x224x224."""
    return "x".join(map(str, shape))
