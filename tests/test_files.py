"""Folders and files appear whole or not at all, whatever goes wrong in between."""

import errno
import hashlib
import os
import shutil
import time
from pathlib import Path

import pytest

from edgekit.errors import OutputError
from edgekit.files import ABANDONED_SECONDS, hash_files, output_errors, sha256, staging, whole_file


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("size", [0, 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1])
def test_hashes_are_those_of_the_whole_file(tmp_path: Path, size: int) -> None:
    content = os.urandom(size)
    path = tmp_path / "file"
    path.write_bytes(content)

    (found,) = hash_files([path])

    assert (found.name, found.size) == ("file", size)
    assert found.sha256 == sha256(path) == hashlib.sha256(content).hexdigest()


def test_a_folder_appears_when_the_block_has_ended(tmp_path: Path) -> None:
    out = tmp_path / "a" / "b" / "out"

    with staging(out) as partial:
        (partial / "file").write_text("new")
        assert not out.exists()
        assert partial.parent == out.parent

    assert (out / "file").read_text() == "new"
    assert names(out.parent) == ["out"]


@pytest.mark.parametrize("error", [ValueError("wrong"), KeyboardInterrupt(), SystemExit(143)], ids=repr)
@pytest.mark.parametrize("before", [None, "old"])
def test_a_block_that_fails_changes_nothing(tmp_path: Path, before: str | None, error: BaseException) -> None:
    out = tmp_path / "out"
    if before:
        out.mkdir()
        (out / "file").write_text(before)

    def fill_and_fail() -> None:
        with staging(out) as partial:
            (partial / "file").write_text("new")
            raise error

    with pytest.raises(type(error)):
        fill_and_fail()

    assert names(tmp_path) == (["out"] if before else [])
    assert not before or (out / "file").read_text() == before


@pytest.mark.parametrize("held", [True, False], ids=["held", "made"])
def test_a_block_that_fails_takes_the_folders_it_needed_with_it(tmp_path: Path, held: bool) -> None:
    """But none that was there before, nor one that somebody else has put something into."""
    out = tmp_path / "there" / "a" / "b" / "out"
    (tmp_path / "there").mkdir()

    def fill_and_fail() -> None:
        with staging(out):
            if held:
                (tmp_path / "there" / "a" / "other").touch()
            raise ValueError

    with pytest.raises(ValueError, match=r"^$"):
        fill_and_fail()

    assert names(tmp_path) == ["there"]
    assert names(tmp_path / "there") == (["a"] if held else [])
    assert not held or names(tmp_path / "there" / "a") == ["other"]


def test_an_older_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    out = tmp_path / "out"
    for content in ("first", "second"):
        with staging(out) as partial:
            (partial / content).touch()

    assert names(out) == ["second"]
    assert names(tmp_path) == ["out"]


def test_an_older_folder_comes_back_when_the_new_one_cannot_take_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "file").write_text("old")
    rename = Path.rename

    def refuse(self: Path, target: Path) -> Path:
        if self.suffix == ".partial":
            raise PermissionError(errno.EACCES, "Permission denied")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refuse)

    refused = pytest.raises(OutputError, match=r"out cannot be written: Permission denied\. Write elsewhere with -o\.")
    with refused, staging(out) as partial:
        (partial / "file").write_text("new")

    assert names(tmp_path) == ["out"]
    assert (out / "file").read_text() == "old"


def test_of_two_that_finish_at_once_the_later_one_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other one's folder appears just when the old one has stepped aside."""
    out = tmp_path / "out"
    out.mkdir()
    (out / "old").touch()
    rename = Path.rename
    raced: list[bool] = []

    def race(self: Path, target: Path) -> Path:
        moved = rename(self, target)
        if self == out and not raced:
            raced.append(True)
            out.mkdir()
            (out / "other").touch()
        return moved

    monkeypatch.setattr(Path, "rename", race)

    with staging(out) as partial:
        (partial / "mine").touch()

    assert raced
    assert names(out) == ["mine"]
    assert names(tmp_path) == ["out"]


def test_a_folder_that_never_stops_changing_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def busy(self: Path, target: Path) -> Path:
        raise OSError(errno.ENOTEMPTY, "Directory not empty") if self.suffix == ".partial" else FileNotFoundError

    monkeypatch.setattr(Path, "rename", busy)

    with pytest.raises(OutputError, match=r"written by another process all the time"), staging(tmp_path / "out"):
        pass

    assert names(tmp_path) == []


def test_a_file_in_a_folders_place_goes(tmp_path: Path) -> None:
    """A damaged cache has one; where a user's file would be in the way, `check_place` has refused before."""
    (tmp_path / "out").touch()

    with staging(tmp_path / "out") as partial:
        (partial / "file").touch()

    assert names(tmp_path / "out") == ["file"]
    assert names(tmp_path) == ["out"]


@pytest.mark.parametrize("name", ["out", "a*[b]?"])
def test_what_a_killed_process_left_is_removed_after_a_day(tmp_path: Path, name: str) -> None:
    old, fresh, other = (tmp_path / f".{stem}.partial" for stem in (f"{name}.old", f"{name}.fresh", "other.old"))
    for folder in (old, fresh, other):
        folder.mkdir()
        (folder / "file").touch()
    long_ago = time.time() - ABANDONED_SECONDS - 60
    for folder in (old, other):
        os.utime(folder, (long_ago, long_ago))

    with staging(tmp_path / name):
        pass

    assert names(tmp_path) == sorted([fresh.name, other.name, name])


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (errno.ENOSPC, r"No space left for out\. Free some, or write elsewhere with -o\."),
        (errno.EDQUOT, r"No space left for out\."),
        (errno.EACCES, r"out cannot be written: Permission denied\. Write elsewhere with -o\."),
        (errno.EROFS, r"out cannot be written: Read-only file system\."),
        (errno.ENAMETOOLONG, r"out cannot be written: File name too long\."),
        (errno.EIO, r"out cannot be written: Input/output error\."),
    ],
    ids=errno.errorcode.get,
)
def test_the_systems_refusal_is_one_line(number: int, message: str) -> None:
    with pytest.raises(OutputError, match=f"^{message}"), output_errors(Path("out")):
        raise OSError(number, os.strerror(number))


def test_another_file_than_the_place_is_named(tmp_path: Path) -> None:
    inside, outside = tmp_path / "out" / "file", tmp_path / "elsewhere" / "file"
    place = tmp_path / "out"

    for path, named in ((inside, False), (outside, True)):
        with pytest.raises(OutputError) as caught, output_errors(place / "x"):
            path.read_bytes()
        assert (f"({path})" in str(caught.value)) is named


def test_of_a_copy_the_target_is_named(tmp_path: Path) -> None:
    with pytest.raises(OutputError) as caught, output_errors(tmp_path / "out" / "x"):
        raise OSError(errno.EFBIG, "File too large", str(tmp_path / "source"), None, str(tmp_path / "out" / "file"))

    assert "(" not in str(caught.value)


def test_other_errors_pass() -> None:
    with pytest.raises(TimeoutError), output_errors(Path("out")):
        raise TimeoutError(errno.ETIMEDOUT, "Connection timed out")


def test_a_file_appears_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    with whole_file(path) as partial:
        partial.write_text("new")
        assert path.read_text() == "old"

    assert path.read_text() == "new"
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize("error", [ValueError("wrong"), KeyboardInterrupt()], ids=repr)
def test_a_file_whose_block_fails_stays_as_it_was(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def write_half() -> None:
        with whole_file(path) as partial:
            partial.write_text("half")
            raise error

    with pytest.raises(type(error)):
        write_half()

    assert path.read_text() == "old"
    assert names(tmp_path) == ["file"]


def test_a_folder_is_no_place_for_a_file(tmp_path: Path) -> None:
    refused = pytest.raises(OutputError, match=r"cannot be written: Is a directory\. Choose another place\.")
    with refused, whole_file(tmp_path):
        pytest.fail("the block was entered")


@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_permissions_are_what_the_mask_leaves(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        with staging(tmp_path / "out"), whole_file(tmp_path / "file"):
            pass
    finally:
        os.umask(before)

    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o777 & ~mask
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o666 & ~mask


def test_a_partial_folder_that_cannot_be_removed_hides_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "rmtree", lambda path, ignore_errors: None)

    with pytest.raises(ValueError, match="the reason"), staging(tmp_path / "out"):
        raise ValueError("the reason")
