"""What a device computed, against the reference of the bundle, and in which words that is recorded."""

from collections.abc import Iterator

import numpy as np
from msgspec.structs import replace

from edgekit.artifact import CaseParity
from edgekit.bench.record import Subject
from edgekit.errors import ArtifactError, EnvironmentProblemError, ParityError
from edgekit.fleet.entries import Entry
from edgekit.targets.job import Arrays, Measured
from edgekit.verify import Outputs, case_parity, failure, held_to, tightest

OTHER_KERNELS_DB = 3.0
"""How much worse than at home a quantized artifact may come out: integer kernels of other builds round otherwise."""

MISSING_RUNTIME = "MissingRuntimeError"
"""What the runner on a device says where a runtime is not there after all."""


def check(entry: Entry, measured: Measured, address: str) -> CaseParity:
    """The comparison that came closest to its gate.

    Raises:
        EnvironmentProblemError: The device lacks the runtime.
        ArtifactError: The artifact does not run there, or returns something else.
        ParityError: It is another network.
    """
    if measured.failure is not None:
        kind, message = measured.failure.kind, measured.failure.message
        if kind == MISSING_RUNTIME:
            raise EnvironmentProblemError(f"{entry.name} does not run on {address}: {message}.")
        raise ArtifactError(f"{entry.name} does not run on {address}: {kind}: {message}.")
    recorded = [replace(case, gate_db=case.gate_db - OTHER_KERNELS_DB) for case in entry.member.recorded]
    cases = held_to(tuple(_parities(entry, measured, address)), recorded)
    if reason := failure(cases):
        raise ParityError(f"{entry.name} is not the same network on {address}: {reason}. It is given no figure.")
    return tightest(cases)


def _parities(entry: Entry, measured: Measured, address: str) -> Iterator[CaseParity]:
    for case, outputs in zip(entry.against.cases, measured.outputs, strict=True):
        yield from case_parity(entry.against, case, _in_order(entry, outputs, address))


def _in_order(entry: Entry, outputs: Arrays, address: str) -> Outputs:
    """The outputs as the reference has them, by exact name and shape."""
    found = {name: array.shape for name, array in outputs.items()}
    for wanted in entry.against.outputs:
        if found.get(wanted.name) != wanted.shape:
            raise ArtifactError(
                f"{entry.name} must return {wanted.name!r} of shape {wanted.shape}; on {address} it returns {found}."
            )
    return tuple(outputs[spec.name].astype(np.float64) for spec in entry.against.outputs)


def subject_of(entry: Entry, measured: Measured) -> Subject:
    """What was measured, in words that identify it."""
    artifact = entry.member.artifact
    return Subject(
        model=entry.manifest.model.name,
        artifact=entry.name,
        sha256=artifact.sha256,
        format=artifact.format,
        precision=artifact.precision,
        runtime=artifact.runtime,
        runtime_version=measured.version,
        build="",
        inputs=tuple(spec.shape for spec in entry.manifest.inputs),
        distribution=measured.distribution,
        kernels=measured.kernels,
    )
