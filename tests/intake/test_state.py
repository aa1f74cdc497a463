"""The name of the weights that a network came with."""

import torch
from torch import nn

from edgekit.intake.state import hash_state


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))


def test_equal_weights_have_one_name() -> None:
    assert hash_state(net()) == hash_state(net())


def test_one_bit_changes_it() -> None:
    model = net()
    with torch.no_grad():
        model.state_dict()["0.weight"].view(-1)[0] *= 1 + 2**-23
    assert hash_state(model) != hash_state(net())


def test_counters_and_types_count() -> None:
    model = net()
    model.state_dict()["1.num_batches_tracked"].add_(1)
    assert hash_state(model) != hash_state(net())
    assert hash_state(net().half()) != hash_state(net())
