"""ParNet fuses to the published counts, with its shuffles and interleaved concatenations gone."""

import time

import pytest
import torch
from torch import nn

from edgekit.capture import capture
from edgekit.models.parnet import build
from edgekit.numerics import gate_db, snr_db
from edgekit.passes.base import Log
from edgekit.passes.fuse import Fuse, rewrite
from edgekit.program import Program, clone, finish, operator_counts, run, stats
from edgekit.reference import program_in_float64
from tests.passes.fusing import randomise

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")

FUSED = {
    "parnet_s": (19_177_032, 4_836_823_232),
    "parnet_m": (35_576_616, 8_581_882_048),
    "parnet_l": (54_914_824, 13_324_101_824),
    "parnet_xl": (84_962_784, 20_715_596_224),
}
"""Parameters and MACs at 224 x 224."""

SHUFFLING = {
    "stack",
    "unflatten",
    "transpose",
    "permute",
    "view",
    "reshape",
    "index_select",
    "flatten",
    "channel_shuffle",
}


def model(name: str) -> nn.Module:
    torch.manual_seed(0)
    made = build(name).eval()
    randomise(made)
    return made


def fused(program: Program) -> tuple[Program, Log]:
    log, copied = Log(), clone(program)
    Fuse()(copied, log)
    return finish(copied), log


@pytest.mark.parametrize(
    "name",
    ["parnet_s", *(pytest.param(name, marks=pytest.mark.slow) for name in ("parnet_m", "parnet_l", "parnet_xl"))],
)
def test_fused_counts_are_the_published_ones(name: str) -> None:
    program, log = fused(capture(model(name), (1, 3, 224, 224)))
    after, counts = stats(program), operator_counts(program)

    assert (after.parameters, after.macs) == FUSED[name]
    assert not SHUFFLING & counts.keys()
    # 14 skips and 4 inputs of fusions keep their norm, as one scale and one shift each.
    assert (log.fired["convolution"], log.fired["affine"], log.fired["permutation"]) == (22, 18, 4)
    assert counts["conv2d"] == 2 * 22


def test_a_fused_network_computes_the_same() -> None:
    program = capture(model("parnet_cifar_w32"), (1, 3, 32, 32))
    after, _ = fused(program)
    probe = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    exact = program_in_float64(program)(probe)[0].numpy()
    noise = snr_db(exact, run(program, probe)[0].double().numpy())

    assert not SHUFFLING & operator_counts(after).keys()
    assert snr_db(exact, run(after, probe)[0].double().numpy()) >= gate_db(noise)
    assert snr_db(exact, program_in_float64(after)(probe)[0].numpy()) >= noise


@pytest.mark.slow
def test_the_largest_network_takes_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the proof of each region; processor time, which does not depend on who else computes."""
    program = clone(capture(model("parnet_xl"), (1, 3, 224, 224)))
    proofs = 0.0

    class Timed(rewrite.Rewriter):
        def _rewrite(self, *args: object) -> object:  # type: ignore[override]
            nonlocal proofs
            prove = self.certify

            def timed(*region: object) -> object:
                nonlocal proofs
                started = time.process_time()
                result = prove(*region)  # type: ignore[arg-type]
                proofs += time.process_time() - started
                return result

            self.certify = timed  # type: ignore[assignment]
            try:
                return super()._rewrite(*args)  # type: ignore[arg-type]
            finally:
                self.certify = prove

    monkeypatch.setattr(rewrite, "Rewriter", Timed)
    started = time.process_time()
    Fuse()(program, Log())

    assert time.process_time() - started - proofs < 5.0
