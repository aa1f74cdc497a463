"""The contract of a pass, and the one function that applies it and proves the result."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from edgekit.artifact import Certificate, Parity, Refusal
from edgekit.errors import ParityError
from edgekit.numerics import compare_one, sampled, worst
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


Probes = Sequence[tuple[Tensor, ...]]
"""Sets of inputs of a network, float32."""


@dataclass(frozen=True, slots=True)
class Proven:
    """A program with its float64 outputs on the probes, `sampled`: all of the first probe's, then the second's."""

    program: Program
    outputs: tuple[NDArray[np.float64], ...]


def prove(program: Program, probes: Probes) -> Proven:
    """Runs a program in float64 on every probe."""
    forward = program_in_float64(program)
    return Proven(program, tuple(sampled(output.numpy()) for probe in probes for output in forward(*probe)))


def apply(
    rewrite: Pass, before: Proven, probes: Probes, gate_db: float | Sequence[float]
) -> tuple[Proven, Certificate]:
    """Applies a pass to a copy and measures, in float64, what it changed.

    Args:
        rewrite: The pass.
        before: The program it starts from; left untouched.
        probes: What `before` was proved on.
        gate_db: Lowest SNR against `before` that is accepted, of all outputs or of each in order. Float32 arithmetic's
            own noise: a pass may not move the exact result further than running the network in float32 does.

    Raises:
        ParityError: The rewritten program is not the same network.
    """
    log = Log()
    program = clone(before.program)
    rewrite(program, log)
    after = prove(finish(program), probes) if log.fired else before
    gates = [gate_db] if isinstance(gate_db, (int, float)) else list(gate_db)
    try:
        parity, gate = tightest(before.outputs, after.outputs, gates)
    except ValueError as error:
        raise ParityError(f"Pass {rewrite.name!r} changed the network: its output has {error}.") from error
    if parity.snr_db < gate or parity.nonfinite:
        raise ParityError(
            f"Pass {rewrite.name!r} changed the network: {parity.snr_db:.1f} dB against the program before it, "
            f"{gate:.1f} dB required; it had fired {dict(log.fired)}. This is a defect of edgekit, please report it."
        )
    certificate = Certificate(
        name=rewrite.name,
        fired=dict(log.fired),
        declined=tuple(log.declined),
        before=stats(before.program),
        after=stats(after.program),
        parity=parity,
        gate_db=gate,
    )
    return after, certificate


def tightest(
    before: Sequence[NDArray[np.float64]], after: Sequence[NDArray[np.float64]], gates_db: Sequence[float]
) -> tuple[Parity, float]:
    """The worst figures of the outputs, all probes taken together, that come closest to their gate; and that gate.

    Raises:
        ValueError: Shapes or numbers of outputs differ, or there is nothing to compare.
    """
    parities = [compare_one(expected, got) for expected, got in zip(before, after, strict=True)]
    by_gate = [(worst(parities[index :: len(gates_db)]), gate) for index, gate in enumerate(gates_db)]
    return min(by_gate, key=lambda pair: (-pair[0].nonfinite, pair[0].snr_db - pair[1]))
