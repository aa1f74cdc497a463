"""What `--data` takes, and how each form is told from the others."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgekit.data.feed import feed
from edgekit.data.sources import open_dataset
from edgekit.errors import DataError
from edgekit.models.cards import IMAGENET


@pytest.mark.parametrize(
    ("spec", "count", "classes"),
    [("digits", 896, 10), ("digits:50", 50, 10), ("patterns", 2000, 20), ("patterns:7", 7, 20)],
)
def test_embedded_sets(spec: str, count: int, classes: int) -> None:
    data = open_dataset(spec)
    assert (len(data), len(data.classes), data.name) == (count, classes, spec.partition(":")[0])
    assert open_dataset(spec, "train").digest != data.digest


def test_files_and_folders_are_the_same_in_both_splits(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)
    np.savez(tmp_path / "a.npz", images=images)
    (tmp_path / "folder").mkdir()
    Image.fromarray(images[0]).save(tmp_path / "folder" / "a.png")
    for name, count in (("a.npz", 3), ("folder", 1)):
        test, train = (open_dataset(str(tmp_path / name), split) for split in ("test", "train"))
        assert (len(test), test.digest) == (count, train.digest)
        assert np.array_equal(test.image(0), images[0])


def test_a_folder_of_the_name_of_a_set_is_reached_by_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "digits").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "digits" / "a.png")
    monkeypatch.chdir(tmp_path)
    assert (len(open_dataset("digits")), len(open_dataset("./digits"))) == (896, 1)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("digits:", r"'digits:' does not say how many images\. Write a whole number, as in digits:500"),
        ("patterns:many", r"does not say how many"),
        ("patterns:0", r"does not say how many"),
        ("digits:٣", r"does not say how many"),
        ("nowhere", r"There is no data 'nowhere': no such folder.*patterns:N"),
        ("nowhere/at all", r"no such folder"),
        ("nowhere.npz", r"nowhere\.npz does not exist"),
        ("nowhere.py:data", r"nowhere\.py does not exist"),
        ("no_such_module:data", r"There is no module 'no_such_module'"),
        (__file__, r"is a file of another kind\. Give digits"),
        ("", r"There is no data ''"),
    ],
)
def test_what_is_no_data_says_what_is(spec: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        open_dataset(spec)


def test_a_module_is_found_by_its_name() -> None:
    data = open_dataset(f"{__name__}:two_images")
    assert (len(data), data.label(1)) == (2, 1)


def two_images() -> list[tuple[np.ndarray[tuple[int, ...], np.dtype[np.uint8]], int]]:
    return [(np.zeros((4, 4, 3), dtype=np.uint8), label) for label in range(2)]


def test_a_feed_prepares_one_image_at_a_time_in_order() -> None:
    data = open_dataset("digits:20")
    fed = feed(data, IMAGENET, (16, 24), iter([3, 0, 3]))
    first, second, third = fed
    assert first.dtype == np.float32
    assert first.shape == (1, 3, 16, 24)
    assert np.array_equal(first, third)
    assert not np.array_equal(first, second)
