"""Every kind of large depthwise kernel that networks have, once at each size: what the shipped rules are measured on.

    edgekit tune benchmarks/kernel_zoo.py:build --format onnx --groups-only --save edgekit/tuning/rules/FILE.json

The rules for a runtime and an architecture are made by this command and the same for `parcnetv2_t`, into one file.
"""

import torch
from torch import Tensor, nn

from edgekit.kernel_group import KernelGroup, KernelStep, Pair, candidates
from edgekit.tune.probe import KernelNetwork

SIDE = 224


def same(height: int, width: int, stride: int = 1) -> KernelStep:
    """A zero-padded convolution that keeps the size of the map, or divides it."""
    return KernelStep(taps=(height, width), padding=(height // 2, width // 2), stride=(stride, stride))


def circular(side: int, axis: int) -> KernelStep:
    """A circular convolution along an axis, with as many taps as the axis has positions."""
    taps: Pair = (side, 1) if axis == 0 else (1, side)
    return KernelStep(taps=taps, wrap=(0, side - 1, 0, 0) if axis == 0 else (0, 0, 0, side - 1))


def groups() -> list[KernelGroup]:
    """The groups that can be written in several ways, with the width that networks have at each size."""
    found = []
    for channels, side in ((96, 56), (192, 28), (384, 14), (768, 7)):
        chains = [
            *(((same(taps, taps),),) for taps in (5, 7, 9, 11, 13)),  # MobileNet, ConvNeXt, UniRepLKNet
            ((same(2 * side - 1, 1), same(1, 2 * side - 1)),),  # ParCNetV2's oversized kernel by itself
            ((same(1, 11),),),  # InceptionNeXt
            ((circular(side, 0),),),  # ParC-Net, ParC-ConvNeXt
            ((circular(side, 0), circular(side, 1)),),
        ]
        found += [KernelGroup(channels=channels, size=(side, side), chains=each) for each in chains]
    for channels, side, taps in ((128, 56, 31), (256, 28, 29), (512, 14, 27), (1024, 7, 13)):  # RepLKNet-31B
        found.append(KernelGroup(channels=channels, size=(side, side), chains=((same(taps, taps),),)))
    for channels, side, taps in ((96, 56, 51), (192, 28, 49), (384, 14, 47)):  # SLaK
        cross = ((same(taps, 5),), (same(5, taps),), (same(5, 5),))
        found.append(KernelGroup(channels=channels, size=(side, side), chains=cross))
    for channels, side, taps in ((96, 56, 5), (192, 28, 5), (96, 56, 7), (192, 28, 7)):  # between stages
        found.append(KernelGroup(channels=channels, size=(side, side), chains=((same(taps, taps, stride=2),),)))
    return [group for group in found if len(candidates(group)) > 1]


class KernelZoo(nn.Module):
    """One test network for each group, side by side."""

    def __init__(self) -> None:
        super().__init__()
        self.sides = [group.size[0] for group in groups()]
        self.stems = nn.ModuleList(nn.Conv2d(3, group.channels, 1) for group in groups())
        self.networks = nn.ModuleList(KernelNetwork(group) for group in groups())

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, 224, 224) -> (N, groups)."""
        scores = []
        for side, stem, network in zip(self.sides, self.stems, self.networks, strict=True):
            small = nn.functional.avg_pool2d(x, SIDE // side)
            scores.append(network(stem(small)).mean((1, 2, 3)))
        return torch.stack(scores, dim=1)


def build() -> nn.Module:
    """The network, with seeded weights."""
    torch.manual_seed(0)
    return KernelZoo().eval()
