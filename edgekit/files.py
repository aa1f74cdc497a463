"""Files on disk: hashes, and folders that appear whole or not at all."""

import errno
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from edgekit.artifact import FileHash
from edgekit.errors import OutputError

_CHUNK = 1 << 20


def sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def hash_files(paths: Iterable[Path]) -> tuple[FileHash, ...]:
    """Name, size and SHA-256 of each file."""
    return tuple(FileHash(name=path.name, size=path.stat().st_size, sha256=sha256(path)) for path in paths)


@contextmanager
def staging(folder: Path) -> Iterator[Path]:
    """A hidden folder beside the final one that takes its place when the block ends well, and vanishes otherwise.

    Raises:
        OutputError: The disk is full, or the place cannot be written.
    """
    with output_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".partial", dir=folder.parent))
    try:
        with output_errors(folder):
            yield partial
            partial.chmod(0o777 & ~_umask())
            _replace(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def output_errors(place: Path) -> Iterator[None]:
    """Turns the operating system's refusals to write into one line.

    Raises:
        OutputError: The disk is full, or the place cannot be written.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise OutputError(f"No space left for {place}. Free some, or write elsewhere with -o.") from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG):
            raise OutputError(f"{place} cannot be written: {error.strerror}. Choose another place with -o.") from error
        raise


def _replace(partial: Path, folder: Path) -> None:
    """Moves a finished folder into place; an older one steps aside first and comes back if that fails."""
    if not folder.exists():
        partial.rename(folder)
        return
    aside = partial.with_suffix(".replaced")
    folder.rename(aside)
    try:
        partial.rename(folder)
    except OSError:
        aside.rename(folder)
        raise
    shutil.rmtree(aside, ignore_errors=True)


def _umask() -> int:
    """The process's file mode mask, which can only be read by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
