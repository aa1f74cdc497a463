"""Folders of image files."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from edgekit.data.folder import ImageFolder
from edgekit.errors import DataError

RED = np.full((6, 9, 3), (200, 30, 10), dtype=np.uint8)


def save(path: Path, image: NDArray[np.uint8] = RED) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)
    return path


def test_folders_are_classes_in_alphabetical_order(tmp_path: Path) -> None:
    for name in ("n02/b.png", "n01/z.JPEG", "n01/a.png", "n10/c.bmp"):
        save(tmp_path / name)
    (tmp_path / "n01" / "notes.txt").write_text("no image")
    (tmp_path / ".hidden").mkdir()

    data = ImageFolder(tmp_path)

    assert data.classes == ("n01", "n02", "n10")
    assert [(data.title(index), data.label(index)) for index in range(len(data))] == [
        *(("n01/a.png", 0), ("n01/z.JPEG", 0)),
        *(("n02/b.png", 1), ("n10/c.bmp", 2)),
    ]
    assert np.array_equal(data.image(0), RED)
    assert data.name == tmp_path.name


def test_folders_that_are_numbers_count_as_numbers(tmp_path: Path) -> None:
    for name in ("10", "9", "0"):
        save(tmp_path / name / "a.png")
    assert ImageFolder(tmp_path).classes == ("0", "9", "10")


def test_images_alone_have_no_labels(tmp_path: Path) -> None:
    for name in ("b.png", "a.png"):
        save(tmp_path / name)
    data = ImageFolder(tmp_path)
    assert (data.classes, [data.title(0), data.title(1)], data.label(0)) == ((), ["a.png", "b.png"], None)


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK"])
def test_every_kind_of_image_becomes_rgb(tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    Image.fromarray(RED).convert(mode).save(path)
    image = ImageFolder(tmp_path).image(0)
    assert image.dtype == np.uint8
    assert image.shape == (6, 9, 3)


def test_the_digest_follows_names_and_sizes(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png")
    before = ImageFolder(tmp_path).digest
    assert ImageFolder(tmp_path).digest == before
    path.rename(tmp_path / "b.png")
    renamed = ImageFolder(tmp_path).digest
    save(tmp_path / "b.png", np.random.default_rng(0).integers(0, 255, (6, 9, 3), dtype=np.uint8))
    assert len({before, renamed, ImageFolder(tmp_path).digest}) == 3


def test_an_empty_folder_and_a_parent_of_the_right_one_say_so(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no images and no folders of images\. Give one folder for each class"):
        ImageFolder(tmp_path)
    save(tmp_path / "val" / "cat" / "a.png")
    with pytest.raises(DataError, match=r"Is it .*/val that you mean\?"):
        ImageFolder(tmp_path)


def test_what_would_shift_labels_is_refused(tmp_path: Path) -> None:
    save(tmp_path / "cat" / "a.png")
    (tmp_path / "thumbs").mkdir()
    with pytest.raises(DataError, match=r"1 folders without an image, such as thumbs.*shift the labels"):
        ImageFolder(tmp_path)
    (tmp_path / "thumbs").rmdir()
    save(tmp_path / "stray.png")
    with pytest.raises(DataError, match=r"both in folders, one for each class, and beside them, such as stray\.png"):
        ImageFolder(tmp_path)


@pytest.mark.parametrize("content", [b"", b"no image at all", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"])
def test_a_file_that_is_no_image_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.png").write_bytes(content)
    with pytest.raises(DataError, match=r"bad\.png cannot be read as an image.*Replace or remove it"):
        ImageFolder(tmp_path).image(0)


def test_a_truncated_image_is_named(tmp_path: Path) -> None:
    path = save(tmp_path / "cut.png", np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8))
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(DataError, match=r"cut\.png cannot be read"):
        ImageFolder(tmp_path).image(0)
