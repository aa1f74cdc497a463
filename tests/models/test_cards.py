"""The cards: that they are true of the networks they describe, and what they refuse."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from edgekit.artifact import Shape, SizeRule
from edgekit.errors import MisuseError, UnknownNameError
from edgekit.models.build import FAMILIES, build
from edgekit.models.cards import CARDS, card, check_input, check_kernel_policy

LONG = (
    "upernet_parcnetv2_s",
    "upernet_parcnetv2_b",
    "parcnetv2_s",
    "parcnetv2_b",
    "parnet_l",
    "parnet_xl",
    "parc_net_h",
)
"""The longest of their families; a shorter one is counted by default."""

COUNTED = [pytest.param(name, marks=pytest.mark.slow) if name in LONG else name for name in CARDS]


@pytest.mark.parametrize("name", COUNTED)
def test_counts_on_the_card_are_those_of_the_network(name: str) -> None:
    of = card(name)
    with torch.device("meta"):
        model = build(name, None)
        image = torch.empty(of.input_shape)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        logits = model(image)

    assert sum(parameter.numel() for parameter in model.parameters()) == of.parameters
    assert counter.get_total_flops() == 2 * of.macs
    assert logits.shape[:2] == (1, of.classes)
    assert logits.shape[2:] in {(), of.input_shape[2:]}  # of the whole image or of each of its pixels


@pytest.mark.parametrize("name", CARDS)
def test_a_card_is_consistent(name: str) -> None:
    of = card(name)

    assert of.name == name
    assert of.family in FAMILIES
    check_input(of, of.input_shape)
    assert check_kernel_policy(of, None) == (of.kernel_policies[0] if of.kernel_policies else None)
    assert all(build_policy in ("interpolate", "keep") for build_policy in of.kernel_policies)


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("parcnetv2_t", (1, 3, 2, 224), r"cannot take 2x224: sides are at least 3 pixels\. Nearest.*1x3x3x224\."),
        ("parcnetv2_t", (1, 1, 224, 224), r"takes images as Nx3xHxW with positive sides, not 1x1x224x224"),
        ("parcnetv2_t", (1, 3, 224), r"not 1x3x224\. Its own input is 1x3x224x224"),
        ("parcnetv2_t", (1, 3, 0, 224), r"positive sides, not 1x3x0x224"),
        ("parnet_s", (1, 3, 225, 224), r"multiples of 32, at least 32.*1x3x224x224, 1x3x256x224\."),
        ("parnet_s", (1, 3, 8, 8), r"Nearest that work: 1x3x32x32\."),
        ("parc_net_s", (1, 3, 256, 192), r"square images only\. Nearest that works: 1x3x256x256"),
        ("parc_convnext_xt", (1, 3, 256, 256), r"224 pixels, no other\. Nearest that work: 1x3x224x224\."),
    ],
)
def test_sizes_a_network_cannot_take_name_the_nearest(name: str, shape: Shape, message: str) -> None:
    with pytest.raises(MisuseError, match=message):
        check_input(card(name), shape)


@pytest.mark.parametrize(
    ("rule", "side", "nearest"),
    [
        (SizeRule(minimum=3), 1, (3,)),
        (SizeRule(minimum=32, multiple_of=32), 225, (224, 256)),
        (SizeRule(minimum=33, multiple_of=32), 40, (64,)),
        (SizeRule(minimum=224, maximum=224), 300, (224,)),
        (SizeRule(minimum=1), 17, (17,)),
    ],
)
def test_nearest_sides(rule: SizeRule, side: int, nearest: tuple[int, ...]) -> None:
    assert rule.nearest(side) == nearest
    assert all(rule.allows(each) for each in nearest)


def test_an_unknown_model_names_the_closest() -> None:
    with pytest.raises(UnknownNameError, match=r"no model named 'parcnetv2_tt'\. Did you mean .*parcnetv2_t"):
        card("parcnetv2_tt")


def test_a_kernel_policy_is_refused_where_there_is_nothing_to_choose() -> None:
    with pytest.raises(MisuseError, match="parnet_s has no oversized kernels, so --kernel does not apply"):
        check_kernel_policy(card("parnet_s"), "keep")
    with pytest.raises(MisuseError, match="no kernel policy 'stretch'; it takes interpolate or keep"):
        check_kernel_policy(card("parcnetv2_t"), "stretch")
