"""From a measurement to the entry of a table."""

from collections.abc import Mapping
from statistics import median

import numpy as np
from numpy.typing import NDArray

from edgekit.kernel_group import KernelGroup, candidates
from edgekit.numerics import compare_one
from edgekit.tune.artifacts import EMPTY, Contest
from edgekit.tune.measure import Measured
from edgekit.tune.race import cost, typical
from edgekit.tuning.tables import Entry, FormCost

RIGHT_DB = 100.0
"""A test network of three layers that is further from float64 than this computes something else."""


def refused(contest: Contest, measured: Measured) -> dict[str, str]:
    """The candidates that do not run, or whose outputs are not those of the group, with the reason."""
    found = {name: why_wrong(contest.expected[name], output) for name, output in measured.outputs.items()}
    wrong = {name: f"wrong: {reason}" for name, reason in found.items() if reason is not None}
    return {**contest.failures, **measured.failures, **wrong}


def why_wrong(expected: NDArray[np.float64], output: NDArray[np.float32], least_db: float = RIGHT_DB) -> str | None:
    """What is wrong with an answer, None where it is right."""
    try:
        snr_db = compare_one(expected, output).snr_db
    except ValueError as error:
        return str(error)
    return f"{snr_db:.1f} dB" if snr_db < least_db else None


def entry(group: KernelGroup, measured: Measured, refused: Mapping[str, str]) -> Entry | None:
    """What a measurement says of a group; None where no form can be used.

    Of forms that nothing tells apart the one with the smallest constants is chosen, as trained first.
    """
    ways = candidates(group)
    right = [name for name in ways if name in measured.costs and name not in refused]
    if not right or EMPTY not in measured.costs:
        return None
    fastest = [name for name in measured.fastest if name in right]
    fastest = fastest or [min(right, key=lambda name: typical(measured.costs[name]))]
    return Entry(
        group=group,
        empty=typical(measured.costs[EMPTY]),
        forms=tuple(form_cost(name, measured.costs[name], measured.costs[fastest[0]]) for name in right),
        chosen=min(fastest, key=lambda name: (ways[name].bytes, list(ways).index(name))),
        why="fastest" if len(fastest) == 1 else "equal",
        rounds=max(len(measured.costs[name]) for name in right),
    )


def form_cost(form: str, costs: list[float], leader: list[float]) -> FormCost:
    """What a form costs, with the lowest of its costs and their median."""
    return FormCost(form=form, cost=round(cost(costs, leader), 4), low=min(costs), high=median(costs))
