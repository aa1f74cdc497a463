"""The contract of passes: what is applied is proved, what is wrong is named, and nothing else is touched."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from edgekit.capture import capture
from edgekit.errors import ParityError
from edgekit.exporters import EXPORTERS
from edgekit.network import Network
from edgekit.passes.base import Log, Pass, Probes, Proven, apply, prove
from edgekit.passes.lower import LOWERINGS
from edgekit.passes.materialise import MATERIALISE
from edgekit.program import Program, constant, fingerprint, insert_constant, operators
from edgekit.quant import QUANTIZERS

ATEN = torch.ops.aten
SHAPE = (1, 3, 8, 8)
GATE_DB = 120.0


class Rewrite:
    """A pass made of a function."""

    def __init__(self, name: str, function: Callable[[Program], None], fires: int = 1) -> None:
        self.name = name
        self.function = function
        self.fires = fires

    def __call__(self, program: Program, log: Log) -> None:
        self.function(program)
        if self.fires:
            log.fired[self.name] += self.fires


def scaling(name: str, channel: int) -> Pass:
    """Scales one channel of one constant by 1.01: the least that a wrong weight would do."""

    def scale(program: Program) -> None:
        node = next(node for node in program.graph.nodes if node.op == "get_attr" and node.target == name)
        value = constant(program, node)
        assert value is not None
        changed = value.clone()
        changed[channel % value.shape[0]] *= 1.01
        node.replace_all_uses_with(insert_constant(program, node, name, changed))

    return Rewrite("scale-one-channel", scale)


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.GELU(), nn.Conv2d(4, 2, 1), nn.Flatten(), nn.Linear(72, 5)).eval()


def probes() -> Probes:
    generator = torch.Generator().manual_seed(0)
    return tuple((torch.randn(SHAPE, generator=generator),) for _ in range(2))


@pytest.fixture
def before() -> Proven:
    return prove(capture(network(), SHAPE), probes())


def replace_gelu(target: object, **options: str) -> Callable[[Program], None]:
    def rewrite(program: Program) -> None:
        (node,) = program.graph.find_nodes(op="call_function", target=ATEN.gelu.default)
        node.target, node.kwargs = target, options

    return rewrite


def nothing(program: Program) -> None:
    pass


@pytest.mark.parametrize("name", ["0.weight", "0.bias", "2.weight", "2.bias", "4.weight", "4.bias"])
def test_one_channel_of_one_weight_off_by_a_hundredth_is_found_and_the_pass_is_named(before: Proven, name: str) -> None:
    message = (
        r"Pass 'scale-one-channel' changed the network: \d+\.\d dB .* 120\.0 dB required; .*'scale-one-channel': 1"
    )
    with pytest.raises(ParityError, match=message):
        apply(scaling(name, channel=1), before, probes(), GATE_DB)


def test_every_constant_of_a_block_is_covered_by_the_probes(sliver: Network) -> None:
    missed = []
    for name in {str(node.target) for node in sliver.proven.program.graph.nodes if node.op == "get_attr"}:
        try:
            apply(scaling(name, channel=2), sliver.proven, sliver.probes, sliver.gates_db)
            missed.append(name)
        except ParityError:
            pass
    assert not missed


@pytest.mark.parametrize(
    ("rewrite", "message"),
    [
        (
            Rewrite("tanh-gelu", replace_gelu(ATEN.gelu.default, approximate="tanh")),
            r"Pass 'tanh-gelu' changed .*: \d+\.\d dB",
        ),
        (Rewrite("drop-gelu", replace_gelu(ATEN.alias.default)), r"Pass 'drop-gelu' changed .*: -?\d+\.\d dB"),
        (Rewrite("not-a-number", replace_gelu(ATEN.log.default)), r"Pass 'not-a-number' changed .*: -400\.0 dB"),
    ],
    ids=["another-gelu", "lost-operator", "nan"],
)
def test_another_network_is_refused(before: Proven, rewrite: Pass, message: str) -> None:
    with pytest.raises(ParityError, match=message):
        apply(rewrite, before, probes(), GATE_DB)


def test_an_output_of_another_shape_is_another_network(before: Proven) -> None:
    def drop_last(program: Program) -> None:
        (output,) = program.graph.find_nodes(op="output")
        (last,) = program.graph.find_nodes(op="call_function", target=ATEN.linear.default)
        output.replace_input_with(last, last.args[0])

    with pytest.raises(ParityError, match="Pass 'drop-last' changed the network"):
        apply(Rewrite("drop-last", drop_last), before, probes(), GATE_DB)


def test_the_gate_decides_and_not_a_constant(before: Proven) -> None:
    rewrite = scaling("4.bias", channel=0)
    after, certificate = apply(rewrite, before, probes(), gate_db=20.0)
    assert 20.0 <= certificate.parity.snr_db < GATE_DB
    assert certificate.gate_db == 20.0
    assert not np.array_equal(after.outputs[0], before.outputs[0])


def test_a_pass_works_on_a_copy(before: Proven) -> None:
    print_before = fingerprint(before.program)
    with pytest.raises(ParityError):
        apply(scaling("0.weight", channel=0), before, probes(), GATE_DB)
    apply(scaling("0.weight", channel=0), before, probes(), gate_db=0.0)
    assert fingerprint(before.program) == print_before


def test_a_certificate_says_what_was_done_and_measured(before: Proven) -> None:
    def double(program: Program) -> None:
        """Inserts x * 2 / 2 before the last layer: exact, and two operators more."""
        (last,) = program.graph.find_nodes(op="call_function", target=ATEN.linear.default)
        with program.graph.inserting_before(last):
            twice = program.graph.call_function(ATEN.mul.Tensor, (last.args[0], 2.0))
            half = program.graph.call_function(ATEN.div.Tensor, (twice, 2.0))
        last.replace_input_with(last.args[0], half)

    after, certificate = apply(Rewrite("there-and-back", double, fires=3), before, probes(), GATE_DB)

    assert (certificate.name, certificate.fired, certificate.declined) == ("there-and-back", {"there-and-back": 3}, ())
    assert (certificate.before.operators, certificate.after.operators) == (5, 7)
    assert certificate.after.macs == certificate.before.macs == 36 * (4 * 27 + 2 * 4) + 72 * 5
    assert certificate.parity.snr_db == 400.0
    assert after.program is not before.program
    assert [tuple(node.meta["val"].shape) for node in operators(after.program)][-2:] == [(1, 72), (1, 5)]


def test_a_pass_that_fires_nothing_leaves_everything_and_costs_no_run(before: Proven) -> None:
    after, certificate = apply(Rewrite("idle", nothing, fires=0), before, (), GATE_DB)
    assert after is before
    assert (certificate.fired, certificate.before) == ({}, certificate.after)
    assert certificate.parity.snr_db == 400.0


def test_what_a_pass_does_without_saying_so_is_thrown_away(before: Proven) -> None:
    secret = Rewrite("secret", replace_gelu(ATEN.alias.default), fires=0)
    assert apply(secret, before, probes(), GATE_DB)[0] is before


def test_programs_are_proved_in_float64(before: Proven) -> None:
    with torch.no_grad():
        exact = network().double()(probes()[1][0].double())
    assert before.outputs[1].dtype == np.float64
    np.testing.assert_allclose(before.outputs[1], exact.numpy(), rtol=1e-13, atol=1e-13)


def test_a_log_keeps_every_refusal() -> None:
    log = Log()
    log.decline("rule", "stages.0", "because")
    (refusal,) = log.declined
    assert (refusal.rule, refusal.site, refusal.reason) == ("rule", "stages.0", "because")
    assert not log.fired


def test_materialising_has_one_order() -> None:
    assert [rewrite.name for rewrite in MATERIALISE] == ["fold-constants", "crop-kernels", "l2norm-to-layernorm"]


def test_every_runtime_and_precision_has_its_lowering() -> None:
    floats = {(entry.runtime, "fp32") for entry in EXPORTERS.values()}
    assert set(LOWERINGS) == floats | {(entry.runtime, "int8") for entry in QUANTIZERS.values() if entry.offers("int8")}
    for (runtime, _), lowering in LOWERINGS.items():
        names = [rewrite.name for rewrite in lowering.passes]
        assert len(set(names)) == len(names)
        assert ("split-layers" in names) == (runtime != "torch")  # who stays with torch wants the fused network
