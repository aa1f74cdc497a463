"""The manifest says exactly what is in a bundle, and only a bundle is taken for one."""

import json
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from edgekit.artifact import FileHash
from edgekit.bundle import MANIFEST, Manifest, check_file, check_place, is_bundle, read_manifest, write_manifest
from edgekit.errors import ArtifactError, BundleError, OutputError
from edgekit.files import hash_files


def test_a_manifest_comes_back_as_it_was(bundle: Path, tmp_path: Path) -> None:
    manifest = read_manifest(bundle)

    write_manifest(manifest, tmp_path)

    assert (tmp_path / MANIFEST).read_bytes() == (bundle / MANIFEST).read_bytes()
    assert read_manifest(tmp_path) == manifest


def test_a_manifest_is_text_one_can_read_and_compare(bundle: Path) -> None:
    text = (bundle / MANIFEST).read_text(encoding="utf-8")

    assert text.startswith('{\n  "schema_version": 4,\n  "edgekit_version": ')
    assert text.endswith("\n}\n")
    assert json.loads(text).keys() == set(Manifest.__struct_fields__)


@pytest.mark.parametrize("field", [name for name in Manifest.__struct_fields__ if name != "schema_version"])
def test_every_field_is_needed(bundle: Path, field: str) -> None:
    manifest = json.loads((bundle / MANIFEST).read_text())
    del manifest[field]
    (bundle / MANIFEST).write_text(json.dumps(manifest))

    with pytest.raises(
        BundleError, match=rf"damaged: Object missing required field `{field}`\. Export the model again"
    ):
        read_manifest(bundle)


def test_a_manifest_one_may_not_read(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "read_bytes", denied)

    with pytest.raises(BundleError, match=r"is no bundle: manifest\.json cannot be read \(Permission denied\)"):
        read_manifest(bundle)
    assert not is_bundle(bundle)


def denied(*_: object) -> bytes:
    raise PermissionError(13, "Permission denied")


@pytest.fixture
def listed(tmp_path: Path) -> FileHash:
    """A file of a bundle as the manifest has it."""
    (tmp_path / "file").write_bytes(b"content")
    return hash_files([tmp_path / "file"])[0]


def test_a_file_that_is_what_the_manifest_says(tmp_path: Path, listed: FileHash) -> None:
    assert check_file(tmp_path, listed) == tmp_path / "file"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.write_bytes(b"Content"), r"^file is not the file that was exported: its SHA-256 is \w{12}…"),
        (Path.unlink, r"^file is missing from .+\.$"),
        (lambda path: (path.unlink(), path.mkdir()), r"^file is missing from .+\.$"),
        (lambda path: (path.unlink(), path.symlink_to("nowhere")), r"^file is missing from .+\.$"),
    ],
    ids=["changed", "gone", "folder", "dangling"],
)
def test_a_file_that_is_not(tmp_path: Path, listed: FileHash, damage: Callable[[Path], object], message: str) -> None:
    damage(tmp_path / "file")

    with pytest.raises(ArtifactError, match=message):
        check_file(tmp_path, listed)


def test_a_file_one_may_not_read(tmp_path: Path, listed: FileHash, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "open", denied)

    with pytest.raises(ArtifactError, match=r"file cannot be read: Permission denied\. Check who may read it"):
        check_file(tmp_path, listed)


def test_a_bundle_of_any_version_is_one(bundle: Path) -> None:
    assert is_bundle(bundle)

    (bundle / MANIFEST).write_text('{"schema_version": 99, "edgekit_version": "9.0", "anything": []}')
    assert is_bundle(bundle)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{}",
        "[]",
        "text",
        '{"schema_version": 1}',
        '{"name": "an app", "version": "1.0"}',
        '{"schema_version": "1"}',
    ],
)
def test_other_manifests_are_none(tmp_path: Path, content: str) -> None:
    (tmp_path / MANIFEST).write_text(content)

    assert not is_bundle(tmp_path)
    with pytest.raises(OutputError, match="exists and is no bundle"):
        check_place(tmp_path)


def test_where_a_bundle_may_go(tmp_path: Path, bundle: Path) -> None:
    (tmp_path / "empty").mkdir()

    for place in (tmp_path / "new", tmp_path / "new" / "below", tmp_path / "empty", bundle):
        check_place(place)


def test_names_are_checked_when_the_manifest_is_read(bundle: Path) -> None:
    manifest = read_manifest(bundle)
    wrong = msgspec.structs.replace(manifest.reference, name="../reference.safetensors")
    write_manifest(msgspec.structs.replace(manifest, reference=wrong), bundle)

    with pytest.raises(BundleError, match=r"'\.\./reference\.safetensors' is not the name of a file in the bundle"):
        read_manifest(bundle)
