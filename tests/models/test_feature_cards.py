"""The cards of the backbones: true of the networks they describe, and of the classifiers those are parts of."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from edgekit.capture import capture, output_specs
from edgekit.errors import MisuseError, UnknownNameError
from edgekit.models import features, parcnetv2, parnet
from edgekit.models.cards import CARDS, card, check_input
from edgekit.models.feature_cards import SIZES, SUFFIX, features_card
from edgekit.program import stats

QUICK = ("parcnetv2_xt", "parnet_cifar_w32")
CAPTURED = [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in SIZES]


def test_every_network_with_a_backbone_has_a_card_of_it() -> None:
    assert SIZES.keys() == parcnetv2.CONFIGS.keys() | parnet.CONFIGS.keys()
    assert SIZES.keys() <= CARDS.keys()


@pytest.mark.parametrize("name", SIZES)
def test_counts_on_the_card_are_those_of_the_backbone(name: str) -> None:
    of = features_card(name)
    with torch.device("meta"):
        backbone = features.build(name).eval()
        image = torch.empty(of.input_shape)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        backbone(image)
    assert sum(parameter.numel() for parameter in backbone.parameters()) == of.parameters
    assert counter.get_total_flops() == 2 * of.macs


@pytest.mark.parametrize("name", CAPTURED)
def test_macs_on_the_card_are_those_of_the_captured_program(name: str) -> None:
    of, backbone = features_card(name), features.build(name).eval()
    program = capture(backbone, of.input_shape)
    assert stats(program).macs == of.macs
    specs = output_specs(program, features.output_names(backbone))
    assert [spec.shape[1] for spec in specs] == list(backbone.widths)


@pytest.mark.parametrize("name", SIZES)
def test_a_card_is_the_classifiers_but_for_what_a_backbone_lacks(name: str) -> None:
    of, classifier = features_card(name), card(name)
    assert of.name == name + SUFFIX
    assert (of.classes, of.family, of.input_shape) == (0, classifier.family, classifier.input_shape)
    assert of.preprocessing == classifier.preprocessing
    assert of.kernel_policies == classifier.kernel_policies
    assert of.notes[:-1] == classifier.notes
    assert of.parameters < classifier.parameters
    assert of.macs < classifier.macs
    check_input(of, of.input_shape)


def test_a_network_without_a_backbone_lists_those_that_have_one() -> None:
    with pytest.raises(MisuseError, match=r"^parc_net_s has no --features\. These have: parcnetv2_xt, .*timm:NAME"):
        features_card("parc_net_s")


def test_an_unknown_network_names_the_closest() -> None:
    with pytest.raises(UnknownNameError, match=r"no model named 'parcnetv2_tt'\. Did you mean .*parcnetv2_t"):
        features_card("parcnetv2_tt")
