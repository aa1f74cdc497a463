"""An 8-bit image becomes the tensor a network takes, by the model card and nothing else.

The steps and their roundings are those of timm's evaluation transform, so that a checkpoint's published accuracy can be
met: Pillow, which filters when it shrinks, resizes the short side to floor(size / crop_fraction), the centre is cut
out, and float32 arithmetic does the rest.
"""

import hashlib
import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edgekit.artifact import Preprocessing
from edgekit.data.dataset import Pixels

FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}

Size = tuple[int, int]
"""Height and width in pixels."""

Tensor = NDArray[np.float32]

GOLDEN_SIDES = (97, 131)
"""Height and width of the image that `golden` prepares: both odd, so that every step has something to round."""


def prepare(image: Pixels, preprocessing: Preprocessing, size: Size) -> Tensor:
    """Resizes, crops, scales and normalises one image.

    Args:
        image: H x W x 3, RGB.
        preprocessing: The model card's.
        size: Height and width of the network's input.

    Returns:
        float32, 3 x H x W, in the card's channel order, which is also that of its mean and std.
    """
    pixels = np.asarray(resized(image, preprocessing, size), dtype=np.float32)
    if preprocessing.channel_order == "BGR":
        pixels = pixels[:, :, ::-1]
    mean, std = (np.asarray(values, dtype=np.float32) for values in (preprocessing.mean, preprocessing.std))
    return np.ascontiguousarray(((pixels / np.float32(255) - mean) / std).transpose(2, 0, 1))


def resized(image: Pixels, preprocessing: Preprocessing, size: Size) -> Image.Image:
    """The centre of the image at the network's size, still 8 bits per channel."""
    picture = Image.fromarray(np.ascontiguousarray(image))
    height, width = scaled_size((picture.height, picture.width), size, preprocessing.crop_fraction)
    if (height, width) != (picture.height, picture.width):
        picture = picture.resize((width, height), FILTERS[preprocessing.interpolation])
    return centre(picture, size)


def scaled_size(image: Size, size: Size, crop_fraction: float) -> Size:
    """Height and width an image is resized to before its centre is cut out; its shape stays.

    For a square the long side is cut to whole pixels, for another shape both sides are rounded, as timm does.
    """
    wanted = tuple(math.floor(side / crop_fraction) for side in size)
    height, width = image
    if wanted[0] == wanted[1]:
        short = min(height, width)
        return tuple(wanted[0] if side == short else int(wanted[0] * side / short) for side in image)  # type: ignore[return-value]
    ratio = min(height / wanted[0], width / wanted[1])
    return round(height / ratio), round(width / ratio)


def centre(picture: Image.Image, size: Size) -> Image.Image:
    """The middle of a picture; where a crop fraction above 1 left it too small, with black around it."""
    height, width = size
    top, left = round((picture.height - height) / 2), round((picture.width - width) / 2)
    return picture.crop((left, top, left + width, top + height))


def golden(preprocessing: Preprocessing, size: Size) -> str:
    """SHA-256 of the tensor that one fixed image becomes: equal hashes mean equal preprocessing, bit for bit.

    It covers the card's settings, the order of steps, and the resizing of the installed Pillow. The bytes are
    little-endian float32, channels first.
    """
    tensor = prepare(golden_image(), preprocessing, size)
    return hashlib.sha256(tensor.astype("<f4").tobytes()).hexdigest()


def golden_image() -> Pixels:
    """A ramp, a checkerboard and a pattern of every frequency as the channels of one image, in integer arithmetic."""
    rows, columns = np.mgrid[: GOLDEN_SIDES[0], : GOLDEN_SIDES[1]]
    ramp = rows + columns
    checks = (rows // 5 + columns // 7) % 2 * 255
    chirp = rows * rows * columns // 16
    return (np.stack((ramp, checks, chirp), axis=-1) % 256).astype(np.uint8)
