"""Large kernels of a network as small pictures, so that a report can show them without the network or torch.

`kernels.safetensors` in a bundle: one tensor for each kernel, and what it is in the metadata. A picture is no weight:
it has the first channels only, large kernels are averaged down, and every channel has its own scale.
"""

from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from edgekit.errors import BundleError

PICTURES = "kernels.safetensors"
KEY = "edgekit.kernels"


class KernelLabel(Struct, frozen=True, kw_only=True):
    """Which kernel a picture is of: its module, taps, channels in all, and whether it is a (K, 1), (1, K) pair."""

    module: str
    taps: tuple[int, int]
    channels: int
    separable: bool


@dataclass(frozen=True, slots=True)
class KernelPicture:
    """A kernel's first channels (C, H, W), int8: 127 is the largest magnitude of that channel, 0 is zero."""

    label: KernelLabel
    tiles: NDArray[np.int8]


def write_pictures(pictures: list[KernelPicture], folder: Path) -> tuple[Path, ...]:
    """Stores pictures, in their order, and says where; without any there is no file."""
    if not pictures:
        return ()
    labels = msgspec.json.encode([picture.label for picture in pictures]).decode()
    tensors = {f"{number:04d}": np.asarray(each.tiles, order="C") for number, each in enumerate(pictures)}
    path = folder / PICTURES
    path.write_bytes(save(tensors, {KEY: labels}))
    return (path,)


def read_pictures(path: Path) -> list[KernelPicture]:
    """Reads what `write_pictures` wrote.

    Raises:
        BundleError: The file is missing or damaged.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            labels = msgspec.json.decode(file.metadata()[KEY], type=list[KernelLabel])
            tiles = [file.get_tensor(f"{number:04d}") for number in range(len(labels))]
    except (OSError, SafetensorError, msgspec.DecodeError, KeyError, TypeError) as error:
        raise BundleError(f"{path} holds no pictures of kernels ({error}). Export the model again.") from error
    if any(each.ndim != 3 or each.dtype != np.int8 for each in tiles):
        raise BundleError(f"{path} holds no pictures of kernels (they are no int8 images). Export the model again.")
    return [KernelPicture(label, each) for label, each in zip(labels, tiles, strict=True)]
