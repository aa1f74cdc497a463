"""What the twenty classes of `patterns` look like, as functions of coordinates.

Coordinates x and y are float64 maps, H x W, in pixels around the pattern's centre and turned with it. A texture fills
the plane; a shape covers |x|, |y| of about `size`. Both give ink between 0 and 1.

Only sums, products, quotients, roots, comparisons and floors occur: IEEE 754 rounds these the same way everywhere,
which it does not ask of sines, so that an image has the same bytes on every processor and with every numpy.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

Map = NDArray[np.float64]

Pattern = Callable[[Map, Map, float], Map]
"""x, y, and the size of a shape or the wavelength of a texture, both in pixels -> ink."""


def wave(distance: Map, wavelength: float) -> Map:
    """A triangle wave between 0 and 1."""
    turns = distance / wavelength
    return np.asarray(np.abs(turns - np.floor(turns + 0.5)) * 2)


def from_line(distance: Map, spacing: float) -> Map:
    """Distance from the nearest of evenly spaced lines, with its sign."""
    return distance - spacing * np.floor(distance / spacing + 0.5)


def inside(distance: Map) -> Map:
    """1 where a signed distance in pixels is below 0, with an edge one pixel soft."""
    return np.clip(0.5 - distance, 0.0, 1.0)


def square_distance(x: Map, y: Map) -> Map:
    """Distance from the centre by which squares are drawn."""
    return np.maximum(np.abs(x), np.abs(y))


def diamond_distance(x: Map, y: Map) -> Map:
    """Distance from the centre by which squares on their corners are drawn."""
    return (np.abs(x) + np.abs(y)) * 0.75


def radius(x: Map, y: Map) -> Map:
    """Distance from the centre."""
    return np.sqrt(x * x + y * y)


def sharpened(ink: Map) -> Map:
    """Ink pulled towards 0 and 1, so that textures have contrast."""
    return np.clip(ink * 2 - 0.5, 0.0, 1.0)


def stripes(x: Map, y: Map, size: float) -> Map:  # noqa: ARG001 - every pattern takes both
    """Bars across y."""
    return sharpened(wave(y, size))


def checkerboard(x: Map, y: Map, size: float) -> Map:
    """Squares of two kinds in turn."""
    return np.where((wave(x, 1.5 * size) > 0.5) == (wave(y, 1.5 * size) > 0.5), 1.0, 0.0)


def dots(x: Map, y: Map, size: float) -> Map:
    """Discs on a square grid."""
    return inside(radius(from_line(x, size), from_line(y, size)) - 0.3 * size)


def rings(x: Map, y: Map, size: float) -> Map:
    """Rings around one centre."""
    return sharpened(wave(radius(x, y), size))


def zigzag(x: Map, y: Map, size: float) -> Map:
    """Bars that go up and down."""
    return sharpened(wave(y + size * wave(x, 2 * size), size))


def bricks(x: Map, y: Map, size: float) -> Map:
    """Courses of bricks, every other one shifted by half a brick."""
    shift = np.where(np.floor(y / size) % 2 == 0, 0.0, size)
    joints = np.minimum(wave(y, size) * size, wave(x + shift, 2 * size) * 2 * size)
    return 1.0 - inside(joints - 1.5)


def lattice(x: Map, y: Map, size: float) -> Map:
    """Thin lines both ways."""
    return inside(np.minimum(wave(x, size), wave(y, size)) * size / 2 - 1.0)


def disc(x: Map, y: Map, size: float) -> Map:
    """A filled circle."""
    return inside(radius(x, y) - size)


def ring(x: Map, y: Map, size: float) -> Map:
    """A circle's outline."""
    return inside(np.abs(radius(x, y) - 0.8 * size) - 0.22 * size)


def square(x: Map, y: Map, size: float) -> Map:
    """A filled square."""
    return inside(square_distance(x, y) - 0.9 * size)


def frame(x: Map, y: Map, size: float) -> Map:
    """A square's outline."""
    return inside(np.abs(square_distance(x, y) - 0.75 * size) - 0.2 * size)


def diamond(x: Map, y: Map, size: float) -> Map:
    """A filled square on its corner."""
    return inside(diamond_distance(x, y) - 0.9 * size)


def triangle(x: Map, y: Map, size: float) -> Map:
    """A filled triangle, one corner up."""
    return inside(np.maximum(y - 0.7 * size, 1.6 * np.abs(x) * 0.53 - y * 0.53 - 0.45 * size))


def plus(x: Map, y: Map, size: float) -> Map:
    """Two bars, one level."""
    arms = np.minimum(np.abs(x), np.abs(y)) - 0.28 * size
    return inside(np.maximum(arms, square_distance(x, y) - size))


def saltire(x: Map, y: Map, size: float) -> Map:
    """A plus turned by 45 degrees."""
    return plus((x - y) * 0.7071, (x + y) * 0.7071, size)


def crescent(x: Map, y: Map, size: float) -> Map:
    """A disc with a bite of a smaller disc."""
    return inside(np.maximum(radius(x, y) - size, 0.85 * size - radius(x - 0.5 * size, y)))


def half_disc(x: Map, y: Map, size: float) -> Map:
    """The upper half of a disc."""
    return inside(np.maximum(radius(x, y - 0.4 * size) - size, y - 0.4 * size))


TEXTURES: Mapping[str, tuple[Pattern, float]] = MappingProxyType(
    {
        "stripes_0": (stripes, 0.0),
        "stripes_45": (stripes, 1.0),
        "stripes_90": (stripes, 2.0),
        "stripes_135": (stripes, 3.0),
        "checkerboard": (checkerboard, 0.0),
        "dots": (dots, 0.0),
        "rings": (rings, 0.0),
        "zigzag": (zigzag, 0.0),
        "bricks": (bricks, 0.0),
        "lattice": (lattice, 0.0),
    }
)
"""Name to what fills the plane, and by how many eighths of a full turn it is turned."""

SHAPES: Mapping[str, Pattern] = MappingProxyType(
    {
        "disc": disc,
        "ring": ring,
        "square": square,
        "frame": frame,
        "diamond": diamond,
        "triangle": triangle,
        "plus": plus,
        "saltire": saltire,
        "crescent": crescent,
        "half_disc": half_disc,
    }
)
"""Name to what stands somewhere in the image."""

CLASSES = (*TEXTURES, *SHAPES)
