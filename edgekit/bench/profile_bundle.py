"""Profiling the artifacts of a bundle, on the inputs it was verified with."""

from collections.abc import Sequence
from pathlib import Path

from edgekit.bench.ceiling import higher, measure_ceiling
from edgekit.bench.profile import ArtifactProfile, assess, measure_artifact
from edgekit.bundle import Manifest, Member, check_file
from edgekit.errors import MisuseError, UnknownNameError
from edgekit.quiet import silenced
from edgekit.reference_file import read_reference


def profile_bundle(
    folder: Path, manifest: Manifest, formats: Sequence[str], threads: int, runs: int
) -> list[ArtifactProfile]:
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
    return [assess(each, ceiling) for each in measured]


def checked(folder: Path, member: Member) -> Path:
    """The file of an artifact that is loaded, after comparing the hashes of all of its files."""
    main, *_ = [check_file(folder, file) for file in member.artifact.files]
    return main


def chosen(manifest: Manifest, formats: Sequence[str]) -> list[Member]:
    """The artifacts of these formats, all where none is named.

    Raises:
        MisuseError: There is no artifact of a format, or none at all.
    """
    known = {member.artifact.format for member in manifest.members}
    for name in formats:
        if name not in known:
            raise UnknownNameError("format in this bundle", name, known, "edgekit inspect BUNDLE")
    if not manifest.members:
        raise MisuseError("The bundle holds no artifact, so there is nothing to profile. Export the model again.")
    return [member for member in manifest.members if not formats or member.artifact.format in formats]
