"""The cache gives back what was stored, whole and unchanged, or nothing; and it never stands in the way."""

import errno
import os
import shutil
from pathlib import Path

import msgspec
import pytest

from edgekit.cache import RECORD, StageCache, default_folder, source_hash, stage_key, tool_versions
from edgekit.errors import MisuseError, OutputError

KEY = "0" * 64


class Result(msgspec.Struct, frozen=True):
    value: int


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A file that a stage made."""
    path = tmp_path / "made" / "file.bin"
    path.parent.mkdir()
    path.write_bytes(bytes(range(256)) * 64)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def into(tmp_path: Path) -> Path:
    path = tmp_path / "into"
    path.mkdir()
    return path


@pytest.fixture(autouse=True)
def no_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EDGEKIT_CACHE_LIMIT_MB", raising=False)


def test_what_was_stored_comes_back(folder: Path, source: Path, into: Path) -> None:
    cache = StageCache(folder)
    assert not cache.holds(KEY)
    assert cache.fetch(KEY, into, Result) is None

    cache.store(KEY, Result(7), (source,))

    assert cache.holds(KEY)
    assert StageCache(folder).fetch(KEY, into, Result) == Result(7)
    assert (into / source.name).read_bytes() == source.read_bytes()
    assert [path.name for path in folder.iterdir()] == [KEY]


def test_without_a_folder_nothing_is_kept(source: Path, into: Path) -> None:
    cache = StageCache(None)
    cache.store(KEY, Result(7), (source,))

    assert not cache.holds(KEY)
    assert cache.fetch(KEY, into, Result) is None


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("file.bin", truncate),
        ("file.bin", lambda path: path.write_bytes(bytes(len(path.read_bytes())))),
        ("file.bin", Path.unlink),
        (RECORD, truncate),
        (RECORD, lambda path: path.write_bytes(b"")),
        (RECORD, lambda path: path.write_bytes(b"\xff\xfe")),
        (RECORD, lambda path: path.write_bytes(b"{}")),
        (RECORD, lambda path: path.write_bytes(path.read_bytes().replace(b"7", b'"seven"'))),
        (RECORD, Path.unlink),
    ],
    ids=["cut", "zeros", "gone", "record-cut", "record-empty", "record-bytes", "other", "type", "record-gone"],
)
def test_a_damaged_entry_is_none_and_is_replaced(
    folder: Path, source: Path, into: Path, name: str, damage: object
) -> None:
    cache = StageCache(folder)
    cache.store(KEY, Result(7), (source,))
    damage(folder / KEY / name)  # type: ignore[operator]

    assert cache.fetch(KEY, into, Result) is None
    assert list(into.iterdir()) == []

    cache.store(KEY, Result(8), (source,))
    assert cache.fetch(KEY, into, Result) == Result(8)


def test_a_file_in_an_entrys_place_is_replaced(folder: Path, source: Path, into: Path) -> None:
    folder.mkdir()
    (folder / KEY).touch()
    cache = StageCache(folder)
    assert not cache.holds(KEY)

    cache.store(KEY, Result(7), (source,))

    assert cache.fetch(KEY, into, Result) == Result(7)
    assert [path.name for path in folder.iterdir()] == [KEY]


def test_an_entry_another_process_trims_meanwhile_is_none(
    folder: Path, source: Path, into: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = StageCache(folder)
    cache.store(KEY, Result(7), (source,))
    copy = shutil.copyfile

    def trim_first(source: Path, target: Path) -> object:
        shutil.rmtree(folder / KEY)
        return copy(source, target)

    monkeypatch.setattr(shutil, "copyfile", trim_first)

    assert cache.fetch(KEY, into, Result) is None


def test_a_cache_one_may_only_read_is_still_read(
    folder: Path, source: Path, into: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = StageCache(folder)
    cache.store(KEY, Result(7), (source,))
    monkeypatch.setattr(os, "utime", refuse)

    assert cache.fetch(KEY, into, Result) == Result(7)


def refuse(*_: object, **__: object) -> None:
    raise PermissionError(errno.EACCES, "Permission denied")


def test_a_cache_one_may_not_read_holds_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "is_file", refuse)

    assert not StageCache(folder).holds(KEY)


def test_a_cache_that_cannot_be_written_says_so_once(tmp_path: Path, source: Path) -> None:
    (tmp_path / "file").touch()
    cache = StageCache(tmp_path / "file" / "cache")

    with pytest.raises(OutputError, match=r"file/cache cannot be written: .*\$EDGEKIT_CACHE, or pass --no-cache"):
        cache.store(KEY, Result(7), (source,))

    cache.store(KEY, Result(7), (source,))  # does not try again, which on a full disk would copy until it is full
    assert not cache.holds(KEY)


def test_the_stage_used_longest_ago_goes_first(
    folder: Path, source: Path, into: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source.write_bytes(bytes(400 << 10))
    monkeypatch.setenv("EDGEKIT_CACHE_LIMIT_MB", "1")
    cache = StageCache(folder)
    for age, key in enumerate("cba"):
        cache.store(key, Result(age), (source,))
        moment = 1_000_000_000 + 1000 * age
        os.utime(folder / key, (moment, moment))
        if key == "b":
            assert cache.fetch("c", into, Result) == Result(0)  # used now, so it stays

    cache.store("d", Result(9), (source,))

    assert sorted(path.name for path in folder.iterdir()) == ["c", "d"]


def test_trimming_bears_with_another_process(folder: Path, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = StageCache(folder)
    cache.store("a", Result(1), (source,))
    stat = Path.stat

    def vanished(self: Path, *, follow_symlinks: bool = True) -> os.stat_result:
        if self == folder / "a":
            raise FileNotFoundError(errno.ENOENT, "No such file or directory")
        return stat(self, follow_symlinks=follow_symlinks)

    monkeypatch.setattr(Path, "stat", vanished)

    cache.store("b", Result(2), (source,))

    assert cache.holds("b")


@pytest.mark.parametrize("limit", ["many", "-1", "1.5", "8 GB"])
def test_a_limit_that_is_no_number_is_refused_at_once(limit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEKIT_CACHE_LIMIT_MB", limit)

    with pytest.raises(MisuseError, match=rf"\$EDGEKIT_CACHE_LIMIT_MB is '{limit}'\. Set it to a whole number of MiB"):
        StageCache(None)


@pytest.mark.parametrize(
    ("variables", "folder"),
    [
        ({"EDGEKIT_CACHE": "here"}, "here"),
        ({"EDGEKIT_CACHE": "", "XDG_CACHE_HOME": "xdg", "HOME": "home"}, "xdg/edgekit/stages"),
        ({"XDG_CACHE_HOME": "", "HOME": "home"}, "home/.cache/edgekit/stages"),
    ],
    ids=["own", "xdg", "home"],
)
def test_where_the_cache_is(variables: dict[str, str], folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EDGEKIT_CACHE", raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    assert default_folder() == Path(folder)


def test_a_user_without_a_home_has_no_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container that runs under a number no user has."""
    for name in ("EDGEKIT_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)

    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)

    assert default_folder() is None


def test_a_key_is_decided_by_its_parts_alone() -> None:
    assert stage_key("a", {"x": 1, "y": 2}) == stage_key("a", {"y": 2, "x": 1})
    assert len({stage_key("a", "b"), stage_key("ab"), stage_key("b", "a"), stage_key(["a", "b"]), stage_key()}) == 5


def test_a_changed_source_is_another_source(monkeypatch: pytest.MonkeyPatch) -> None:
    source_hash.cache_clear()
    before = source_hash()
    read = Path.read_bytes
    monkeypatch.setattr(
        Path, "read_bytes", lambda self: read(self) + (b"#" if self.parts[-2:] == ("exporters", "onnx.py") else b"")
    )
    source_hash.cache_clear()
    after = source_hash()
    monkeypatch.undo()
    source_hash.cache_clear()

    assert before != after
    assert source_hash() == before


def test_versions_leave_out_what_is_missing() -> None:
    found = tool_versions(("numpy", "no-such-distribution"))

    assert list(found) == ["numpy"]
    assert found["numpy"][0].isdigit()
