"""Images in a numpy archive: `images`, and perhaps `labels` and `classes`.

What `numpy.savez` wrote uncompressed is mapped, so the archive may be larger than memory; a compressed member has to be
unpacked whole. Nothing pickled is ever read.
"""

import hashlib
import struct
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgekit.data.dataset import Pixels
from edgekit.errors import DataError, first_line

MEMBERS = ("images", "labels", "classes")

_LOCAL_HEADER = struct.Struct("<26xHH")
"""Of what precedes a member's bytes in a zip file: the lengths of its name and of its extra field."""

EXAMPLE = "numpy.savez(FILE, images=..., labels=...)"


class Archive:
    """An .npz file.

    Raises:
        DataError: It cannot be read, or does not hold images as uint8, NxHxW, NxHxWx1 or NxHxWx3.
    """

    def __init__(self, path: Path) -> None:
        self.name = path.name
        self.digest, found = read(path)
        self._images = check_images(path, found)
        self._labels = check_labels(path, found.get("labels"), len(self._images))
        self.classes = class_names(path, found.get("classes"), self._labels)

    def __len__(self) -> int:
        return len(self._images)

    def image(self, index: int) -> Pixels:
        return as_rgb(np.asarray(self._images[index]))

    def label(self, index: int) -> int | None:
        return None if self._labels is None else int(self._labels[index])

    def title(self, index: int) -> str:
        return f"{self.name}/{index}"


def as_rgb(image: Pixels) -> Pixels:
    """H x W, H x W x 1 or H x W x 3 as H x W x 3."""
    image = image if image.ndim == 3 else image[:, :, None]
    return np.repeat(image, 3, axis=2) if image.shape[2] == 1 else image


def read(path: Path) -> tuple[str, dict[str, NDArray[np.generic]]]:
    """A digest of the archive from its checksums, and its arrays.

    Raises:
        DataError: It cannot be read.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            infos = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            sums = "".join(f"{name} {info.CRC:08x} {info.file_size}\n" for name, info in sorted(infos.items()))
            found = {name: member(path, archive, infos[name]) for name in MEMBERS if name in infos}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, struct.error) as error:
        raise DataError(
            f"{path} cannot be read as a numpy archive: {first_line(error)}. Write it with {EXAMPLE}."
        ) from error
    return hashlib.sha256(sums.encode()).hexdigest(), found or {name: np.empty(0) for name in infos}


def member(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> NDArray[np.generic]:
    """One array; mapped where it lies in the file as it is."""
    with archive.open(info) as stream:
        version = np.lib.format.read_magic(stream)
        header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = header(stream)
        offset = stream.tell()
    if info.compress_type != zipfile.ZIP_STORED or dtype.hasobject or 0 in shape:
        with archive.open(info) as stream:
            unpacked: NDArray[np.generic] = np.lib.format.read_array(stream, allow_pickle=False)
            return unpacked
    with path.open("rb") as file:
        file.seek(info.header_offset)
        start = info.header_offset + _LOCAL_HEADER.size + sum(_LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size)))
    return np.memmap(path, dtype, "r", start + offset, shape, "F" if fortran else "C")


def check_images(path: Path, found: dict[str, NDArray[np.generic]]) -> NDArray[np.uint8]:
    """The images of an archive.

    Raises:
        DataError: There are none, or they are of another type or layout.
    """
    images = found.get("images")
    if images is None:
        raise DataError(
            f"{path} has no array 'images'; it holds {', '.join(found) or 'nothing'}. Write it with {EXAMPLE}."
        )
    if images.dtype != np.uint8:
        raise DataError(
            f"{path} holds images as {images.dtype}. Store the 8-bit images (uint8, 0 to 255): scaling and normalising "
            "are done here, as the model card says."
        )
    if images.ndim not in (3, 4) or 0 in images.shape or (images.ndim == 4 and images.shape[3] not in (1, 3)):
        shape = "x".join(map(str, images.shape))
        channels_first = images.ndim == 4 and images.shape[1] in (1, 3)
        hint = "Put the channels last: images.transpose(0, 2, 3, 1)." if channels_first else "Store N x H x W x 3."
        raise DataError(
            f"{path} holds images of shape {shape}; N x H x W, or that with 1 or 3 channels, is read. {hint}"
        )
    return images  # type: ignore[return-value]  # the dtype was compared


def check_labels(path: Path, labels: NDArray[np.generic] | None, count: int) -> NDArray[np.int64] | None:
    """The labels of an archive, one for each image.

    Raises:
        DataError: Their number or type does not fit.
    """
    if labels is None:
        return None
    if labels.shape != (count,) or labels.dtype.kind not in "iu" or int(labels.min()) < 0:
        raise DataError(
            f"{path} holds labels as {labels.dtype} of shape {'x'.join(map(str, labels.shape))} for {count} images. "
            "Store one whole number from 0 upwards per image."
        )
    return labels.astype(np.int64)


def class_names(path: Path, classes: NDArray[np.generic] | None, labels: NDArray[np.int64] | None) -> tuple[str, ...]:
    """The archive's names of classes, or their numbers.

    Raises:
        DataError: A label has no name.
    """
    highest = -1 if labels is None else int(labels.max())
    if classes is None:
        return tuple(map(str, range(highest + 1)))
    if classes.ndim != 1 or classes.dtype.kind != "U" or len(classes) <= highest:
        raise DataError(f"{path} has labels up to {highest} and {classes.size} names in 'classes'. Name every class.")
    return tuple(map(str, classes))
