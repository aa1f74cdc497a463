"""A network of one convolution, written by hand in ncnn's format, and what it computes."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

CHANNELS, MAPS, SIDE = 3, 8, 24
PARAM = f"""\
7767517
2 2
Input in0 0 1 in0 0={SIDE} 1={SIDE} 2={CHANNELS}
Convolution layer 1 1 in0 out0 0={MAPS} 1=3 4=1 5=1 6={MAPS * CHANNELS * 9}
"""


def weights() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Kernel (out, in, 3, 3) and bias (out)."""
    draw = np.random.default_rng(7)
    kernel = draw.standard_normal((MAPS, CHANNELS, 3, 3), dtype=np.float32)
    return kernel, draw.standard_normal(MAPS, dtype=np.float32)


def image() -> NDArray[np.float32]:
    """An input (1, channels, side, side)."""
    return np.random.default_rng(8).standard_normal((1, CHANNELS, SIDE, SIDE), dtype=np.float32)


def write(folder: Path) -> tuple[Path, Path]:
    """The network's two files, the loadable one first."""
    kernel, bias = weights()
    (folder / "tiny.param").write_text(PARAM)
    (folder / "tiny.bin").write_bytes(bytes(4) + kernel.tobytes() + bias.tobytes())
    return folder / "tiny.param", folder / "tiny.bin"


def expected(source: NDArray[np.float32]) -> NDArray[np.float64]:
    """The output in float64."""
    kernel, bias = weights()
    padded = np.pad(source.astype(np.float64), ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
    result: NDArray[np.float64] = np.einsum("nchwij,ocij->nohw", windows, kernel.astype(np.float64))
    return result + bias.reshape(1, -1, 1, 1)
