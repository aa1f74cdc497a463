"""A test network for a group: what the group stands between in a network, and nothing else.

    x -> 1x1 convolution -> ReLU -> group -> 1x1 convolution

The layers around it see to it that a form pays for the layout it needs: a runtime that keeps its maps in blocks or with
channels last has to bring them into order for a matrix product, and back.
"""

from typing import Any

import torch
from torch import Tensor, nn

from edgekit.artifact import Shape
from edgekit.capture import capture
from edgekit.kernel_group import KernelGroup, KernelStep
from edgekit.passes.base import Log
from edgekit.passes.lower.kernel_forms import KernelForms
from edgekit.program import Program, clone, finish

SEED = 0


class Step(nn.Module):
    """One depthwise convolution of a group, (N, C, H, W) -> (N, C, H', W')."""

    def __init__(self, channels: int, step: KernelStep) -> None:
        super().__init__()
        self.wrap = step.wrap
        options: dict[str, Any] = {name: getattr(step, name) for name in ("stride", "padding", "dilation", "bias")}
        self.conv = nn.Conv2d(channels, channels, step.taps, groups=channels, **options)

    def forward(self, x: Tensor) -> Tensor:
        convolved: Tensor = self.conv(wrapped(x, self.wrap))
        return convolved


def wrapped(x: Tensor, wrap: tuple[int, int, int, int]) -> Tensor:
    """A map with parts of itself around it, written as networks write that for one axis and for both."""
    above, below, left, right = wrap
    if any((above, below)) and any((left, right)):
        return nn.functional.pad(x, (left, right, above, below), mode="circular")
    for axis, before, after in ((2, above, below), (3, left, right)):
        parts = [x.narrow(axis, x.shape[axis] - before, before)] if before else []
        parts += [x, x.narrow(axis, 0, after)] if after else [x]
        x = torch.cat(parts, axis) if len(parts) > 1 else x
    return x


class KernelNetwork(nn.Module):
    """The test network of a group; with no chains, what is around it alone."""

    def __init__(self, group: KernelGroup) -> None:
        super().__init__()
        self.before = nn.Conv2d(group.channels, group.channels, 1)
        self.chains = nn.ModuleList(
            nn.Sequential(*(Step(group.channels, step) for step in chain)) for chain in group.chains
        )
        self.after = nn.Conv2d(group.channels, group.channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(1, C, H, W) -> (1, C, H', W')."""
        x = torch.relu(self.before(x))
        results = [chain(x) for chain in self.chains] or [x]
        for result in results[1:]:
            results[0] = results[0] + result
        after: Tensor = self.after(results[0])
        return after


def probe_shape(group: KernelGroup) -> Shape:
    """The input of a group's test network."""
    return (1, group.channels, *group.size)


def probe_program(group: KernelGroup) -> Program:
    """The test network of a group as trained, with seeded weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        return capture(KernelNetwork(group).eval(), probe_shape(group))


def in_form(program: Program, form: str) -> Program:
    """A test network with its group in another form."""
    rewritten = clone(program)
    KernelForms((form,))(rewritten, Log())
    return finish(rewritten)
