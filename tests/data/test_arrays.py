"""Numpy archives of images."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.data.arrays import Archive
from edgekit.errors import DataError

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.integers(0, 256, (5, 12, 10, 3), dtype=np.uint8)
LABELS = np.array([2, 0, 1, 1, 2])


def archive(folder: Path, save: Callable[..., None] = np.savez, **arrays: Any) -> Archive:
    save(folder / "set.npz", **arrays)
    return Archive(folder / "set.npz")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_images_labels_and_classes_come_back(tmp_path: Path, save: Callable[..., None]) -> None:
    data = archive(tmp_path, save, images=IMAGES, labels=LABELS, classes=np.array(["ant", "bee", "cat"]))

    assert (len(data), data.classes, data.name, data.title(3)) == (5, ("ant", "bee", "cat"), "set.npz", "set.npz/3")
    for index in range(5):
        assert np.array_equal(data.image(index), IMAGES[index])
        assert data.label(index) == LABELS[index]


def test_uncompressed_images_are_mapped_and_not_read(tmp_path: Path) -> None:
    mapped = archive(tmp_path, images=np.asfortranarray(IMAGES), labels=LABELS)
    assert isinstance(mapped._images, np.memmap)
    assert np.array_equal(mapped.image(4), IMAGES[4])


@pytest.mark.parametrize("images", [IMAGES[..., 0], IMAGES[..., :1]], ids=["grey", "one channel"])
def test_grey_becomes_rgb_and_classes_numbers(tmp_path: Path, images: np.ndarray[Any, Any]) -> None:
    data = archive(tmp_path, images=images, labels=LABELS)
    assert data.image(1).shape == (12, 10, 3)
    assert np.array_equal(data.image(1)[..., 2], IMAGES[1, ..., 0])
    assert data.classes == ("0", "1", "2")


def test_labels_may_be_absent(tmp_path: Path) -> None:
    data = archive(tmp_path, images=IMAGES)
    assert (data.label(0), data.classes) == (None, ())


def test_the_digest_is_of_the_content_and_not_of_its_packing(tmp_path: Path) -> None:
    plain = archive(tmp_path, images=IMAGES, labels=LABELS).digest
    packed = archive(tmp_path, np.savez_compressed, images=IMAGES, labels=LABELS).digest
    other = archive(tmp_path, images=IMAGES, labels=LABELS[::-1]).digest
    assert plain == packed != other


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": IMAGES}, r"has no array 'images'; it holds x\."),
        ({"images": IMAGES / 255}, r"holds images as float64\. Store the 8-bit images"),
        ({"images": IMAGES.transpose(0, 3, 1, 2)}, r"5x3x12x10.*Put the channels last: images\.transpose"),
        ({"images": IMAGES[0, 0]}, r"of shape 10x3"),
        ({"images": IMAGES[:0]}, r"of shape 0x12x10x3"),
        ({"images": IMAGES, "labels": LABELS[:3]}, r"labels as int64 of shape 3 for 5 images"),
        ({"images": IMAGES, "labels": LABELS - 1}, r"one whole number from 0 upwards"),
        ({"images": IMAGES, "labels": LABELS / 2}, r"labels as float64"),
        ({"images": IMAGES, "labels": LABELS, "classes": np.array(["ant", "bee"])}, r"up to 2 and 2 names"),
        ({"images": np.array([None, "a"], dtype=object)}, r"cannot be read as a numpy archive: .*allow_pickle"),
    ],
)
def test_what_does_not_fit_says_why(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        archive(tmp_path, **arrays)


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x05\x06" + bytes(18)])
def test_a_damaged_file_says_so(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.npz"
    path.write_bytes(content)
    with pytest.raises(
        DataError, match=r"bad\.npz (cannot be read as a numpy archive|has no array 'images'; it holds n)"
    ):
        Archive(path)


def test_a_file_cut_short_says_so(tmp_path: Path) -> None:
    path = tmp_path / "cut.npz"
    np.savez(path, images=IMAGES)
    path.write_bytes(path.read_bytes()[:900])
    with pytest.raises(DataError, match=r"cut\.npz cannot be read"):
        Archive(path)
