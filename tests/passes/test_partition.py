"""Cutting a program at its branches: every operator once, no part waiting for itself, and the whole again together."""

from collections import Counter

import pytest
import torch
from torch import Tensor, nn

from edgekit.capture import capture
from edgekit.errors import MisuseError, ParityError
from edgekit.models.parnet import ParNet, ParNetConfig
from edgekit.numerics import EQUAL_DB
from edgekit.passes.partition import EXACT_DB, Partition, certify, compose, partition
from edgekit.program import Program, constants, fingerprint, operator_counts, run, set_constant, stats

STREAMS = "streams.*"
SHAPE = (1, 3, 64, 64)


@pytest.fixture(scope="module")
def program() -> Program:
    """A ParNet with its three streams of one block."""
    torch.manual_seed(0)
    return capture(ParNet(ParNetConfig((8, 12, 16), 24, depths=(1, 2, 1), num_classes=5)).eval(), SHAPE)


@pytest.fixture(scope="module")
def cut(program: Program) -> Partition:
    return partition(program, STREAMS)


def probe(*shape: int, seed: int = 0) -> tuple[Tensor, ...]:
    return (torch.randn(shape or SHAPE, generator=torch.Generator().manual_seed(seed)),)


def test_streams_what_feeds_them_and_what_joins_them_are_parts(cut: Partition) -> None:
    assert Counter(part.name for part in cut.parts) == Counter(
        ["stem", "stem.1", "streams.0", "streams.1", "streams.2", "merge", "merge.1"]
    )
    takes = {part.name: part.inputs for part in cut.parts}
    gives = {part.name: part.outputs for part in cut.parts}
    assert takes["stem"] == cut.inputs
    assert takes["streams.0"] == takes["stem.1"] == gives["stem"]
    assert takes["streams.1"] == takes["streams.2"] == gives["stem.1"]
    assert {*takes["merge"]} == {*gives["streams.0"], *gives["streams.1"]}
    assert {*takes["merge.1"]} == {*gives["streams.2"], *gives["merge"]}
    assert gives["merge.1"] == cut.outputs


def test_every_operator_and_weight_is_in_one_part(program: Program, cut: Partition) -> None:
    together = sum((operator_counts(part.program) for part in cut.parts), Counter[str]())
    assert together == operator_counts(program)
    assert sum(stats(part.program).macs for part in cut.parts) == stats(program).macs
    names = [value.data_ptr() for part in cut.parts for _, value in constants(part.program)]
    assert Counter(names) == Counter(value.data_ptr() for _, value in constants(program))


def test_parts_come_after_those_they_wait_for(cut: Partition) -> None:
    there = set(cut.inputs)
    for part in cut.parts:
        assert there.issuperset(part.inputs)
        there.update(part.outputs)


def test_together_they_are_the_whole_to_the_last_bit(program: Program, cut: Partition) -> None:
    certificate = certify(program, cut, STREAMS, [probe(), probe(seed=1)])
    assert certificate.parity.snr_db == EQUAL_DB
    assert certificate.gate_db == EXACT_DB
    assert [row.name for row in certificate.parts] == [part.name for part in cut.parts]
    stem = next(row for row in certificate.parts if row.name == "stem")
    assert (stem.input_bytes, stem.output_bytes) == (4 * 3 * 64 * 64, 4 * 8 * 16 * 16)

    forward = compose(cut, {part.name: lambda *given, part=part: run(part.program, *given) for part in cut.parts})
    (expected,), (found,) = run(program, *probe()), forward(*probe())
    assert torch.equal(found, expected)


def test_a_disturbed_weight_in_a_part_is_found(program: Program) -> None:
    cut = partition(program, STREAMS)
    victim = next(part for part in cut.parts if part.name == "streams.1").program
    name, value = next((name, value) for name, value in constants(victim) if value.ndim == 4)
    changed = value.clone()
    changed[0, 0] *= 1.01
    stored = set_constant(victim, name, changed)
    for node in victim.graph.nodes:
        if node.op == "get_attr" and node.target == name:
            node.target = stored
    victim.recompile()
    with pytest.raises(ParityError, match=r"Cut at 'streams\.\*', the parts are not the network: \d+\.\d dB, 250 requ"):
        certify(program, cut, STREAMS, [probe()])


def test_the_program_stays_as_it_was(program: Program) -> None:
    before = fingerprint(program)
    partition(program, STREAMS)
    assert fingerprint(program) == before


def test_cutting_again_gives_the_same_parts(program: Program, cut: Partition) -> None:
    again = partition(program, STREAMS)
    assert [part.name for part in again.parts] == [part.name for part in cut.parts]
    assert [fingerprint(part.program) for part in again.parts] == [fingerprint(part.program) for part in cut.parts]


@pytest.mark.parametrize(
    ("pattern", "found"),
    [("strems.*", "none"), ("streams.1", r"only streams\.1"), ("", "none"), ("head.*.deeper", "none")],
)
def test_fewer_than_two_branches_are_refused(program: Program, pattern: str, found: str) -> None:
    with pytest.raises(MisuseError, match=f"must name two branches or more to cut at, and names {found}"):
        partition(program, pattern)


def test_stages_that_follow_each_other_make_a_pipeline() -> None:
    model = nn.Sequential(*(nn.Conv2d(4, 4, 3) for _ in range(3))).eval()
    made = capture(model, (1, 4, 12, 12))
    cut = partition(made, "*")
    assert [(part.name, part.inputs) for part in cut.parts] == [
        ("0", cut.inputs),
        ("1", cut.parts[0].outputs),
        ("2", cut.parts[1].outputs),
    ]
    assert certify(made, cut, "*", [probe(1, 4, 12, 12)]).parity.snr_db == EQUAL_DB


class Twice(nn.Module):
    """A branch that is used again behind the other."""

    def __init__(self) -> None:
        super().__init__()
        self.branches = nn.ModuleList(nn.Conv2d(4, 4, 1) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        first, second = self.branches
        y: Tensor = first(second(first(x)))
        return y


def test_branches_that_wait_for_each_other_are_refused() -> None:
    made = capture(Twice().eval(), (1, 4, 6, 6))
    message = r"'branches\.\*' names are no branches that could run apart: branches\.0 and branches\.1 wait for each"
    with pytest.raises(MisuseError, match=message):
        partition(made, "branches.*")


class Several(nn.Module):
    """Splits its input between branches, and gives back what they make and an inner value."""

    def __init__(self) -> None:
        super().__init__()
        self.branches = nn.ModuleList(nn.Conv2d(4, 4, 1) for _ in range(2))

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        first, second = (x * y).chunk(2, 1)
        left: Tensor = self.branches[0](first)
        return left, self.branches[1](second) + left


def test_several_inputs_outputs_and_results_of_one_operator() -> None:
    made = capture(Several().eval(), (1, 8, 5, 5), (1, 8, 5, 5))
    cut = partition(made, "branches.*")
    assert cut.parts[0].name == "stem"
    assert len(cut.parts[0].inputs) == len(cut.parts[0].outputs) == len(cut.outputs) == 2
    probes = [(*probe(1, 8, 5, 5), *probe(1, 8, 5, 5, seed=1))]
    assert certify(made, cut, "branches.*", probes).parity.snr_db == EQUAL_DB
