"""Measurements on disk: they come back as they were, and belong to the bytes that were measured."""

from pathlib import Path

import msgspec
import pytest
from msgspec import structs

from edgekit.bench.profile_record import ProfileRun
from edgekit.bench.store import (
    FOLDER,
    PROFILES,
    carry_over,
    read_profiles,
    read_run,
    read_runs,
    write_profiles,
    write_run,
)
from edgekit.errors import BundleError, OutputError
from tests.bench.figures import execution, measurement, profile_run_of, run_of

MEDIANS = (5.0, 5.1, 5.2, 5.0, 5.1, 5.3)
A, B = "a" * 64, "b" * 64


def test_a_run_comes_back_as_it_was(tmp_path: Path) -> None:
    run = run_of(measurement(MEDIANS), measurement(MEDIANS, sha256=B, level="NOISY"))

    path = write_run(run, tmp_path)

    assert path == tmp_path / FOLDER / "2026-11-21T12-00-00.json"
    assert read_run(path) == run
    assert path.read_text().startswith('{\n "schema_version": 1,\n "run": "one"')


def test_a_run_from_before_devices_had_memory_is_read(tmp_path: Path) -> None:
    path = write_run(run_of(executions=(execution(100),)), tmp_path)
    content = msgspec.json.decode(path.read_bytes())
    del content["no_memory"], content["executions"][0]["memory"]
    path.write_bytes(msgspec.json.encode(content))

    run = read_run(path)

    assert (run.no_memory, run.executions[0].memory) == ("", None)


def test_two_runs_of_one_second_are_two_files(tmp_path: Path) -> None:
    run = run_of(measurement(MEDIANS))

    names = [write_run(run, tmp_path).name for _ in range(3)]

    assert names == ["2026-11-21T12-00-00.json", "2026-11-21T12-00-00-2.json", "2026-11-21T12-00-00-3.json"]


def test_runs_are_read_latest_first_and_of_known_artifacts_only(tmp_path: Path) -> None:
    early = run_of(measurement(MEDIANS), measurement(MEDIANS, sha256=B), run="early")
    late = run_of(measurement(MEDIANS, sha256=B), run="late", created="2026-11-22T12:00:00+00:00")
    for run in (early, late):
        write_run(run, tmp_path)

    assert [run.run for run in read_runs(tmp_path, {A, B})] == ["late", "early"]
    (only,) = read_runs(tmp_path, {A})
    assert only == structs.replace(early, measurements=early.measurements[:1])
    assert read_runs(tmp_path, {"c" * 64}) == []
    assert read_runs(tmp_path / "nothing", {A}) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"is damaged: .*Remove it, and measure again with `edgekit bench`"),
        (b'{"schema_version": 99}', r"has schema version 99; this edgekit reads 1\. Remove it"),
        (b'{"schema_version": 1}', r"is damaged: Object missing required field"),
        (b"\xff", r"is damaged"),
    ],
)
def test_a_file_that_is_no_run(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / FOLDER).mkdir()
    (tmp_path / FOLDER / "x.json").write_bytes(content)

    with pytest.raises(BundleError, match=message):
        read_runs(tmp_path, {A})


def test_a_bundle_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / FOLDER).write_text("a file in its place")

    with pytest.raises(
        OutputError, match=r"measurements cannot be written: .* Copy the bundle to a folder of your own"
    ):
        write_run(run_of(measurement(MEDIANS)), tmp_path)


def test_runs_of_unchanged_artifacts_move_into_the_bundle_that_takes_the_place(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    for folder in (old, new):
        folder.mkdir()
    kept = write_run(run_of(measurement(MEDIANS), measurement(MEDIANS, sha256=B)), old)
    write_run(run_of(measurement(MEDIANS, sha256=B)), old)
    (old / FOLDER / "damaged.json").write_text("{")

    carry_over(old, new, {A})

    assert [path.name for path in (new / FOLDER).iterdir()] == [kept.name]
    assert (new / FOLDER / kept.name).read_bytes() == kept.read_bytes()


def test_nothing_to_carry_over_leaves_no_folder(tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()

    carry_over(tmp_path / "old", tmp_path / "new", {A})

    assert list((tmp_path / "new").iterdir()) == []


def test_profiles_come_back_as_they_were_and_of_known_artifacts_only(tmp_path: Path) -> None:
    run = profile_run_of(A, B)

    path = write_profiles(run, tmp_path)

    assert path == tmp_path / PROFILES / "2026-11-21T13-00-00.json"
    assert read_profiles(tmp_path, {A, B}) == [run]
    (only,) = read_profiles(tmp_path, {B})
    assert [each.sha256 for each in only.measurements] == [B]
    assert read_profiles(tmp_path, {"c" * 64}) == []


def test_profiles_go_where_the_user_says(tmp_path: Path) -> None:
    run = profile_run_of(A)

    path = write_profiles(run, tmp_path, tmp_path / "mine.json")

    assert msgspec.json.decode(path.read_bytes(), type=ProfileRun) == run
    assert [each.name for each in tmp_path.iterdir()] == ["mine.json"]


def test_profiles_of_another_version_say_how_to_make_new_ones(tmp_path: Path) -> None:
    (tmp_path / PROFILES).mkdir()
    (tmp_path / PROFILES / "x.json").write_text('{"schema_version": 99}')

    with pytest.raises(BundleError, match=r"schema version 99.*Remove it, and profile again with `edgekit profile`"):
        read_profiles(tmp_path, {A})


def test_profiles_of_unchanged_artifacts_move_along_with_the_runs(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    for folder in (old, new):
        folder.mkdir()
    kept = write_profiles(profile_run_of(A), old)
    write_profiles(profile_run_of(B), old)

    carry_over(old, new, {A})

    assert [path.relative_to(new) for path in new.rglob("*.json")] == [kept.relative_to(old)]
