"""A cache of finished stages, keyed by what goes into them and never by time.

A key is the SHA-256 of the stage's inputs, the versions of every tool that decides its bytes, and edgekit's own source.
Entries are folders that appear whole or not at all, so an interrupted run leaves nothing that could be taken for a
result, and every file is checked against its hash before it is used.
"""

import hashlib
import os
import shutil
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TypeVar

import msgspec

from edgekit.artifact import FileHash
from edgekit.files import hash_files, sha256, staging

RECORD = "stage.json"

LIMIT_BYTES = 8 << 30
"""When the cache grows beyond this, the stages used longest ago go; `$EDGEKIT_CACHE_LIMIT_MB` sets another limit."""

T = TypeVar("T")


def default_folder() -> Path:
    """`$EDGEKIT_CACHE`, or `edgekit` in the user's cache folder."""
    if chosen := os.environ.get("EDGEKIT_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edgekit" / "stages"


def stage_key(*parts: object) -> str:
    """SHA-256 over values that msgspec can write as JSON."""
    return hashlib.sha256(msgspec.json.encode(parts, order="deterministic")).hexdigest()


@cache
def source_hash() -> str:
    """SHA-256 over edgekit's own source files, so that a changed edgekit never meets an old result."""
    digest = hashlib.sha256()
    package = Path(__file__).parent
    folders = (package, *(package / linked for linked in ("exporters", "quant", "targets")))
    for path in sorted({path.resolve() for folder in folders for path in folder.rglob("*.py")}):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def tool_versions(packages: tuple[str, ...]) -> dict[str, str]:
    """Installed version of each distribution; one that is missing is left out."""
    found: dict[str, str] = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


class _Record(msgspec.Struct, frozen=True):
    result: msgspec.Raw
    files: tuple[FileHash, ...]


class StageCache:
    """Finished stages in a folder; with None for a folder every stage is computed."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def holds(self, key: str) -> bool:
        """Whether the stage is there; its files are checked only when it is used."""
        return self._folder is not None and (self._folder / key / RECORD).is_file()

    def fetch(self, key: str, into: Path, kind: type[T]) -> T | None:
        """Copies a stage's files and gives back its result; None when it is not there or damaged."""
        if self._folder is None or not self.holds(key):
            return None
        entry = self._folder / key
        try:
            record = msgspec.json.decode((entry / RECORD).read_bytes(), type=_Record)
            if any(sha256(entry / file.name) != file.sha256 for file in record.files):
                return None
            result = msgspec.json.decode(record.result, type=kind)
        except (OSError, msgspec.DecodeError):
            return None
        for file in record.files:
            shutil.copyfile(entry / file.name, into / file.name)
        os.utime(entry)
        return result

    def store(self, key: str, result: object, files: tuple[Path, ...]) -> None:
        """Keeps a stage's result and files."""
        if self._folder is None:
            return
        with staging(self._folder / key) as entry:
            for file in files:
                shutil.copyfile(file, entry / file.name)
            record = _Record(msgspec.Raw(msgspec.json.encode(result)), hash_files(files))
            (entry / RECORD).write_bytes(msgspec.json.encode(record))
        self._trim()

    def _trim(self) -> None:
        """Drops the stages used longest ago until the rest fits the limit."""
        assert self._folder is not None, "only called by store"  # noqa: S101
        entries = [entry for entry in self._folder.iterdir() if (entry / RECORD).is_file()]
        entries.sort(key=lambda entry: entry.stat().st_mtime, reverse=True)
        limit = int(os.environ.get("EDGEKIT_CACHE_LIMIT_MB", LIMIT_BYTES >> 20)) << 20
        total = 0
        for entry in entries:
            total += sum(file.stat().st_size for file in entry.iterdir())
            if total > limit:
                shutil.rmtree(entry, ignore_errors=True)
