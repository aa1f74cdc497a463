"""Test networks hold the group they were made of, and nothing else to choose for."""

import pytest
import torch
from torch import nn

from benchmarks import kernel_zoo
from edgekit.kernel_group import KernelGroup, candidates
from edgekit.passes.lower.kernel_sites import find_groups
from edgekit.program import constants, fingerprint, operator_counts
from edgekit.tune.probe import KernelNetwork, Step, probe_program, probe_shape, wrapped
from tests.kernels import GROUPS, TORUS
from tests.passes.materialising import image

ZOO = kernel_zoo.groups()


def groups(of: KernelGroup) -> list[KernelGroup]:
    return [site.group for site in find_groups(probe_program(of))]


@pytest.mark.parametrize("name", GROUPS)
def test_a_test_network_holds_its_group(name: str) -> None:
    assert groups(GROUPS[name]) == [GROUPS[name]]


@pytest.mark.parametrize("found", ZOO[::3], ids=str)
def test_a_test_network_of_the_zoo_holds_its_group(found: KernelGroup) -> None:
    assert groups(found) == [found]


@pytest.mark.slow
@pytest.mark.parametrize("found", ZOO, ids=str)
def test_every_test_network_of_the_zoo_holds_its_group(found: KernelGroup) -> None:
    assert groups(found) == [found]


def test_the_zoo_has_every_group_once_and_each_can_be_written_in_several_ways() -> None:
    assert len(set(ZOO)) == len({str(found) for found in ZOO}) == len(ZOO)
    assert all(len(candidates(found)) > 1 for found in ZOO)
    assert {form for found in ZOO for way in candidates(found).values() for form in way.forms} == {
        *("depthwise", "toeplitz", "pieces", "rows", "polyphase", "dense", "matmul"),
    }


def test_the_zoo_reads_its_groups_back_from_the_one_network() -> None:
    zoo = kernel_zoo.build()
    assert isinstance(zoo, kernel_zoo.KernelZoo)
    assert [network.chains[0][0].conv.weight.shape[0] for network in zoo.networks] == [  # type: ignore[index,union-attr]
        found.channels for found in ZOO
    ]


def test_a_test_network_is_what_stands_around_a_group_and_the_group() -> None:
    counts = operator_counts(probe_program(GROUPS["pair and local"]))
    assert counts == {"conv2d": 5, "relu": 1, "add": 1}
    empty = probe_program(KernelGroup(channels=4, size=(9, 7), chains=()))
    assert operator_counts(empty) == {"conv2d": 2, "relu": 1}


def test_test_networks_are_the_same_every_time_and_leave_the_random_numbers_alone() -> None:
    torch.manual_seed(7)
    before = torch.random.get_rng_state()
    first, second = probe_program(GROUPS["plane"]), probe_program(GROUPS["plane"])
    assert fingerprint(first) == fingerprint(second)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(value.std() > 0 for _, value in constants(first))


@pytest.mark.parametrize("axis", [2, 3])
def test_repeating_one_axis_is_what_padding_circularly_gives(axis: int) -> None:
    x = image((1, 2, 5, 6))
    ends = (1, 4, 0, 0) if axis == 2 else (0, 0, 3, 2)
    above, below, left, right = ends
    assert torch.equal(wrapped(x, ends), nn.functional.pad(x, (left, right, above, below), mode="circular"))


def test_a_step_of_a_torus_is_a_layer_that_pads_circularly() -> None:
    step = Step(4, TORUS)
    layer = nn.Conv2d(4, 4, (5, 3), padding=(2, 1), padding_mode="circular", groups=4)
    layer.load_state_dict(step.conv.state_dict())
    x = image((1, 4, 9, 7))
    assert torch.equal(step(x), layer(x))


def test_the_input_is_the_map_of_the_group() -> None:
    found = GROUPS["strided plane"]
    assert probe_shape(found) == (1, 4, 9, 7)
    with torch.no_grad():
        assert tuple(KernelNetwork(found)(image(probe_shape(found))).shape) == (1, 4, *found.output)
