"""Files on disk: hashes, and folders and files that appear whole or not at all."""

import errno
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path

from edgekit.artifact import FileHash
from edgekit.errors import OutputError

ABANDONED_SECONDS = 24 * 3600
"""A partial folder this old belongs to a process that was killed, and is removed by the next one in its place."""

ELSEWHERE = "write elsewhere with -o"
"""What to do about a place that cannot be written, where the user chose it with an option."""

_CHUNK = 1 << 20
_REPLACE_ATTEMPTS = 100
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
_REFUSED = (
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOENT, errno.ELOOP),
    *(errno.ENAMETOOLONG, errno.EINVAL, errno.EIO, errno.EBUSY, errno.EFBIG, errno.EXDEV, errno.ENOTEMPTY),
)


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
def staging(folder: Path, advice: str = ELSEWHERE, place: Path | None = None) -> Iterator[Path]:
    """A hidden folder beside the final one that takes its place when the block ends well, and vanishes otherwise.

    Args:
        folder: The final place; where it is a link, the folder it leads to.
        advice: What the user can do when it cannot be written.
        place: What to call it then, where that is not the folder itself.

    Raises:
        OutputError: The disk is full, or the place cannot be written.
    """
    place = place or folder
    with output_errors(place, advice):
        final = folder.resolve()
        missing = [parent for parent in final.parents if not parent.exists()]
        final.parent.mkdir(parents=True, exist_ok=True)
        remove_abandoned(final.parent, f".{escape(final.name)}.*.partial")
        partial = Path(tempfile.mkdtemp(prefix=f".{final.name}.", suffix=".partial", dir=final.parent))
    try:
        with output_errors(place, advice):
            yield partial
            partial.chmod(0o777 & ~_umask())
            _replace(partial, final)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        for parent in missing:
            with suppress(OSError):  # it holds something by now, the result above all
                parent.rmdir()


@contextmanager
def whole_file(path: Path, advice: str = "choose another place") -> Iterator[Path]:
    """A hidden file beside the final one that takes its place when the block ends well, and vanishes otherwise.

    Raises:
        OutputError: The disk is full, or the place cannot be written.
    """
    with output_errors(path, advice):
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".partial", dir=path.parent)
        os.close(handle)
        partial = Path(name)
        try:
            yield partial
            partial.chmod(0o666 & ~_umask())
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)


@contextmanager
def output_errors(place: Path, advice: str = ELSEWHERE) -> Iterator[None]:
    """Turns the operating system's refusals to write into one line.

    Raises:
        OutputError: The disk is full, or the place cannot be written.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise OutputError(f"No space left for {place}. Free some, or {advice}.") from error
        if error.errno in _REFUSED:
            reason = f"{error.strerror}{_other_place(error, place)}"
            raise OutputError(f"{place} cannot be written: {reason}. {advice[:1].upper()}{advice[1:]}.") from error
        raise


def _other_place(error: OSError, place: Path) -> str:
    """What the system refused, where that was not the place itself or beside it."""
    name = error.filename2 or error.filename  # of a copy the second is the one that is written
    if not isinstance(name, str) or Path(name).absolute().is_relative_to(place.resolve().parent):
        return ""
    return f" ({name})"


def remove_abandoned(folder: Path, pattern: str) -> None:
    """Removes partial folders that a killed process left behind."""
    for partial in folder.glob(pattern):
        with suppress(OSError):
            if time.time() - partial.stat().st_mtime > ABANDONED_SECONDS:
                shutil.rmtree(partial, ignore_errors=True)


def _replace(partial: Path, folder: Path) -> None:
    """Moves a finished folder into place; an older one steps aside first and comes back if that fails.

    Of two processes that finish at the same moment the later one wins: where a folder has appeared since the older one
    stepped aside, that one steps aside as well.
    """
    for attempt in range(_REPLACE_ATTEMPTS):
        aside = partial.with_suffix(f".replaced-{attempt}")
        with suppress(FileNotFoundError):
            folder.rename(aside)
        try:
            partial.rename(folder)
        except BaseException as error:
            if isinstance(error, OSError) and error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                _remove(aside)
                continue
            with suppress(OSError):  # fails where the new folder was in place before Ctrl-C came
                aside.rename(folder)
            raise
        _remove(aside)
        return
    raise OutputError(f"{folder} is written by another process all the time. Wait for it, or {ELSEWHERE}.")


def _remove(path: Path) -> None:
    """Removes a folder, or whatever was in a folder's place, as far as the system lets it."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()


def _umask() -> int:
    """The process's file mode mask, which can only be read by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
