"""A job as it travels."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgekit.errors import MisuseError
from edgekit.targets.job import Job, Task
from edgekit.targets.parcel import pack, unpack_outputs


@pytest.fixture
def task(tmp_path: Path) -> Task:
    (tmp_path / "net.onnx").write_bytes(b"network")
    return Task(
        key="a", runtime="onnxruntime", files=(tmp_path / "net.onnx",), cases=({"x": np.ones((1, 2), np.float32)},)
    )


def test_everything_goes_once_under_its_hash(task: Task) -> None:
    blobs, text = pack(Job(tasks=(task, replace(task, key="b"))))

    digests = {hashlib.sha256(b"network").hexdigest(), hashlib.sha256(np.ones(2, np.float32).tobytes()).hexdigest()}
    assert set(blobs) == digests
    described = json.loads(text)
    assert [each["number"] for each in described["tasks"]] == [0, 1]
    assert described["tasks"][1]["files"][0]["name"] == "net.onnx"
    assert described["tasks"][1]["cases"][0]["x"]["shape"] == [1, 2]


def test_inputs_go_in_the_order_of_their_elements(task: Task) -> None:
    values = np.arange(6, dtype=np.float32).reshape(2, 3)

    blobs, _ = pack(Job(tasks=(replace(task, cases=({"x": values.T},)),)))

    assert np.ascontiguousarray(values.T).tobytes() in blobs.values()


def test_outputs_are_found_in_the_results() -> None:
    places = [
        [{"name": "y", "dtype": "int8", "shape": [2, 2], "offset": 1}],
        [{"name": "y", "dtype": "int8", "shape": [], "offset": 0}],
    ]

    first, second = unpack_outputs(places, bytes([9, 1, 2, 3, 4]))

    np.testing.assert_array_equal(first["y"], np.array([[1, 2], [3, 4]], np.int8))
    assert second["y"] == 9


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cases": ()}, "has no inputs to run on"),
        ({"files": ()}, "has no file at all"),
        ({"files": (Path("gone.onnx"),)}, "has no file gone.onnx"),
        ({"cases": ({"x": np.ones(2, np.float16)},)}, "float16 cannot be sent"),
    ],
)
def test_a_task_that_cannot_be_meant_is_refused(task: Task, change: dict[str, object], message: str) -> None:
    with pytest.raises(MisuseError, match=message):
        pack(Job(tasks=(replace(task, **change),)))  # type: ignore[arg-type]


def test_a_job_that_cannot_be_meant_is_refused(task: Task) -> None:
    with pytest.raises(MisuseError, match="at least one"):
        pack(Job(tasks=()))
    with pytest.raises(MisuseError, match="same key"):
        pack(Job(tasks=(task, task)))
    with pytest.raises(MisuseError, match="counted with one thread"):
        pack(Job(tasks=(task,), measure="instructions", threads=2))
