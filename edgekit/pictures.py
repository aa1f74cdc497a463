"""Pictures of large kernels: what each of them looks at.

One row per convolution, one tile per channel. A separable pair, (K, 1) then (1, K), is shown as the two-dimensional
kernel it amounts to, the outer product of its halves. Red is positive, blue negative, white zero; every tile has its
own scale.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor
from torch.fx import Node
from torch.nn.functional import adaptive_avg_pool2d

from edgekit.inspection import is_depthwise, large_kernels
from edgekit.kernel_file import KernelLabel, KernelPicture
from edgekit.program import Program, arguments, constant, module_path

TILE = 56
GAP = 4
LABEL_HEIGHT = 14
CHANNELS_SHOWN = 16
CHANNELS_KEPT = 8
"""Channels of each kernel in a bundle."""


def kernel_sheet(program: Program, path: Path) -> int:
    """Draws every large depthwise kernel into one PNG and gives back how many rows it has."""
    rows = kernel_rows(program)
    width = GAP + CHANNELS_SHOWN * (TILE + GAP)
    height = GAP + max(len(rows), 1) * (LABEL_HEIGHT + TILE + GAP)
    sheet = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(sheet)
    for index, (label, kernels) in enumerate(rows):
        top = GAP + index * (LABEL_HEIGHT + TILE + GAP)
        draw.text((GAP, top), label, fill="black")
        for channel, kernel in enumerate(kernels[:CHANNELS_SHOWN]):
            left = GAP + channel * (TILE + GAP)
            sheet.paste(tile(kernel), (left, top + LABEL_HEIGHT))
            draw.rectangle((left - 1, top + LABEL_HEIGHT - 1, left + TILE, top + LABEL_HEIGHT + TILE), outline="#999")
    sheet.save(path, format="PNG")
    return len(rows)


def kernel_rows(program: Program) -> list[tuple[str, Tensor]]:
    """Label and kernels (C, Kh, Kw) of each row."""
    return [(label_text(label), kernels) for label, kernels in shown_kernels(program)]


def label_text(label: KernelLabel) -> str:
    """A row's label in words."""
    size = f"{label.taps[0]}x{label.taps[1]}"
    return f"{label.module}  {size}{' separable' if label.separable else ''}, {label.channels} channels"


def kernel_pictures(program: Program) -> list[KernelPicture]:
    """Every large depthwise kernel as a small picture, for a report."""
    return [KernelPicture(label, small(kernels[:CHANNELS_KEPT])) for label, kernels in shown_kernels(program)]


def small(kernels: Tensor) -> NDArray[np.int8]:
    """Kernels (C, Kh, Kw) of at most `TILE` pixels a side, each scaled to its own largest magnitude."""
    height, width = (min(side, TILE) for side in kernels.shape[1:])
    values = adaptive_avg_pool2d(kernels.double(), (height, width))
    largest = values.abs().amax(dim=(1, 2), keepdim=True).clamp_min(1e-30)
    pixels: NDArray[np.int8] = (127 * values / largest).round().to(torch.int8).numpy()
    return pixels


def shown_kernels(program: Program) -> Iterator[tuple[KernelLabel, Tensor]]:
    """What each large kernel is, and its values (C, Kh, Kw); the second half of a separable pair is in the first."""
    shown: set[Node] = set()
    for node in large_kernels(program):
        if node in shown:
            continue
        kernel, partner = _kernel(program, node), separable_partner(program, node)
        if partner is not None:
            shown.add(partner)
            kernel = torch.einsum("chx,cyw->chw", kernel, _kernel(program, partner))
        taps = int(kernel.shape[1]), int(kernel.shape[2])
        path, channels = module_path(node), len(kernel)
        yield KernelLabel(module=path, taps=taps, channels=channels, separable=partner is not None), kernel


def separable_partner(program: Program, node: Node) -> Node | None:
    """The (1, K) convolution that is the only reader of a (K, 1) convolution's output."""
    users = list(node.users)
    if len(users) != 1 or not is_depthwise(program, users[0]):
        return None
    first, second = _kernel(program, node), _kernel(program, users[0])
    return users[0] if first.shape[2] == 1 and second.shape[1] == 1 else None


def _kernel(program: Program, node: Node) -> Tensor:
    """(C, 1, Kh, Kw) weights as (C, Kh, Kw)."""
    weight = constant(program, arguments(node)["weight"])
    assert weight is not None  # noqa: S101 - only depthwise convolutions with constant kernels get here
    return weight[:, 0]


def tile(kernel: Tensor) -> Image.Image:
    """One kernel (Kh, Kw) as a square picture."""
    values: NDArray[np.float64] = kernel.double().numpy()
    scaled = values / max(float(np.abs(values).max()), 1e-30)
    fade = np.round(255 * (1.0 - np.abs(scaled))).astype(np.uint8)
    full = np.full_like(fade, 255)
    red, blue = np.where(scaled >= 0, full, fade), np.where(scaled >= 0, fade, full)
    picture = Image.fromarray(np.stack([red, fade, blue], axis=-1))
    return picture.resize((TILE, TILE), Image.Resampling.BOX)
