"""Checking a bundle: every file's hash, every artifact's outputs."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgekit.artifact import CaseParity
from edgekit.bundle import Manifest, Member, check_file
from edgekit.errors import (
    ArtifactError,
    CheckFailedError,
    EdgekitError,
    MissingExtraError,
    MisuseError,
    ParityError,
)
from edgekit.quiet import silenced
from edgekit.reference_file import read_reference
from edgekit.verify import Reference, failure, held_to, verify_file


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a check found about one artifact; no problem means it passed."""

    name: str
    parity: tuple[CaseParity, ...]
    problem: EdgekitError | None


def check_bundle(folder: Path, manifest: Manifest) -> list[Verdict]:
    """Checks every artifact of a bundle.

    Raises:
        ArtifactError: The reference is missing or is not the one in the manifest.
        BundleError: The reference is damaged.
        CheckFailedError: The bundle holds no artifact, so nothing could be checked.
    """
    if not manifest.members:
        raise CheckFailedError(f"{folder} holds no artifact, so there is nothing to verify.")
    against = read_reference(check_file(folder, manifest.reference))
    return [_check(folder, member, against) for member in manifest.members]


def _check(folder: Path, member: Member, against: Reference) -> Verdict:
    name = member.artifact.files[0].name
    try:
        paths = [check_file(folder, file) for file in member.artifact.files]
        with silenced():
            cases = held_to(verify_file(member.artifact.runtime, paths[0], against), member.recorded)
    except (CheckFailedError, MissingExtraError) as error:
        return Verdict(name, (), error)
    except MisuseError as error:  # the runtime refuses the bundle's own input
        return Verdict(name, (), ArtifactError(f"{name} is not this bundle's network. {error}"))
    reason = failure(cases)
    return Verdict(name, cases, ParityError(f"{name} is not the same network: {reason}.") if reason else None)


def conclude(verdicts: Sequence[Verdict]) -> None:
    """Raises the problem that decides the exit code; a failed check weighs more than a missing runtime.

    Raises:
        CheckFailedError: An artifact failed.
        MissingExtraError: None failed, but a runtime is missing.
    """
    problems = [verdict.problem for verdict in verdicts if verdict.problem]
    for problem in sorted(problems, key=lambda problem: problem.exit_code):
        raise problem
