"""A cache of finished stages, keyed by what goes into them and never by time.

A key is the SHA-256 of the stage's inputs, the versions of every tool that decides its bytes, and edgekit's own source.
Entries are folders that appear whole or not at all, so an interrupted run leaves nothing that could be taken for a
result, and every file is checked against its hash before it is used.
"""

import hashlib
import os
import shutil
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TypeVar

import msgspec

from edgekit.artifact import FileHash
from edgekit.errors import MisuseError
from edgekit.files import hash_files, remove_abandoned, sha256, staging

RECORD = "stage.json"

LIMIT_BYTES = 8 << 30
"""When the cache grows beyond this, the stages used longest ago go; `$EDGEKIT_CACHE_LIMIT_MB` sets another limit."""

ADVICE = "choose another folder with $EDGEKIT_CACHE, or pass --no-cache"

T = TypeVar("T")


def default_folder() -> Path | None:
    """`$EDGEKIT_CACHE`, or `edgekit` in the user's cache folder; None for a user without a home."""
    if chosen := os.environ.get("EDGEKIT_CACHE"):
        return Path(chosen)
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edgekit" / "stages"
    except RuntimeError:  # no $HOME and no entry in the user database, as containers have it
        return None


def limit_bytes() -> int:
    """How large the cache may grow.

    Raises:
        MisuseError: `$EDGEKIT_CACHE_LIMIT_MB` is no number.
    """
    chosen = os.environ.get("EDGEKIT_CACHE_LIMIT_MB")
    if not chosen:
        return LIMIT_BYTES
    if not chosen.isdecimal():
        raise MisuseError(f"$EDGEKIT_CACHE_LIMIT_MB is {chosen!r}. Set it to a whole number of MiB, such as 8192.")
    return int(chosen) << 20


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
    """Finished stages in a folder; with None for a folder every stage is computed.

    Raises:
        MisuseError: The limit in the environment is no number.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._limit = limit_bytes()
        self._writable = True

    def holds(self, key: str) -> bool:
        """Whether the stage is there; its files are checked only when it is used."""
        try:
            return self._folder is not None and (self._folder / key / RECORD).is_file()
        except OSError:  # a folder that another user closed
            return False

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
        except (OSError, msgspec.DecodeError, UnicodeDecodeError):
            return None
        try:
            for file in record.files:
                shutil.copyfile(entry / file.name, into / file.name)
        except FileNotFoundError:  # another process has just trimmed the cache
            return None
        with suppress(OSError):  # a cache one may only read keeps its times
            os.utime(entry)
        return result

    def store(self, key: str, result: object, files: tuple[Path, ...]) -> None:
        """Keeps a stage's result and files.

        Raises:
            OutputError: The cache cannot be written. Nothing more is stored then; one message is enough.
        """
        if self._folder is None or not self._writable:
            return
        self._writable = False
        with staging(self._folder / key, ADVICE, self._folder) as entry:
            for file in files:
                shutil.copyfile(file, entry / file.name)
            record = _Record(msgspec.Raw(msgspec.json.encode(result)), hash_files(files))
            (entry / RECORD).write_bytes(msgspec.json.encode(record))
        self._writable = True
        self._trim(self._folder)

    def _trim(self, folder: Path) -> None:
        """Drops what killed processes left, and the stages used longest ago until the rest fits the limit."""
        remove_abandoned(folder, ".*.partial")
        sizes: dict[Path, tuple[float, int]] = {}
        for entry in folder.iterdir():
            with suppress(OSError):  # another process may trim at the same time
                if (entry / RECORD).is_file():
                    sizes[entry] = entry.stat().st_mtime, sum(file.stat().st_size for file in entry.iterdir())
        total = 0
        for entry, (_, size) in sorted(sizes.items(), key=lambda item: item[1], reverse=True):
            total += size
            if total > self._limit:
                shutil.rmtree(entry, ignore_errors=True)
