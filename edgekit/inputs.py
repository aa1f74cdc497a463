"""The inputs a network is compared on: seeded ones that excite everything, structured ones that look for trouble.

All of them live in the network's input domain, after preprocessing: about zero mean, about unit variance.
"""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from edgekit.artifact import Shape, TensorSpec

Image = NDArray[np.float32]
Images = tuple[Image, ...]

SEED = 20_240


def noise(shape: Shape, index: int = 0) -> Image:
    """White noise: every frequency and every pixel, nothing like an image."""
    return np.random.default_rng(SEED + 2 * index).standard_normal(shape).astype(np.float32)


def natural(shape: Shape, index: int = 0) -> Image:
    """Noise with the 1/f amplitude spectrum of photographs, unit variance."""
    generator = np.random.default_rng(SEED + 2 * index + 1)
    height, width = shape[-2:]
    rows, columns = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :]
    frequency = np.maximum(np.hypot(rows, columns), 1.0 / max(height, width))
    spectrum = np.fft.rfft2(generator.standard_normal(shape)) / frequency
    image = np.fft.irfft2(spectrum, s=(height, width))
    standard = (image - image.mean()) / max(float(image.std()), 1e-12)
    return np.asarray(standard, dtype=np.float32)


def edges(shape: Shape, index: int = 0) -> Image:
    """A ramp, a checkerboard and one bright pixel in each corner: borders and padding show here."""
    rows, columns = np.indices(shape[-2:])
    ramp = 2.0 * columns / max(shape[-1] - 1, 1) - 1.0
    checks = np.where((rows // 8 + columns // 8) % 2 == 0, 1.0, -1.0)
    image = np.broadcast_to(0.5 * ramp + checks, shape).copy()
    image[..., (0, 0, -1, -1), (0, -1, 0, -1)] = 4.0
    return np.roll(image, index, axis=-1).astype(np.float32)


def flat(shape: Shape, index: int = 0) -> Image:  # noqa: ARG001 - nothing tells zeros apart
    """All zero, the mean image: norms divide by nearly nothing."""
    return np.zeros(shape, dtype=np.float32)


CASES: Mapping[str, Callable[[Shape, int], Image]] = MappingProxyType(
    {"noise": noise, "natural": natural, "edges": edges, "flat": flat}
)
"""Name to generator, in the order in which they are compared."""

CONSTANT_CASES = frozenset({"flat"})
"""Cases that are the same everywhere: the rounding error of one pixel is that of all pixels, nothing averages it out,
and how large it is in one runtime says little about another. They are held to the floor of the gate only."""

PROBES = ("natural", "edges")
"""The cases on which every pass is proved; an artifact is verified on all of them."""


def generate(specs: Sequence[TensorSpec]) -> dict[str, Images]:
    """Every case for a network's inputs, the same values every time and others for each input.

    Inputs of another rank than an image's are one column of pixels, or a row of them.
    """
    return {
        name: tuple(make(as_image(spec.shape), index).reshape(spec.shape) for index, spec in enumerate(specs))
        for name, make in CASES.items()
    }


def as_image(shape: Shape) -> Shape:
    """A shape of two dimensions or more: a vector becomes a row."""
    return shape if len(shape) > 1 else (1, *shape) if shape else (1, 1)
