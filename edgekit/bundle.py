"""The bundle: the folder a command leaves, and the manifest that says what is in it and how it came to be."""

from pathlib import Path

import msgspec
from msgspec import Struct

from edgekit.artifact import (
    Artifact,
    CaseParity,
    Certificate,
    FileHash,
    GraphStats,
    ModelCard,
    TensorSpec,
    WeightsSource,
)
from edgekit.errors import ArtifactError, BundleError
from edgekit.files import sha256

SCHEMA_VERSION = 1
MANIFEST = "manifest.json"
REFERENCE = "reference.safetensors"


class Stage(Struct, frozen=True, kw_only=True):
    """One step of an export: its name, its wall time in seconds, and whether the cache answered."""

    name: str
    seconds: float
    cached: bool


class Member(Struct, frozen=True, kw_only=True):
    """An artifact of a bundle, how its program was lowered, and how it compares with the original model."""

    artifact: Artifact
    lowering: tuple[Certificate, ...]
    program: GraphStats
    parity: tuple[CaseParity, ...]


class Manifest(Struct, frozen=True, kw_only=True):
    """Everything about a bundle; `manifest.json` is exactly this."""

    schema_version: int
    edgekit_version: str
    created: str
    command: tuple[str, ...]
    model: ModelCard
    weights: WeightsSource
    input: TensorSpec
    outputs: tuple[TensorSpec, ...]
    kernel_policy: str | None
    target: str
    captured: GraphStats
    passes: tuple[Certificate, ...]
    members: tuple[Member, ...]
    reference: FileHash
    tools: dict[str, str]
    stages: tuple[Stage, ...]


def write_manifest(manifest: Manifest, folder: Path) -> None:
    """Writes `manifest.json`."""
    content = msgspec.json.format(msgspec.json.encode(manifest), indent=2)
    (folder / MANIFEST).write_bytes(content + b"\n")


def read_manifest(folder: Path) -> Manifest:
    """Reads a bundle's manifest.

    Raises:
        BundleError: The folder is no bundle, its manifest is damaged, or it was written by a newer edgekit.
    """
    path = folder / MANIFEST
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BundleError(
            f"{folder} is no bundle: {MANIFEST} cannot be read ({error.strerror}). `edgekit export MODEL` makes one."
        ) from error
    try:
        version = msgspec.json.decode(content, type=_Version).schema_version
        if version != SCHEMA_VERSION:
            raise BundleError(f"{path} has schema version {version}; this edgekit reads {SCHEMA_VERSION}.")
        return msgspec.json.decode(content, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BundleError(f"{path} is damaged: {error}. Export the model again.") from error


class _Version(Struct):
    schema_version: int


def check_file(folder: Path, expected: FileHash) -> Path:
    """The path of a bundle's file, after comparing its SHA-256 with the manifest's.

    Raises:
        ArtifactError: The file is missing or is not the one that was verified.
    """
    path = folder / expected.name
    if Path(expected.name).name != expected.name or not path.is_file():
        raise ArtifactError(f"{expected.name} is missing from {folder}.")
    found = sha256(path)
    if found != expected.sha256:
        raise ArtifactError(
            f"{expected.name} is not the file that was exported: its SHA-256 is {found[:12]}…, the manifest says "
            f"{expected.sha256[:12]}…. Export the model again, or get an undamaged copy."
        )
    return path


def is_replaceable(folder: Path) -> bool:
    """Whether a new bundle may take this folder's place: it does not exist, is empty, or is a bundle."""
    return not folder.exists() or (folder.is_dir() and ((folder / MANIFEST).is_file() or not any(folder.iterdir())))
