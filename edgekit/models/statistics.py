"""Batch norm statistics for a network with random weights.

Random running statistics fit no random network: layer after layer the signal shrinks under a variance that was never
measured, until the biases alone decide the output and no comparison sees a wrong weight. So the statistics are
measured, as training would have, on a few generated images, in float64; then each is moved a little at random, so that
no batch norm is the identity. They are rounded to three digits, far coarser than the last bits in which machines may
differ, so a seed gives the same network everywhere.
"""

import copy

import torch
from torch import Tensor, nn

from edgekit.reference import ReferenceArithmetic

JITTER = 0.1
"""How far a mean is moved, in standard deviations, and half the logarithmic range of a variance's factor."""

DIGITS = 3


def measure_batch_norms(model: nn.Module, images: Tensor, seed: int) -> int:
    """Sets the running statistics of every batch norm and gives back how many there are.

    Args:
        model: A network in evaluation mode with weights of any origin.
        images: (N, C, H, W) inputs, float32.
        seed: Decides how each statistic is moved.
    """
    norms = batch_norms(model)
    if not norms:
        return 0
    double = copy.deepcopy(model).double()
    for norm in batch_norms(double).values():
        norm.momentum = 1.0
        norm.train()
    with torch.no_grad(), ReferenceArithmetic():  # type: ignore[no-untyped-call]
        double(images.double())
    generator = torch.Generator().manual_seed(seed)
    for name, measured in batch_norms(double).items():
        mean, variance = measured.running_mean, measured.running_var
        assert mean is not None, "batch_norms gives only those that track statistics"  # noqa: S101
        assert variance is not None, "batch_norms gives only those that track statistics"  # noqa: S101
        shift, factor = torch.randn(2, len(mean), generator=generator, dtype=torch.float64) * JITTER
        norms[name].load_state_dict(
            {
                **norms[name].state_dict(),
                "running_mean": rounded(mean + shift * variance.sqrt()),
                "running_var": rounded(variance * factor.exp()),
            }
        )
    return len(norms)


def batch_norms(model: nn.Module) -> dict[str, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d]:
    """The batch norms that keep running statistics, by module path."""
    kinds = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, kinds) and module.track_running_stats
    }


def rounded(values: Tensor) -> Tensor:
    """Float64 values to `DIGITS` significant digits, as float32."""
    exponent = torch.floor(torch.log10(values.abs().clamp_min(torch.finfo(torch.float64).tiny)))
    unit = 10.0 ** (exponent - (DIGITS - 1))
    return (torch.round(values / unit) * unit).float()
