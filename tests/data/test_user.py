"""Images from the user's own code."""

from pathlib import Path

import numpy as np
import pytest

from edgekit.data.dataset import Dataset
from edgekit.data.sources import open_dataset
from edgekit.errors import DataError

HEAD = """
import numpy as np
from PIL import Image

def picture(index):
    return np.full((4, 6, 3), index, dtype=np.uint8)

"""


def opened(folder: Path, code: str) -> Dataset:
    path = folder / "mine.py"
    path.write_text(HEAD + code)
    return open_dataset(f"{path}:data")


FORMS = {
    "generator": "def data():\n    for i in range(5):\n        yield picture(i), i % 3",
    "list": "def data():\n    return [(picture(i), i % 3) for i in range(5)]",
    "pillow": "def data():\n    return [(Image.fromarray(picture(i)), np.int64(i % 3)) for i in range(5)]",
    "grey": "def data():\n    return [(picture(i)[:, :, 0], i % 3) for i in range(5)]",
    "class": (
        "class data:\n    def __len__(self): return 5\n    def __getitem__(self, i): return picture(i), i % 3\n"
        "    classes = ['0', '1', '2']"
    ),
}


@pytest.mark.parametrize("code", FORMS.values(), ids=FORMS)
def test_every_form_gives_images_and_labels(tmp_path: Path, code: str) -> None:
    data = opened(tmp_path, code)

    assert (len(data), data.classes) == (5, ("0", "1", "2"))
    for index in (0, 1, 4, 2, 2):  # going back starts a generator over
        assert np.array_equal(data.image(index), np.full((4, 6, 3), index, np.uint8))
        assert data.label(index) == index % 3
    assert data.title(3) == f"{tmp_path}/mine.py:data/3"
    assert data.digest == opened(tmp_path, code).digest


def test_a_dataset_of_its_own_is_taken_as_it_is(tmp_path: Path) -> None:
    code = """
class data:
    name, classes, digest = "mine", ("a", "b"), "abc"
    def __len__(self): return 2
    def image(self, i): return picture(i)
    def label(self, i): return i
    def title(self, i): return f"no {i}"
"""
    data = opened(tmp_path, code)
    assert (data.name, data.classes, data.digest, len(data)) == ("mine", ("a", "b"), "abc", 2)
    assert (data.image(1).max(), data.label(1), data.title(1)) == (1, 1, "no 1")


def test_images_without_labels(tmp_path: Path) -> None:
    data = opened(tmp_path, "def data():\n    yield from map(picture, range(3))")
    assert ([data.label(index) for index in range(3)], data.image(2).max()) == ([None] * 3, 2)


def test_a_stream_keeps_one_image_and_reads_in_order_without_starting_over(tmp_path: Path) -> None:
    code = "calls = []\ndef data():\n    calls.append(1)\n    for i in range(4):\n        yield picture(i), len(calls)"
    data = opened(tmp_path, code)
    assert [data.image(index).max() for index in range(4)] == [0, 1, 2, 3]
    assert [data.label(index) for index in range(4)] == [1] * 4  # of the counting pass
    assert len(data.classes) == 2


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("def data():\n    return 5", r"returned int\. Return a sequence or generator"),
        ("def data(n):\n    return []", r"needs arguments: n\. Write a function that fills them in"),
        ("data = 5", r"is int\. Give a function or class"),
        ("def dota():\n    return []", r"there is no 'data' in it\. Did you mean dota\?"),
        ("def data():\n    raise ValueError('lost')", r"mine\.py:\d+, in data .*ValueError: lost"),
        ("def data():\n    yield picture(0), 0\n    raise ValueError('late')", r"item 1, failed at .*late"),
        (
            "def data():\n    return [(picture(0) / 255, 0)]",
            r"item 0, gave an array of float64 as an image\. Give uint8",
        ),
        ("def data():\n    return ['a.png']", r"item 0, gave str as an image"),
        ("def data():\n    return [(picture(0).transpose(2, 0, 1), 0)]", r"an image of shape 3x4x6\."),
        ("def data():\n    return [(picture(0), 'cat')]", r"gave 'cat' as a label\. Give a whole number"),
        ("def data():\n    yield picture(0), -1", r"gave -1 as a label"),
        ("import missing_for_sure", r"imports 'missing_for_sure'.*not installed"),
    ],
)
def test_mistakes_are_told_by_place_and_reason(tmp_path: Path, code: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        opened(tmp_path, code)


def test_a_stream_that_gives_less_the_second_time_is_found(tmp_path: Path) -> None:
    code = "left = [5, 3]\ndef data():\n    for i in range(left.pop(0)):\n        yield picture(i), 0"
    data = opened(tmp_path, code)
    with pytest.raises(DataError, match=r"gave 5 items when it was first called and 3 now"):
        data.image(4)
