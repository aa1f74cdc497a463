"""Verification: an artifact, in its own runtime, against the original model in float64.

The gate is measured, not chosen: torch's own float32 run of the original model is compared with its float64 run on the
same inputs, and an artifact may be at most 10 dB worse than that (see `edgekit.numerics`). A reference travels with
the bundle, so a bundle can be verified on a machine that has only the runtime.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import structs
from numpy.typing import NDArray

from edgekit.artifact import CaseParity, Parity, TensorSpec
from edgekit.errors import ArtifactError, ParityError
from edgekit.inputs import CONSTANT_CASES, Images
from edgekit.numerics import GATE_FLOOR_DB, compare_one, compare_sampled, gate_db, sampled, worst
from edgekit.runners import load
from edgekit.runners.base import Runner

Outputs = tuple[NDArray[np.floating[Any]], ...]

Forward = Callable[[Images], Outputs]
"""A network as a function of its inputs, in order."""


@dataclass(frozen=True, slots=True)
class Expected:
    """What the original model returns in float64 as one output, `sampled`, and the SNR torch float32 reaches there."""

    values: NDArray[np.float64]
    noise_db: float


@dataclass(frozen=True, slots=True)
class ReferenceCase:
    """One set of inputs (float32), and what the original model makes of it: one entry for each output."""

    name: str
    inputs: Images
    outputs: tuple[Expected, ...]


@dataclass(frozen=True, slots=True)
class Reference:
    """What every artifact of a bundle is compared with."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    cases: tuple[ReferenceCase, ...]

    def gate_db(self, case: ReferenceCase, output: int) -> float:
        """The SNR one output of one case must reach.

        What torch float32 reaches is taken from the case where it does worst: on a single one it may be lucky.
        """
        if case.name in CONSTANT_CASES:
            return GATE_FLOOR_DB
        noise = (each.outputs[output].noise_db for each in self.cases if each.name not in CONSTANT_CASES)
        return gate_db(min(noise))


def reference(
    inputs: tuple[TensorSpec, ...],
    outputs: tuple[TensorSpec, ...],
    cases: Mapping[str, Images],
    in_float64: Forward,
    in_float32: Forward,
) -> Reference:
    """Runs the original model in both precisions on every case.

    Raises:
        ParityError: The network is not finite, or so unstable in float32 that nothing could be proved about it.
    """
    made = []
    for name, images in cases.items():
        exact, rounded = in_float64(images), in_float32(images)
        place = [f"input {name!r}" + (f", output {spec.name!r}" if len(outputs) > 1 else "") for spec in outputs]
        made.append(ReferenceCase(name, images, tuple(map(expected, exact, rounded, place))))
    return Reference(inputs, outputs, tuple(made))


def expected(exact: NDArray[Any], rounded: NDArray[Any], place: str) -> Expected:
    """What one output must be, given the original model's in float64 and float32.

    Raises:
        ParityError: It is not finite, or float32 leaves too little of it.
    """
    if not (np.all(np.isfinite(exact)) and np.all(np.isfinite(rounded))):
        raise ParityError(f"The original model itself returns NaN or infinity on {place}. Check its weights.")
    values = sampled(exact)
    noise_db = compare_one(values, sampled(rounded)).snr_db
    if noise_db < GATE_FLOOR_DB:
        raise ParityError(
            f"The original model loses everything below {noise_db:.0f} dB in float32 on {place}, less "
            f"than the {GATE_FLOOR_DB:.0f} dB an artifact must reach, so no float32 artifact of it can be proved."
        )
    return Expected(values, noise_db)


def verify(runner: Runner, against: Reference) -> tuple[CaseParity, ...]:
    """Runs an artifact on every case and compares by exact output name and shape.

    Raises:
        ArtifactError: The artifact lacks an output, or has it in another shape: there would be nothing to compare.
    """
    found = {spec.name: spec.shape for spec in runner.outputs}
    for wanted in against.outputs:
        if found.get(wanted.name) != wanted.shape:
            raise ArtifactError(
                f"The artifact must return {wanted.name!r} of shape {wanted.shape}; it returns {found}."
            )
    names = [spec.name for spec in against.inputs]

    def forward(images: Images) -> Outputs:
        returned = runner.run(dict(zip(names, images, strict=True)))
        return tuple(returned[spec.name] for spec in against.outputs)

    return tuple(parity for case in against.cases for parity in case_parity(against, case, forward(case.inputs)))


def case_parity(against: Reference, case: ReferenceCase, outputs: Outputs) -> tuple[CaseParity, ...]:
    """Compares every output of one case with its reference."""
    return tuple(
        CaseParity(
            case=case.name,
            output=spec.name,
            parity=compare_sampled(expected.values, output),
            noise_db=expected.noise_db,
            gate_db=against.gate_db(case, index),
        )
        for index, (spec, expected, output) in enumerate(zip(against.outputs, case.outputs, outputs, strict=True))
    )


def verify_file(runtime: str, path: Path, against: Reference, threads: int = 1) -> tuple[CaseParity, ...]:
    """Loads an artifact in its runtime and verifies it.

    Raises:
        MissingExtraError: The runtime is not installed.
        ArtifactError: The runtime does not take the file, or its outputs are not the network's.
    """
    with load(runtime, path, threads) as runner:
        return verify(runner, against)


REPEAT_MARGIN_DB = 3.0
"""A quantized artifact may come this much further from the original than it did when it was made."""

REPEATABLE_DB = 60.0
"""No quantized artifact has to come closer, whatever it did when it was made."""


def repeatable(cases: Sequence[CaseParity]) -> tuple[CaseParity, ...]:
    """The cases of a quantized artifact with gates that the same file passes on another machine.

    Rounding to eight bits is no rounding to float32, so no bound on it follows from that. But it is the same rounding
    everywhere: a processor that saturates where another does not, or a file with one other scale, shows.
    """
    return tuple(
        structs.replace(case, gate_db=min(case.parity.snr_db, REPEATABLE_DB) - REPEAT_MARGIN_DB) for case in cases
    )


def held_to(cases: Sequence[CaseParity], recorded: Sequence[CaseParity]) -> tuple[CaseParity, ...]:
    """Cases with the gates that others of their names have."""
    gates = {(case.case, case.output): case.gate_db for case in recorded}
    return tuple(structs.replace(case, gate_db=gates.get((case.case, case.output), case.gate_db)) for case in cases)


def tightest(cases: Sequence[CaseParity]) -> CaseParity:
    """The case that comes closest to its gate, or is furthest below it.

    Raises:
        ValueError: There are none: comparing nothing proves nothing.
    """
    if not cases:
        raise ValueError("nothing was compared")
    return min(cases, key=lambda case: case.parity.snr_db - case.gate_db)


def overall(cases: Sequence[CaseParity]) -> Parity:
    """The worst figure of each metric over all cases."""
    return worst([case.parity for case in cases])


def failure(cases: Sequence[CaseParity]) -> str | None:
    """Why the cases do not pass, or None when all of them do."""
    case = tightest(cases)
    if case.passed:
        return None
    several = len({each.output for each in cases}) > 1
    place = f"input {case.case!r}" + (f", output {case.output!r}" if several else "")
    if case.parity.nonfinite:
        return f"{case.parity.nonfinite} NaN or infinite values on {place}"
    return f"{case.parity.snr_db:.1f} dB on {place}, {case.gate_db:.1f} dB required"


def first_divergence(stages: Mapping[str, Forward], against: Reference) -> str | None:
    """The first stage whose float32 run misses the gate, given the stages in order; None when all of them pass."""
    for name, forward in stages.items():
        if any(failure(case_parity(against, case, forward(case.inputs))) for case in against.cases):
            return name
    return None
