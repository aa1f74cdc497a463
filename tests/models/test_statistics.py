"""Batch norm statistics of networks with random weights."""

import pytest
import torch
from torch import Tensor, nn

from edgekit.artifact import TensorSpec
from edgekit.inputs import generate
from edgekit.models.statistics import batch_norms, measure_batch_norms, rounded
from edgekit.models.weights import random_weights

SHAPE = (1, 3, 32, 32)


def images() -> Tensor:
    return torch.cat(
        [torch.from_numpy(image) for (image,) in generate([TensorSpec(name="input", shape=SHAPE)]).values()]
    )


def deep_network(seed: int) -> nn.Module:
    layers = [nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU()) for _ in range(12)]
    model = nn.Sequential(*layers).eval()
    random_weights(model, seed)
    return model


def spread_between_images(model: nn.Module) -> float:
    with torch.no_grad():
        return float(model(images()).std(dim=0).mean())


def test_a_deep_random_network_keeps_telling_images_apart() -> None:
    model = deep_network(3)
    before = spread_between_images(model)

    assert measure_batch_norms(model, images(), seed=3) == 12

    assert spread_between_images(model) > 0.1
    assert spread_between_images(model) > 2 * before


def test_same_seed_same_statistics_and_another_seed_others() -> None:
    first, second, other = deep_network(1), deep_network(1), deep_network(1)
    for model, seed in ((first, 1), (second, 1), (other, 2)):
        measure_batch_norms(model, images(), seed)

    def statistics(model: nn.Module) -> Tensor:
        return torch.cat([norm.state_dict()["running_var"] for norm in batch_norms(model).values()])

    assert torch.equal(statistics(first), statistics(second))
    assert not torch.equal(statistics(first), statistics(other))


def test_weights_mode_and_momentum_stay() -> None:
    model = deep_network(0)
    weights = {name: value.clone() for name, value in model.named_parameters()}

    measure_batch_norms(model, images(), seed=0)

    assert all(torch.equal(value, weights[name]) for name, value in model.named_parameters())
    assert not any(module.training for module in model.modules())
    assert all(norm.momentum == 0.1 for norm in batch_norms(model).values())


def test_a_network_without_batch_norm_is_left_alone() -> None:
    assert measure_batch_norms(nn.Conv2d(3, 3, 1).eval(), images(), seed=0) == 0


@pytest.mark.parametrize(
    ("value", "expected"), [(1.23456, 1.23), (-0.00098765, -0.000988), (123456.0, 123000.0), (0, 0)]
)
def test_statistics_are_rounded_to_three_digits(value: float, expected: float) -> None:
    assert float(rounded(torch.tensor([value], dtype=torch.float64))) == pytest.approx(expected, rel=1e-6)
