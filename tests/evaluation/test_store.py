"""Evaluations on disk: they come back as they were, and belong to the bytes that were evaluated."""

from pathlib import Path

import pytest
from msgspec import structs

from edgekit.errors import BundleError, OutputError
from edgekit.evaluation.compare import beside
from edgekit.evaluation.store import FOLDER, carry_over, read_evaluation, read_evaluations, write_evaluation
from tests.evaluation.images import answered, blank, evaluation, one_hot, subset

A, B = "a" * 64, "b" * 64
TORCH = blank("torch fp32", "c" * 64, "")


def test_an_evaluation_comes_back_as_it_was(tmp_path: Path) -> None:
    step = beside(blank(), answered(one_hot([0, 1])), answered(one_hot([1, 1])), subset([0, 1]), 0.5)
    made = evaluation(TORCH, step)

    path = write_evaluation(made, tmp_path)

    assert path == tmp_path / FOLDER / "2026-11-21T12-00-00.json"
    assert read_evaluation(path) == made
    assert [write_evaluation(made, tmp_path).stem[19:] for _ in range(2)] == ["-2", "-3"]


def test_latest_first_with_known_artifacts_and_torch_only(tmp_path: Path) -> None:
    early = evaluation(TORCH, blank(), structs.replace(blank("other"), sha256=B, verdict="within"))
    late = evaluation(TORCH, blank(), created="2026-11-22T12:00:00+00:00")
    for each in (late, early):
        write_evaluation(each, tmp_path)

    assert [each.created[8:10] for each in read_evaluations(tmp_path, {A, B})] == ["22", "21"]
    assert [step.name for step in read_evaluations(tmp_path, {A})[1].steps] == ["torch fp32", "net.int8.onnx"]
    (only,) = read_evaluations(tmp_path, {B})
    assert [step.name for step in only.steps] == ["torch fp32", "net.int8.onnx", "other"]
    assert read_evaluations(tmp_path, {"d" * 64}) == []
    assert read_evaluations(tmp_path / "nothing", {A}) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"is damaged: .*Remove it, and evaluate again with `edgekit eval`"),
        (b'{"schema_version": 99}', r"has schema version 99; this edgekit reads 1\. Remove it"),
        (b'{"schema_version": 1}', r"is damaged: Object missing required field"),
        (b"\xff", r"is damaged"),
    ],
)
def test_a_file_that_is_no_evaluation(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / FOLDER).mkdir()
    (tmp_path / FOLDER / "x.json").write_bytes(content)

    with pytest.raises(BundleError, match=message):
        read_evaluations(tmp_path, {A})


def test_a_bundle_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / FOLDER).write_text("a file in its place")

    with pytest.raises(OutputError, match=r"accuracy cannot be written: .* Copy the bundle to a folder of your own"):
        write_evaluation(evaluation(blank()), tmp_path)


def test_evaluations_of_unchanged_artifacts_move_into_the_bundle_that_takes_the_place(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    for folder in (old, new):
        folder.mkdir()
    kept = write_evaluation(evaluation(TORCH, blank()), old)
    write_evaluation(evaluation(TORCH, blank(sha256=B)), old)
    (old / FOLDER / "damaged.json").write_text("{")

    carry_over(old, new, {A})

    assert [path.name for path in (new / FOLDER).iterdir()] == [kept.name]
    assert (new / FOLDER / kept.name).read_bytes() == kept.read_bytes()
    carry_over(tmp_path / "none", tmp_path, {A})
    assert not (tmp_path / FOLDER).exists()
