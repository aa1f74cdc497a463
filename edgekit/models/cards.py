"""The data sheets of the models edgekit ships, as data: reading them loads no framework."""

from collections.abc import Mapping
from types import MappingProxyType

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


CARDS: Mapping[str, ModelCard] = MappingProxyType(
    {
        card.name: card
        for card in (
            _parcnetv2("parcnetv2_xt", "ParCNetV2-XT", 7_427_720, 1_553_449_088),
            _parcnetv2("parcnetv2_t", "ParCNetV2-T", 24_935_144, 4_269_260_288),
            _parcnetv2("parcnetv2_s", "ParCNetV2-S", 39_436_520, 7_780_626_944),
            _parcnetv2("parcnetv2_b", "ParCNetV2-B", 56_368_360, 12_491_869_248),
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
    sides = f"multiples of {rule.multiple_of}, " if rule.multiple_of > 1 else ""
    raise MisuseError(
        f"{of.name} cannot take {height}x{width}: sides are {sides}at least {rule.nearest(rule.minimum)[0]} pixels. "
        f"Nearest that work: {', '.join(options)}."
    )


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
