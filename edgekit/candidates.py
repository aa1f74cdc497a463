"""Writing one artifact: of several ways the first that is the network, and what becomes of the others."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.artifact import Artifact, CaseParity
from edgekit.bundle import Member
from edgekit.clock import Clock
from edgekit.errors import BudgetError, ParityError
from edgekit.exporters import Exporter
from edgekit.exporters.base import Candidate, ExportSpec
from edgekit.files import hash_files
from edgekit.kernel_group import FLOAT_BYTES
from edgekit.plan import Plan

if TYPE_CHECKING:
    from edgekit.network import Network


def make_artifact(plan: Plan, exporter: Exporter, folder: Path, clock: Clock, network: "Network") -> Member:
    """One artifact, within the size asked for.

    How much a format adds to the constants shows only in the file: what is too large is written again, with that much
    less for them.

    Raises:
        ParityError: No candidate is the same network.
        BudgetError: No form of the kernels is small enough.
    """
    most = plan.request.max_bytes
    member = write_artifact(plan, exporter, folder, clock, network, most)
    while most is not None and (over := artifact_bytes(member) - most) > 0:
        before = member.program.parameters
        member = write_artifact(plan, exporter, folder, clock, network, FLOAT_BYTES * before - over)
        if member.program.parameters >= before:  # the format has no forms to choose from
            raise BudgetError(
                f"The {exporter.format} artifact is {over:,} bytes above --max-size. Allow more, or choose a smaller "
                "model. Nothing was published."
            )
    return member


def artifact_bytes(member: Member) -> int:
    """Bytes of an artifact's files."""
    return sum(file.size for file in member.artifact.files)


def write_artifact(
    plan: Plan, exporter: Exporter, folder: Path, clock: Clock, network: "Network", max_bytes: int | None
) -> Member:
    """Lowers the program for the exporter's runtime, writes it, and keeps the first candidate that passes.

    Raises:
        ParityError: No candidate is the same network; the message names the first stage that is not.
        BudgetError: The constants take more than `max_bytes` in every form.
    """
    from edgekit.network import lower
    from edgekit.program import stats
    from edgekit.verify import failure, first_divergence, verify_file

    with clock.stage(f"lower for {exporter.runtime}"):
        lowered = lower(network, exporter.runtime, plan.lowering, plan.chooser(exporter, max_bytes))
    spec = ExportSpec(plan.inputs, network.reference.outputs, plan.metadata)
    with clock.stage(f"export {exporter.format}"):
        candidates = exporter.load()(lowered.program, spec, folder, plan.stem)
    with clock.stage(f"verify {exporter.format}"):
        checked = [verify_file(exporter.runtime, each.files[0], network.reference) for each in candidates]
        failures = [failure(cases) for cases in checked]
        if all(failures):
            reasons = "; ".join(f"{each.label}: {why}" for each, why in zip(candidates, failures, strict=True))
            stage = first_divergence(network.float32_stages(lowered.program, exporter.runtime), network.reference)
            raise ParityError(
                f"The {exporter.format} artifact is not the same network ({reasons}). It first diverges in stage "
                f"{stage or f'export {exporter.format}'!r}. Nothing was published."
            )
    kept = failures.index(None)
    return Member(
        artifact=Artifact(
            format=exporter.format,
            runtime=exporter.runtime,
            precision=plan.request.precision,
            files=hash_files(keep(candidates[kept], candidates, folder, plan.stem, exporter)),
            notes=(*candidates[kept].notes, *compared(candidates, checked, kept)),
        ),
        lowering=lowered.certificates,
        kernels=lowered.choices,
        program=stats(lowered.program),
        parity=checked[kept],
    )


def compared(candidates: Sequence[Candidate], checked: Sequence[tuple[CaseParity, ...]], kept: int) -> tuple[str, ...]:
    """How the candidates compare, where there was a choice: the SNR of each, and which one was kept."""
    from edgekit.verify import tightest

    if len(candidates) == 1:
        return ()
    figures = (
        f"{each.label} {tightest(cases).parity.snr_db:.1f} dB" for each, cases in zip(candidates, checked, strict=True)
    )
    return (f"{', '.join(figures)}: {candidates[kept].label} kept",)


def keep(
    chosen: Candidate, candidates: Sequence[Candidate], folder: Path, stem: str, exporter: Exporter
) -> tuple[Path, ...]:
    """Gives the chosen candidate's files the artifact's name and removes the others."""
    for candidate in candidates:
        if candidate is not chosen:
            for file in candidate.files:
                file.unlink()
    return tuple(
        file.rename(folder / f"{stem}{suffix}") for file, suffix in zip(chosen.files, exporter.suffixes, strict=True)
    )
