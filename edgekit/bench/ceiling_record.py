"""The ceiling of a machine, as it was measured: rates of products, bandwidths, and what an operator takes at best."""

import math

import numpy as np
from msgspec import Struct


class ProductRate(Struct, frozen=True, kw_only=True):
    """The rate of one matrix product: where, in which kernel, at which side, in 10^9 MACs per second."""

    runtime: str
    precision: str
    computes_in: str
    side: int
    gmacs: float


class Bandwidth(Struct, frozen=True, kw_only=True):
    """Bytes read and written per second, in 10^9, by passes over a tensor of `size` bytes."""

    runtime: str
    size: int
    gbytes: float


class Ceiling(Struct, frozen=True, kw_only=True):
    """What a machine can do at most on this many threads; minima of so many rounds, all kernels taking turns."""

    threads: int
    rounds: int
    products: tuple[ProductRate, ...]
    bandwidths: tuple[Bandwidth, ...]
    versions: dict[str, str]

    def gmacs(self, precision: str) -> float:
        """The best rate of any runtime, in 10^9 MACs per second; without one in int8, that of float32."""
        rates = [each.gmacs for each in self.products if each.precision == precision]
        return max(rates or [each.gmacs for each in self.products])

    def gbytes(self, size: int) -> float:
        """The bandwidth to a working set of `size` bytes, in 10^9 bytes per second, between those measured."""
        known = sorted((each.size, each.gbytes) for each in self.bandwidths)
        sizes, rates = zip(*known, strict=True)
        return float(np.interp(math.log2(max(size, 1)), np.log2(sizes), rates))

    def fastest_ms(self, macs: int, size: int, precision: str = "fp32") -> float:
        """The least time, in ms, for an operator of so many MACs that reads and writes `size` bytes in all."""
        return 1e-6 * max(macs / self.gmacs(precision), size / self.gbytes(size))
