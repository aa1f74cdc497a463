"""Verification: an artifact, in its own runtime, against the original model in float64.

The gate is measured, not chosen: torch's own float32 run of the original model is compared with its float64 run on the
same input, and an artifact may be at most 10 dB worse than that (see `edgekit.numerics`). A reference travels with
the bundle, so a bundle can be verified on a machine that has only the runtime.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from edgekit.artifact import CaseParity, Parity, TensorSpec
from edgekit.errors import ArtifactError, BundleError, ParityError
from edgekit.inputs import CONSTANT_CASES
from edgekit.numerics import GATE_FLOOR_DB, compare_one, gate_db, worst
from edgekit.runners import load
from edgekit.runners.base import Runner


@dataclass(frozen=True, slots=True)
class ReferenceCase:
    """One input (float32), the original model's float64 output, and the SNR torch float32 reaches on it."""

    name: str
    input: NDArray[np.float32]
    output: NDArray[np.float64]
    noise_db: float


@dataclass(frozen=True, slots=True)
class Reference:
    """What every artifact of a bundle is compared with."""

    input: TensorSpec
    output: TensorSpec
    cases: tuple[ReferenceCase, ...]


def reference(
    input_spec: TensorSpec,
    output_spec: TensorSpec,
    inputs: Mapping[str, NDArray[np.float32]],
    in_float64: Callable[[NDArray[np.float32]], NDArray[np.float64]],
    in_float32: Callable[[NDArray[np.float32]], NDArray[np.float32]],
) -> Reference:
    """Runs the original model in both precisions on every input.

    Raises:
        ParityError: The network is not finite, or so unstable in float32 that nothing could be proved about it.
    """
    cases = []
    for name, image in inputs.items():
        exact = in_float64(image)
        parity = compare_one(exact, in_float32(image))
        if parity.nonfinite or not np.all(np.isfinite(exact)):
            raise ParityError(
                f"The original model itself returns NaN or infinity on input {name!r}. Check its weights."
            )
        if parity.snr_db < GATE_FLOOR_DB:
            raise ParityError(
                f"The original model loses everything below {parity.snr_db:.0f} dB in float32 on input {name!r}, less "
                f"than the {GATE_FLOOR_DB:.0f} dB an artifact must reach, so no float32 artifact of it can be proved."
            )
        cases.append(ReferenceCase(name, image, exact, parity.snr_db))
    return Reference(input_spec, output_spec, tuple(cases))


def verify(runner: Runner, against: Reference) -> tuple[CaseParity, ...]:
    """Runs an artifact on every case and compares by exact output name and shape.

    Raises:
        ArtifactError: The artifact has no such output, or one of another shape: there would be nothing to compare.
    """
    wanted = against.output
    found = {spec.name: spec.shape for spec in runner.outputs}
    if found.get(wanted.name) != wanted.shape:
        raise ArtifactError(f"The artifact must return {wanted.name!r} of shape {wanted.shape}; it returns {found}.")
    return tuple(case_parity(case, runner.run({against.input.name: case.input})[wanted.name]) for case in against.cases)


def case_parity(case: ReferenceCase, output: NDArray[np.float32]) -> CaseParity:
    """Compares one output with its reference."""
    return CaseParity(
        case=case.name,
        parity=compare_one(case.output, output),
        noise_db=case.noise_db,
        gate_db=GATE_FLOOR_DB if case.name in CONSTANT_CASES else gate_db(case.noise_db),
    )


def verify_file(runtime: str, path: Path, against: Reference, threads: int = 1) -> tuple[CaseParity, ...]:
    """Loads an artifact in its runtime and verifies it.

    Raises:
        MissingExtraError: The runtime is not installed.
        ArtifactError: The runtime does not take the file, or its outputs are not the network's.
    """
    with load(runtime, path, threads) as runner:
        return verify(runner, against)


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
    if case.parity.nonfinite:
        return f"{case.parity.nonfinite} NaN or infinite values on input {case.case!r}"
    return f"{case.parity.snr_db:.1f} dB on input {case.case!r}, {case.gate_db:.1f} dB required"


def first_divergence(
    stages: Mapping[str, Callable[[NDArray[np.float32]], NDArray[np.float32]]], against: Reference
) -> str | None:
    """The first stage whose float32 run misses the gate, given the stages in order; None when all of them pass."""
    for name, forward in stages.items():
        if failure([case_parity(case, forward(case.input)) for case in against.cases]):
            return name
    return None


def write_reference(against: Reference, path: Path) -> None:
    """Stores a reference as safetensors: `<case>.input`, `<case>.output`, and names and noise as metadata."""
    tensors: dict[str, NDArray[np.generic]] = {}
    for case in against.cases:
        tensors[f"{case.name}.input"] = np.ascontiguousarray(case.input)
        tensors[f"{case.name}.output"] = np.ascontiguousarray(case.output)
    described = {
        "input": [against.input.name, against.input.layout],
        "output": [against.output.name, against.output.layout],
        "cases": [[case.name, case.noise_db] for case in against.cases],
    }
    path.write_bytes(save(tensors, {"edgekit.reference": json.dumps(described)}))


def read_reference(path: Path) -> Reference:
    """Reads what `write_reference` wrote.

    Raises:
        BundleError: The file is missing or damaged.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            described = json.loads(file.metadata()["edgekit.reference"])
            cases = tuple(
                ReferenceCase(name, file.get_tensor(f"{name}.input"), file.get_tensor(f"{name}.output"), noise_db)
                for name, noise_db in described["cases"]
            )
        (input_name, input_layout), (output_name, output_layout) = described["input"], described["output"]
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise BundleError(f"{path} is no reference of a bundle ({error}). Export the model again.") from error
    if not cases:
        raise BundleError(f"{path} holds no case, so there is nothing to compare with. Export the model again.")
    return Reference(
        TensorSpec(name=input_name, shape=cases[0].input.shape, layout=input_layout),
        TensorSpec(name=output_name, shape=cases[0].output.shape, layout=output_layout),
        cases,
    )
