"""Groups of depthwise convolutions for tests: at least one of every kind, on maps small enough to be quick."""

from collections.abc import Mapping

from edgekit.kernel_group import KernelGroup, KernelStep, Pair

CHANNELS = 4
SIZE: Pair = (9, 7)


def group(*chains: tuple[KernelStep, ...], size: Pair = SIZE, channels: int = CHANNELS) -> KernelGroup:
    return KernelGroup(channels=channels, size=size, chains=chains)


def same(height: int, width: int, *, bias: bool = False, dilation: int = 1) -> KernelStep:
    """A zero-padded convolution that keeps the size of the map."""
    padding = (dilation * (height // 2), dilation * (width // 2))
    return KernelStep(taps=(height, width), padding=padding, dilation=(dilation, dilation), bias=bias)


def circular(axis: int, side: int, *, bias: bool = False) -> KernelStep:
    """ParC's operator: as many taps as the axis has positions, and all of the axis but one repeated behind it."""
    taps, wrap = ((side, 1), (0, side - 1, 0, 0)) if axis == 0 else ((1, side), (0, 0, 0, side - 1))
    return KernelStep(taps=taps, wrap=wrap, bias=bias)


TORUS = KernelStep(taps=(5, 3), wrap=(2, 2, 1, 1), bias=True)
"""Circular along both axes."""

GROUPS: Mapping[str, KernelGroup] = {
    "row": group((same(1, 13, bias=True),)),
    "column": group((same(17, 1),)),
    "strided row": group((KernelStep(taps=(1, 11), padding=(0, 5), stride=(1, 2)),)),
    "dilated column": group((same(11, 1, dilation=2, bias=True),)),
    "plane": group((same(7, 7, bias=True),)),
    "smaller plane": group((same(5, 5),)),
    "wide plane": group((same(5, 13),)),
    "huge plane": group((same(17, 13, bias=True),)),
    "strided plane": group((KernelStep(taps=(7, 7), padding=(3, 3), stride=(2, 2), bias=True),)),
    "unpadded plane": group((KernelStep(taps=(7, 5), bias=True),)),
    "dilated plane": group((KernelStep(taps=(7, 7), padding=(9, 9), dilation=(3, 3)),)),
    "even plane": group((KernelStep(taps=(6, 6), padding=(3, 3)),)),
    "pair": group((same(17, 1), same(1, 13))),
    "pair with biases": group((same(17, 1, bias=True), same(1, 13, bias=True))),
    "pair with a last bias": group((same(1, 13), same(17, 1, bias=True))),
    "pair and local": group((same(17, 1), same(1, 13, bias=True)), (same(7, 7, bias=True),)),
    "dilated pair and local": group((same(7, 1, dilation=2), same(1, 7)), (same(5, 5),)),
    "local and row": group((same(7, 7),), (same(1, 13, bias=True),)),
    "cross": group((same(15, 5),), (same(5, 15),), (same(5, 5),)),
    "row after row": group((same(1, 13), same(1, 5))),
    "plane after plane": group((same(7, 7), same(3, 3))),
    "circular row": group((circular(1, 7),)),
    "circular column": group((circular(0, 9, bias=True),)),
    "circular pair": group((circular(0, 9), circular(1, 7, bias=True))),
    "circular from both ends": group((KernelStep(taps=(5, 1), wrap=(2, 2, 0, 0)),)),
    "circular from before": group((KernelStep(taps=(1, 7), wrap=(0, 0, 6, 0), bias=True),)),
    "torus": group((TORUS,)),
}
"""Kinds of groups by name."""

MIXER = """
import torch
from torch import nn

class Mixer(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, 2, 1)
        self.row = nn.Conv2d(8, 8, (1, 31), padding=(0, 15), groups=8, bias=False)
        self.column = nn.Conv2d(8, 8, (31, 1), padding=(15, 0), groups=8)
        self.head = nn.Linear(8, 5)

    def forward(self, x):
        x = torch.relu(self.stem(x))
        x = torch.relu(self.column(self.row(x)))
        return self.head(x.mean((2, 3)))

def build():
    torch.manual_seed(0)
    return Mixer().eval(), torch.zeros(1, 3, 32, 32)
"""
"""A network of a user's own with one oversized pair, quick to write in every form."""

MIXED = KernelGroup(channels=8, size=(16, 16), chains=((same(1, 31), same(31, 1, bias=True)),))
"""Its group."""
