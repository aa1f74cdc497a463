"""The ceiling of a machine: how fast any operator could be, measured in the runtimes themselves.

An operator cannot be faster than its MACs at the rate of the fastest large matrix product, nor faster than its bytes at
the bandwidth of the cache level that its data fits in (the roofline model, Williams et al. 2009, with one bandwidth for
each size of the working set). Ceilings hold for one number of threads, and for the minute they were measured in. An
algorithm that saves multiplications, such as Winograd's, can go beyond.
"""

from collections.abc import Mapping, Sequence
from importlib.metadata import version

from msgspec import structs

from edgekit.bench.ceiling_record import Bandwidth, Ceiling, ProductRate
from edgekit.bench.microbenchmarks import SIDES, WORKING_SETS, Kernel, kernels
from edgekit.bench.rounds import one_round
from edgekit.errors import EnvironmentProblemError

ROUNDS = 20
WARM_UP = 2
"""Rounds before those that count."""


def measure_ceiling(
    threads: int, rounds: int = ROUNDS, sides: tuple[int, ...] = SIDES, working_sets: tuple[int, ...] = WORKING_SETS
) -> Ceiling:
    """Measures the ceiling for this many threads; takes a few seconds.

    Raises:
        EnvironmentProblemError: ONNX Runtime, in which memory passes are run, is not installed.
    """
    made = kernels(threads, sides, working_sets)
    calls = {number: kernel.call for number, kernel in enumerate(made)}
    times = [one_round(calls) for _ in range(WARM_UP + rounds)][WARM_UP:]
    return conclude(threads, made, {number: [taken[number] for taken in times] for number in calls})


def higher(first: Ceiling, second: Ceiling) -> Ceiling:
    """The better of two measurements of one machine, kernel by kernel: what disturbs only ever lowers them."""
    return structs.replace(
        first,
        rounds=first.rounds + second.rounds,
        products=tuple(
            max(pair, key=lambda each: each.gmacs) for pair in zip(first.products, second.products, strict=True)
        ),
        bandwidths=tuple(
            max(pair, key=lambda each: each.gbytes) for pair in zip(first.bandwidths, second.bandwidths, strict=True)
        ),
    )


def conclude(threads: int, made: Sequence[Kernel], times: Mapping[int, Sequence[float]]) -> Ceiling:
    """The ceiling that follows from the times, in ms, of each kernel by its place.

    Raises:
        EnvironmentProblemError: There is no product or no memory pass among the kernels.
    """
    # 10^9 per second is 10^6 per millisecond.
    rates = [(kernel, 1e-6 * kernel.work / min(times[number])) for number, kernel in enumerate(made)]
    products = tuple(
        ProductRate(
            runtime=kernel.runtime,
            precision=kernel.precision,
            computes_in=kernel.computes_in,
            side=kernel.size,
            gmacs=rate,
        )
        for kernel, rate in rates
        if kernel.precision
    )
    bandwidths = tuple(
        Bandwidth(runtime=kernel.runtime, size=kernel.size, gbytes=rate)
        for kernel, rate in rates
        if not kernel.precision
    )
    if not products or not bandwidths:
        raise EnvironmentProblemError(
            "The machine's ceiling is measured in ONNX Runtime, which is not installed. Run: pip install edgekit"
        )
    return Ceiling(
        threads=threads,
        rounds=len(times[0]),
        products=products,
        bandwidths=bandwidths,
        versions={name: version(name) for name in sorted({kernel.runtime for kernel in made})},
    )
