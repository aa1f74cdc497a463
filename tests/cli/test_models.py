"""`edgekit models`."""

import json

import pytest

from edgekit.models.cards import CARDS
from edgekit.models.feature_cards import SIZES
from tests.cli.conftest import Run


def test_every_model_has_a_row(run: Run) -> None:
    result = run("models")

    assert result.exit_code == 0
    rows = [line.split()[0] for line in result.stdout.splitlines()[2:] if line[:1].strip()]
    assert rows == list(CARDS)
    assert "24,935,144" in result.stdout
    assert "4,269,260,288" in result.stdout


@pytest.mark.parametrize("name", CARDS)
def test_a_card_says_everything(run: Run, name: str) -> None:
    card = CARDS[name]

    result = run("models", name)

    assert result.exit_code == 0
    text = " ".join(result.stdout.split())
    for what in (card.summary, card.paper, f"{card.parameters:,}", f"{card.macs:,}", card.weights_licence, *card.notes):
        assert " ".join(what.split()) in text


def test_the_backbones_have_cards_too(run: Run) -> None:
    every = json.loads(run("models", "--features", "--json").stdout)["models"]
    one = json.loads(run("models", "parnet_s", "--features", "--json").stdout)["models"]
    text = " ".join(run("models", "parnet_s", "--features").stdout.split())

    assert [card["name"] for card in every] == [f"{name}_features" for name in SIZES]
    assert one == [card for card in every if card["name"] == "parnet_s_features"]
    assert "classes none: feature maps" in text
    assert "11,649,088" in text
    assert "4,553,023,680 at 1x3x224x224" in text


def test_the_default_of_the_kernels_is_marked(run: Run) -> None:
    assert "interpolate (default), keep" in run("models", "parcnetv2_t").stdout


def test_json_has_the_cards_as_they_are(run: Run) -> None:
    every, one = (json.loads(run("models", *name, "--json").stdout) for name in ((), ("parcnetv2_xt",)))

    assert every["schema_version"] == one["schema_version"] == 2
    assert [card["name"] for card in every["models"]] == list(CARDS)
    assert one["models"] == [card for card in every["models"] if card["name"] == "parcnetv2_xt"]
    assert one["models"][0]["input_shape"] == [1, 3, 224, 224]
