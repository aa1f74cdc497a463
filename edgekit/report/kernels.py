"""The network's large kernels, as small pictures."""

from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edgekit.kernel_file import KernelPicture
from edgekit.report.document import Block, Fold, Picture, Pictures, Section, Text
from edgekit.report.gather import Facts
from edgekit.report.wording import plural

USUAL = 7
"""Taps that many networks have; what has more is shown first."""

RED, BLUE = (226, 58, 48), (62, 112, 240)


def section(facts: Facts) -> Section:
    """The section; a network may have no large kernels."""
    blocks: list[Block] = []
    for bundle in facts.bundles:
        title = f"Kernels of {bundle.name}" if facts.several else "Kernels"
        over = [each for each in bundle.kernels if max(each.label.taps) > USUAL]
        usual = [each for each in bundle.kernels if max(each.label.taps) <= USUAL]
        if over:
            blocks.append(Pictures(title, tuple(map(_row, over))))
        if usual:
            name = f"{title} with {USUAL} × {USUAL} taps: {len(usual)}"
            blocks.append(Fold(name, (Pictures(name, tuple(map(_row, usual))),)))
        if not bundle.kernels:
            blocks.append(Text(f"{bundle.name} has no depthwise kernel of {USUAL} taps or more."))
    lead = (
        "What each oversized kernel looks at: red is positive, blue negative, and every tile has its own scale. The "
        "first channels are shown; a pair of a column and a row is shown as the square it amounts to."
    )
    return Section("kernels", "Large kernels", lead, tuple(blocks))


def _row(picture: KernelPicture) -> Picture:
    label = picture.label
    kind = "column and row, " if label.separable else ""
    note = f"{label.taps[0]} × {label.taps[1]}, {kind}{plural(label.channels, 'channel')}"
    return Picture(label.module, note, tuple(png(tile) for tile in picture.tiles))


def png(tile: NDArray[np.int8]) -> bytes:
    """One kernel (H, W) as a PNG whose zeros let the page shine through."""
    strengths = np.arange(256) - 128
    colours = [RED if strength > 0 else BLUE for strength in strengths]
    image = Image.fromarray((tile.astype(np.int16) + 128).astype(np.uint8), mode="P")
    image.putpalette([part for colour in colours for part in colour])
    content = BytesIO()
    opacity = bytes(min(255, 2 * abs(int(strength))) for strength in strengths)
    image.save(content, format="PNG", transparency=opacity, optimize=True)
    return content.getvalue()
