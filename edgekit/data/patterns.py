"""Generated images, 64x64, of twenty classes: ten textures and ten shapes under noise, clutter and bad light.

An image is a function of the split and its index alone, so any number of them needs no memory, and the first images of
a larger set are those of a smaller one. Where, how large, how turned, in which colours and how clearly a pattern stands
is drawn from Philox, whose stream numpy guarantees never to change; the arithmetic behind it rounds the same
everywhere (see `pattern_classes`).
"""

import hashlib
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgekit.data.dataset import Pixels, Split
from edgekit.data.pattern_classes import CLASSES, SHAPES, TEXTURES, Map, inside, radius
from edgekit.errors import DataError

SIDE = 64
COUNT = 2_000
MOST = 10_000_000

VERSION = 1
"""Changes when the same index gives another image."""

STREAMS = {"test": 0, "train": 1}


class Draw:
    """Uniform random numbers in [0, 1) for one image."""

    def __init__(self, split: Split, index: int) -> None:
        self._bits = np.random.Philox(key=np.array([STREAMS[split], index], dtype=np.uint64))

    def array(self, *shape: int) -> Map:
        """An array of them, 53 bits each."""
        raw = np.asarray(self._bits.random_raw(int(np.prod(shape))), dtype=np.uint64)
        return (raw >> np.uint64(11)).astype(np.float64).reshape(shape) * 2.0**-53

    def between(self, low: float, high: float) -> float:
        """One number between two others."""
        return low + (high - low) * float(self.array(1)[0])


@dataclass(frozen=True, slots=True)
class Grid:
    """Coordinates of every pixel, in pixels from the corner; H x W each."""

    x: Map
    y: Map

    def around(self, x: float, y: float, tangent: float = 0.0) -> tuple[Map, Map]:
        """Coordinates from another origin, turned by twice the angle of a tangent: exact, as a cosine is not."""
        scale = 1 + tangent * tangent
        cosine, sine = (1 - tangent * tangent) / scale, 2 * tangent / scale
        dx, dy = self.x - x, self.y - y
        return cosine * dx + sine * dy, cosine * dy - sine * dx


GRID = Grid(*(axis.astype(np.float64) for axis in np.meshgrid(np.arange(SIDE), np.arange(SIDE))))

EASY_GROUND = 0.35
"""Grey of the background where nothing makes an image hard."""

HALF = math.sqrt(0.5)
"""Sine and cosine of 45 degrees."""


class Patterns:
    """The first images of one split.

    Args:
        split: No image is in both.
        count: How many.
        hardness: Share that is kept of noise, clutter and bad light; below 1 to begin a training with.

    Raises:
        DataError: A number that cannot be indexed.
    """

    name = "patterns"
    classes = CLASSES

    def __init__(self, split: Split, count: int = COUNT, hardness: float = 1.0) -> None:
        if not 1 <= count <= MOST:
            raise DataError(f"patterns:{count} is out of range. Give 1 to {MOST:,} images.")
        self._split: Split = split
        self._count, self._hardness = count, hardness

    @property
    def digest(self) -> str:
        return hashlib.sha256(f"patterns {VERSION} {self._split} {self._count} {self._hardness}".encode()).hexdigest()

    def __len__(self) -> int:
        return self._count

    def image(self, index: int) -> Pixels:
        return draw_image(Draw(self._split, check_index(index, self._count)), self.label(index), self._hardness)

    def label(self, index: int) -> int:
        # Every twenty images have every class once, and no stride through them meets one class only.
        return (7 * index + index // len(CLASSES)) % len(CLASSES)

    def title(self, index: int) -> str:
        return f"patterns/{index}"


def check_index(index: int, count: int) -> int:
    """The index of an image that there is.

    Raises:
        IndexError: There is none.
    """
    if not 0 <= index < count:
        raise IndexError(f"image {index} of {count}")
    return index


def draw_image(draw: Draw, label: int, hardness: float) -> Pixels:
    """One image of a class."""
    ease = 1 - hardness
    ground = ease * EASY_GROUND + hardness * background(draw)
    ink = pattern(draw, CLASSES[label])[:, :, None]
    light = (ease + hardness * draw.between(0.35, 1.0)) * contrast_colour(draw, ground[SIDE // 2, SIDE // 2])
    scene = ground + ink * light
    noise = draw.between(0.05, 0.3) * (draw.array(SIDE, SIDE, 3) + draw.array(SIDE, SIDE, 3) - 1)
    return np.floor(np.clip(scene + hardness * noise, 0.0, 1.0) * 255 + 0.5).astype(np.uint8)


def background(draw: Draw) -> NDArray[np.float64]:
    """A slope between two colours with blobs and bars on it, H x W x 3."""
    first, second = 0.2 + 0.6 * draw.array(3), 0.2 + 0.6 * draw.array(3)
    along, _ = GRID.around(SIDE / 2, SIDE / 2, draw.between(-1, 1))
    mixed = np.clip(along / (1.4 * SIDE) + 0.5, 0.0, 1.0)[:, :, None]
    scene = first + (second - first) * mixed
    for _ in range(4):
        scene += clutter(draw)[:, :, None] * (draw.array(3) - 0.5) * 0.6
    return scene


def clutter(draw: Draw) -> Map:
    """A small ellipse or a thin bar somewhere."""
    x, y = GRID.around(draw.between(0, SIDE), draw.between(0, SIDE), draw.between(-1, 1))
    if draw.between(0, 1) < 0.5:
        return inside(radius(x, y * draw.between(1, 2)) - draw.between(2, 6))
    return inside(np.maximum(np.abs(x) - draw.between(5, 25), np.abs(y) - draw.between(0.5, 1.5)))


def contrast_colour(draw: Draw, ground: NDArray[np.float64]) -> NDArray[np.float64]:
    """By how much ink changes each channel: away from what the background is in the middle."""
    direction = np.where(ground < 0.5, 1.0, -1.0)
    return 0.5 * direction * (0.2 + 0.8 * draw.array(3))


def pattern(draw: Draw, name: str) -> Map:
    """The ink of a pattern at a place, size and angle of its own."""
    tilt = draw.between(-0.1, 0.1)
    x, y = GRID.around(draw.between(20, SIDE - 20), draw.between(20, SIDE - 20), tilt)
    if name in SHAPES:
        return SHAPES[name](x, y, draw.between(8, 17))
    texture, eighths = TEXTURES[name]
    window = inside((radius(x, y) - draw.between(16, 26)) / 4)
    for _ in range(int(eighths)):
        x, y = turned(x, y)
    return texture(x + draw.between(0, 8), y + draw.between(0, 8), draw.between(6, 11)) * window


def turned(x: Map, y: Map) -> tuple[Map, Map]:
    """Coordinates turned by 45 degrees."""
    return HALF * (x + y), HALF * (y - x)
