"""The bundle: the folder a command leaves, and the manifest that says what is in it and how it came to be."""

from pathlib import Path
from typing import Protocol

import msgspec
from msgspec import Struct

from edgekit.artifact import (
    Artifact,
    CaseParity,
    Certificate,
    FileHash,
    GraphStats,
    ModelCard,
    Origin,
    PartitionCertificate,
    QuantRecord,
    RegionCertificate,
    TensorSpec,
    WeightsSource,
)
from edgekit.errors import ArtifactError, BundleError, OutputError
from edgekit.files import output_errors, sha256
from edgekit.tuning.words import KernelChoice

SCHEMA_VERSION = 4
MANIFEST = "manifest.json"
REFERENCE = "reference.safetensors"


class Stage(Struct, frozen=True, kw_only=True):
    """One step of an export: its name, its wall time in seconds, and whether the cache answered."""

    name: str
    seconds: float
    cached: bool


class Progress(Protocol):
    """Whoever watches something that takes its time."""

    def begin(self, stage: str) -> None:
        """A stage starts."""
        ...

    def end(self, stage: Stage) -> None:
        """A stage is done."""
        ...

    def note(self, text: str) -> None:
        """Something worth a line."""
        ...


class Member(Struct, frozen=True, kw_only=True):
    """An artifact of a bundle, how its program was lowered, and how it compares with the original model.

    Of a quantized one `parity` is what it does on the reference's synthetic inputs, which only have to come out as they
    did when it was made; how good it is, `quantization` says. `partition` tells how one was cut that is in parts.
    """

    artifact: Artifact
    lowering: tuple[Certificate, ...]
    kernels: tuple[KernelChoice, ...]
    program: GraphStats
    parity: tuple[CaseParity, ...]
    quantization: QuantRecord | None = None
    partition: PartitionCertificate | None = None

    @property
    def recorded(self) -> tuple[CaseParity, ...]:
        """Comparisons whose gates it is held to from now on: a quantized artifact has to do again what it did."""
        return self.parity if self.quantization else ()


class Manifest(Struct, frozen=True, kw_only=True):
    """Everything about a bundle; `manifest.json` is exactly this.

    `golden` is the hash of the tensor that the model card's preprocessing made of one fixed image, by
    `edgekit.data.preprocess`; None where the network does not take one image.
    `pictures` is None of a network without large kernels.
    """

    schema_version: int
    edgekit_version: str
    created: str
    command: tuple[str, ...]
    model: ModelCard
    weights: WeightsSource
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    golden: str | None
    kernel_policy: str | None
    target: str
    captured: GraphStats
    passes: tuple[Certificate, ...]
    regions: tuple[RegionCertificate, ...]
    members: tuple[Member, ...]
    reference: FileHash
    pictures: FileHash | None
    tools: dict[str, str]
    stages: tuple[Stage, ...]
    origin: Origin

    @property
    def whole(self) -> tuple[Member, ...]:
        """The artifacts that are not in parts; those in parts answer as these and have their operators."""
        return tuple(member for member in self.members if member.partition is None)


def write_manifest(manifest: Manifest, folder: Path) -> None:
    """Writes `manifest.json`."""
    content = msgspec.json.format(msgspec.json.encode(manifest), indent=2)
    (folder / MANIFEST).write_bytes(content + b"\n")


def read_manifest(folder: Path) -> Manifest:
    """Reads a bundle's manifest.

    Raises:
        BundleError: The folder is no bundle, its manifest is damaged, or another version of edgekit wrote it.
    """
    path = folder / MANIFEST
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BundleError(
            f"{folder} is no bundle: {MANIFEST} cannot be read ({error.strerror}). `edgekit export MODEL` makes one."
        ) from error
    try:
        version = msgspec.json.decode(content, type=_Head).schema_version
        if version != SCHEMA_VERSION:
            raise BundleError(
                f"{path} has schema version {version}; this edgekit reads {SCHEMA_VERSION}. Export the model again, or "
                "use the edgekit that made it."
            )
        manifest = msgspec.json.decode(content, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BundleError(f"{path} is damaged: {error}. Export the model again.") from error
    if reason := _defect(manifest):
        raise BundleError(f"{path} is damaged: {reason}. Export the model again.")
    return manifest


class _Head(Struct):
    """What tells a bundle's manifest from the many other files called `manifest.json`."""

    schema_version: int
    edgekit_version: str


def _defect(manifest: Manifest) -> str | None:
    """What a manifest that has all its fields lacks all the same."""
    for member in manifest.members:
        if not member.artifact.files or not member.parity:
            return f"its {member.artifact.format} artifact has no {'parity' if member.artifact.files else 'file'}"
    files = (file for member in manifest.members for file in member.artifact.files)
    for file in (manifest.reference, *((manifest.pictures,) if manifest.pictures else ()), *files):
        if file.name in ("", "..") or Path(file.name).name != file.name or not file.name.isprintable():
            return f"{file.name!a} is not the name of a file in the bundle"
    return None


def check_file(folder: Path, expected: FileHash) -> Path:
    """The path of a bundle's file, after comparing its SHA-256 with the manifest's.

    Raises:
        ArtifactError: The file is missing, cannot be read, or is not the one that was verified.
    """
    path = folder / expected.name
    try:
        if not path.is_file():
            raise ArtifactError(f"{expected.name} is missing from {folder}.")
        found = sha256(path)
    except OSError as error:
        raise ArtifactError(f"{path} cannot be read: {error.strerror}. Check who may read it.") from error
    if found != expected.sha256:
        raise ArtifactError(
            f"{expected.name} is not the file that was exported: its SHA-256 is {found[:12]}…, the manifest says "
            f"{expected.sha256[:12]}…. Export the model again, or get an undamaged copy."
        )
    return path


def is_bundle(folder: Path) -> bool:
    """Whether a folder has a manifest that edgekit wrote, of whatever schema version."""
    try:
        msgspec.json.decode((folder / MANIFEST).read_bytes(), type=_Head)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return False
    return True


def check_place(folder: Path) -> None:
    """Refuses a folder whose place a new bundle may not take; it may where there is none, an empty one or a bundle.

    Raises:
        OutputError: Something else is there, or what is there cannot be moved aside.
    """
    with output_errors(folder):
        if not folder.exists():
            return
        if not folder.is_dir() or (any(folder.iterdir()) and not is_bundle(folder)):
            raise OutputError(f"{folder} exists and is no bundle. Choose another place with -o, or remove it.")
        # A bundle appears whole by taking the folder's place. The system moves no mount point aside, and a shell would
        # go on in a working folder that is gone.
        place = folder.resolve()
        if place.is_mount() or Path.cwd().is_relative_to(place):
            what = "a mount point" if place.is_mount() else "the working folder"
            raise OutputError(f"{folder} is {what}, which cannot be replaced. Name a folder inside it with -o.")
