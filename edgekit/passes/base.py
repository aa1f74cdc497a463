"""The contract of a pass, and the one function that applies it and proves the result."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor

from edgekit.artifact import Certificate, Refusal
from edgekit.errors import ParityError
from edgekit.numerics import compare
from edgekit.program import Program, clone, finish, stats
from edgekit.reference import program_in_float64


@dataclass(slots=True)
class Log:
    """What a pass tells while it works: rewrites by rule, and places where a rule declined."""

    fired: Counter[str] = field(default_factory=Counter)
    declined: list[Refusal] = field(default_factory=list)

    def decline(self, rule: str, site: str, reason: str) -> None:
        """Records that a rule looked at a place and left it."""
        self.declined.append(Refusal(rule=rule, site=site, reason=reason))


class Pass(Protocol):
    """Rewrites a program that is its own copy, in place, and logs what it did."""

    @property
    def name(self) -> str:
        """The name certificates carry."""
        ...

    def __call__(self, program: Program, log: Log) -> None:
        """Rewrites the program; constants are replaced, never written."""
        ...


@dataclass(frozen=True, slots=True)
class Proven:
    """A program with its float64 outputs on the probe inputs."""

    program: Program
    outputs: tuple[Tensor, ...]


def prove(program: Program, probes: Sequence[Tensor]) -> Proven:
    """Runs a program in float64 on (N, C, H, W) probe inputs."""
    forward = program_in_float64(program)
    return Proven(program, tuple(forward(probe) for probe in probes))


def apply(rewrite: Pass, before: Proven, probes: Sequence[Tensor], gate_db: float) -> tuple[Proven, Certificate]:
    """Applies a pass to a copy and measures, in float64, what it changed.

    Args:
        rewrite: The pass.
        before: The program it starts from; left untouched.
        probes: Inputs of the network.
        gate_db: Lowest SNR against `before` that is accepted. Float32 arithmetic's own noise: a pass may not move the
            exact result further than running the network in float32 does.

    Raises:
        ParityError: The rewritten program is not the same network.
    """
    log = Log()
    program = clone(before.program)
    rewrite(program, log)
    after = prove(finish(program), probes) if log.fired else before
    try:
        parity = compare(before.outputs, after.outputs)
    except ValueError as error:
        raise ParityError(f"Pass {rewrite.name!r} changed the network: its output has {error}.") from error
    if parity.snr_db < gate_db or parity.nonfinite:
        raise ParityError(
            f"Pass {rewrite.name!r} changed the network: {parity.snr_db:.1f} dB against the program before it, "
            f"{gate_db:.1f} dB required; it had fired {dict(log.fired)}. This is a defect of edgekit, please report it."
        )
    certificate = Certificate(
        name=rewrite.name,
        fired=dict(log.fired),
        declined=tuple(log.declined),
        before=stats(before.program),
        after=stats(after.program),
        parity=parity,
        gate_db=gate_db,
    )
    return after, certificate
