"""Profiling the artifacts of a bundle, on the inputs it was verified with."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from edgekit.bench.ceiling import higher, measure_ceiling
from edgekit.bench.profile import assess, measure_artifact
from edgekit.bench.profile_record import PROFILE_SCHEMA_VERSION, ProfileRun, StoredProfile
from edgekit.bench.record import Machine
from edgekit.bundle import Manifest, Member, check_file
from edgekit.errors import MisuseError, UnknownNameError
from edgekit.quiet import silenced
from edgekit.reference_file import read_reference
from edgekit.version import __version__


def profile_bundle(
    folder: Path, manifest: Manifest, formats: Sequence[str], threads: int, runs: int
) -> list[StoredProfile]:
    """Profiles each artifact of these formats, or all; measures the machine's ceiling before and after.

    Raises:
        MisuseError: The bundle has no artifact of a format, or none at all.
        ArtifactError: A file is missing, damaged, or does not load.
        EnvironmentProblemError: A runtime is not installed, or its profiler cannot be read.
    """
    members = chosen(manifest, formats)
    case = read_reference(check_file(folder, manifest.reference)).cases[0]
    inputs = dict(zip((spec.name for spec in manifest.inputs), case.inputs, strict=True))
    paths = [checked(folder, member) for member in members]
    with silenced():
        before = measure_ceiling(threads)
        measured = [
            measure_artifact(path, member.artifact.runtime, inputs, runs, threads)
            for member, path in zip(members, paths, strict=True)
        ]
        ceiling = higher(before, measure_ceiling(threads))
    return [
        StoredProfile(sha256=member.artifact.sha256, profile=assess(each, ceiling))
        for member, each in zip(members, measured, strict=True)
    ]


def profile_run(profiles: Sequence[StoredProfile], machine: Machine, command: Sequence[str]) -> ProfileRun:
    """The profiles of one call, with the machine they are of, to be stored."""
    return ProfileRun(
        schema_version=PROFILE_SCHEMA_VERSION,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        edgekit_version=__version__,
        command=tuple(command),
        machine=machine,
        measurements=tuple(profiles),
    )


def checked(folder: Path, member: Member) -> Path:
    """The file of an artifact that is loaded, after comparing the hashes of all of its files."""
    main, *_ = [check_file(folder, file) for file in member.artifact.files]
    return main


def chosen(manifest: Manifest, formats: Sequence[str]) -> list[Member]:
    """The artifacts of these formats, all where none is named; those in parts have the operators of the whole ones.

    Raises:
        MisuseError: There is no artifact of a format, or none at all.
    """
    known = {member.artifact.format for member in manifest.members}
    for name in formats:
        if name not in known:
            raise UnknownNameError("format in this bundle", name, known, "edgekit inspect BUNDLE")
    if not manifest.members:
        raise MisuseError("The bundle holds no artifact, so there is nothing to profile. Export the model again.")
    return [member for member in manifest.whole if not formats or member.artifact.format in formats]
