"""Image files: one folder for each class, as ImageNet's validation set is usually kept, or images alone."""

import hashlib
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from edgekit.data.dataset import Pixels
from edgekit.errors import DataError, first_line

ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".pgm", ".tif", ".tiff")

FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "PPM", "TIFF")
"""What Pillow may take a file for: none of these starts another program, as reading PostScript does."""

PARTS = ("val", "validation", "test", "train")


class ImageFolder:
    """The images of a folder, each read when it is asked for.

    Folders are classes in alphabetical order, which is the order of ImageNet's labels; folders that are all numbers
    count as numbers. Turning by EXIF tags is left out, as it is in training with timm or torchvision.

    Raises:
        DataError: There are no images, or images both in folders and beside them.
    """

    def __init__(self, folder: Path) -> None:
        self.name = folder.resolve().name
        self._folder = folder
        below = sorted((each for each in entries(folder) if each.is_dir()), key=class_order)
        self._files = images_in(folder)
        self._labels: Sequence[int] = ()
        self.classes: tuple[str, ...] = ()
        found = [images_in(each) for each in below]
        if any(found):
            check_alone(folder, self._files, [each.name for each, files in zip(below, found, strict=True) if not files])
            self.classes = tuple(each.name for each in below)
            self._files = [file for files in found for file in files]
            self._labels = [label for label, files in enumerate(found) for _ in files]
        if not self._files:
            raise nothing_found(folder, below)

    @property
    def digest(self) -> str:
        """Of the files' names and sizes, not of their bytes, which would take as long as reading every image."""
        listing = "".join(f"{self.title(index)} {file.stat().st_size}\n" for index, file in enumerate(self._files))
        return hashlib.sha256(listing.encode(errors="surrogateescape")).hexdigest()

    def __len__(self) -> int:
        return len(self._files)

    def image(self, index: int) -> Pixels:
        path = self._files[index]
        try:
            with Image.open(path, formats=FORMATS) as picture:
                return np.asarray(picture.convert("RGB"))
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise DataError(f"{path} cannot be read as an image: {first_line(error)}. Replace or remove it.") from error

    def label(self, index: int) -> int | None:
        return self._labels[index] if self._labels else None

    def title(self, index: int) -> str:
        return self._files[index].relative_to(self._folder).as_posix()


def entries(folder: Path) -> list[Path]:
    """What is in a folder, without hidden files.

    Raises:
        DataError: It cannot be listed.
    """
    try:
        return [each for each in folder.iterdir() if not each.name.startswith(".")]
    except OSError as error:
        raise DataError(f"{folder} cannot be listed: {error.strerror}. Check who may read it.") from error


def images_in(folder: Path) -> list[Path]:
    """Image files directly in a folder, by name."""
    return sorted(each for each in entries(folder) if each.suffix.lower() in ENDINGS and each.is_file())


def class_order(folder: Path) -> tuple[int, str]:
    """Sorts names that are numbers as numbers and before others, and the others by the alphabet."""
    number = re.fullmatch(r"\d{1,9}", folder.name)
    return (int(folder.name), folder.name) if number else (10**9, folder.name)


def check_alone(folder: Path, files: Iterable[Path], empty: Sequence[str]) -> None:
    """Refuses what makes labels doubtful: images beside the folders of classes, and classes without an image.

    Raises:
        DataError: There are such.
    """
    if beside := [file.name for file in files]:
        raise DataError(
            f"{folder} has images both in folders, one for each class, and beside them, such as {beside[0]}. Move "
            "these elsewhere."
        )
    if empty:
        raise DataError(
            f"{folder} has {len(empty)} folders without an image, such as {empty[0]}, and folders are classes here: "
            "they would shift the labels. Remove what is no class."
        )


def nothing_found(folder: Path, below: Sequence[Path]) -> DataError:
    """What to say of a folder without images."""
    part = next((each for name in PARTS for each in below if each.name == name), None)
    if part is not None:
        return DataError(f"{folder} holds no images and no folders of images. Is it {part} that you mean?")
    return DataError(
        f"{folder} holds no images and no folders of images. Give one folder for each class, or images alone, as "
        f"{' '.join(ENDINGS)}."
    )
