"""The trained weights in the package: small, described truthfully, and as accurate as their cards say."""

import numpy as np
import pytest
import torch
from safetensors import safe_open

from edgekit.artifact import ModelCard
from edgekit.data.dataset import Dataset
from edgekit.data.feed import feed
from edgekit.data.sources import open_dataset
from edgekit.models.build import build, settle
from edgekit.models.cards import CARDS
from edgekit.models.shipped import FOLDER, SHIPPED, weights_path
from edgekit.models.weights import load_weights

FLOORS = {"digits": 0.97, "patterns": 0.85}
CEILINGS = {"digits": 1.0, "patterns": 0.97}


def described(name: str) -> dict[str, str]:
    with safe_open(weights_path(name), "pt") as file:
        return dict(file.metadata())


def trained(name: str) -> torch.nn.Module:
    model = build(name, None)
    load_weights(model, weights_path(name))
    settle(name, model)
    return model


def accuracy(name: str, of: ModelCard, data: Dataset, count: int) -> float:
    """Top-1 on the first images of a set, among which its classes are about equally often."""
    images = np.concatenate(list(feed(data, of.preprocessing, (64, 64), range(count))))
    with torch.no_grad():
        answers = trained(name)(torch.from_numpy(images)).argmax(1)
    return float(np.mean([data.label(index) == int(answer) for index, answer in enumerate(answers)]))


def test_every_file_belongs_to_a_card() -> None:
    assert {path.name for path in FOLDER.iterdir()} == {f"{name}.safetensors" for name in SHIPPED}
    assert {name for name, card in CARDS.items() if "in the package" in card.weights_licence} == set(SHIPPED)


@pytest.mark.parametrize("name", SHIPPED)
def test_a_file_is_small_and_says_what_it_is(name: str) -> None:
    data, said = name.rpartition("_")[2], described(name)
    assert weights_path(name).stat().st_size < 1_500_000
    assert said["data"] == data
    assert FLOORS[data] <= float(said["top1"]) <= CEILINGS[data]
    assert int(said["test_images"]) == len(open_dataset(data))
    assert f"{float(said['top1']):.1%}" in CARDS[name].notes[0]
    assert CARDS[name].classes == len(open_dataset(data).classes)


@pytest.mark.parametrize("name", SHIPPED)
def test_a_hundred_images_are_told_apart(name: str) -> None:
    data = name.rpartition("_")[2]
    assert accuracy(name, CARDS[name], open_dataset(data), 100) >= FLOORS[data] - 0.07


@pytest.mark.slow
@pytest.mark.parametrize("name", SHIPPED)
def test_the_card_says_how_accurate_it_is(name: str) -> None:
    data = name.rpartition("_")[2]
    said, count = float(described(name)["top1"]), 500
    found = accuracy(name, CARDS[name], open_dataset(data), count)
    assert found == pytest.approx(said, abs=3.5 * (said * (1 - said) / count) ** 0.5)  # 3.5 standard errors


def test_the_weights_of_parnet_keep_its_branches_apart() -> None:
    """Fusing them is edgekit's work, and what makes the weights that come out hard to quantize."""
    with safe_open(weights_path("parnet_pico_digits"), "pt") as file:
        names = set(file.keys())
    assert {name.rpartition(".block.")[2].partition(".")[0] for name in names if ".block." in name} >= {
        *("rbr_dense", "rbr_1x1", "rbr_identity", "se")
    }
