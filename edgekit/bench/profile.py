"""Where the time of an artifact goes: each operator's time, its module and work, and how far it is from the ceiling.

Times are medians over the runs, so their sum may differ from the latency: a disturbance that hits a few operators in
every run moves the latency and no median. What runs take beyond their operators is a row of its own.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from edgekit.bench.ceiling_record import Ceiling
from edgekit.bench.claims import Claim, claims
from edgekit.bench.profile_record import ArtifactProfile, OperatorRow
from edgekit.filegraph import read_graph
from edgekit.filegraph.base import FileGraph
from edgekit.runners import load
from edgekit.runners.base import PROFILE_WARM_UP, OperatorTime, Profile, milliseconds

UNMAPPED = "(not tied to the file)"
OUTSIDE = "(outside of operators)"
OUTERMOST = "(outermost)"

_INT8 = re.compile(r"[iIuU]8\b|QLinear|Integer|\bQ[A-Z]8")
"""Kernels that compute in 8-bit integers, by what OpenVINO, ONNX Runtime and XNNPACK call them."""


class SumRow(Struct, frozen=True, kw_only=True):
    """Several operators together: their times, MACs and times at the ceiling added up."""

    name: str
    operators: int
    ms: float
    macs: int
    fastest_ms: float


@dataclass(frozen=True, slots=True)
class Measured:
    """An artifact's profile as it came from the runtime, the times of runs without it, and the file as a graph."""

    artifact: str
    runtime: str
    unmeasured: Sequence[float]
    profile: Profile
    graph: FileGraph


def measure_artifact(
    path: Path, runtime: str, inputs: Mapping[str, NDArray[np.float32]], runs: int, threads: int
) -> Measured:
    """Runs a file with and without the runtime's profiler.

    Raises:
        ArtifactError: The runtime does not load the file.
        EnvironmentProblemError: Its profiler cannot be read.
        MisuseError: The inputs are not the artifact's.
    """
    before = (runs + 1) // 2
    with load(runtime, path, threads) as runner:
        unmeasured = _timed(lambda: runner.run(inputs), before)
        profile = runner.profile(inputs, runs)
        unmeasured += _timed(lambda: runner.run(inputs), max(1, runs - before))
    return Measured(path.name, runtime, unmeasured, profile, read_graph(runtime, path))


def assess(measured: Measured, ceiling: Ceiling) -> ArtifactProfile:
    """Ties a profile to the file, and compares it with the ceiling for the same number of threads."""
    return ArtifactProfile(
        artifact=measured.artifact,
        runtime=measured.runtime,
        runs=len(measured.unmeasured),
        latency_ms=median(measured.unmeasured),
        fastest_ms=min(measured.unmeasured),
        profiled_ms=median(measured.profile.times),
        inside=_inside(measured.profile),
        ceiling=ceiling,
        operators=operator_rows(measured.runtime, measured.profile.operators, measured.graph, ceiling),
    )


def _timed(run: Callable[[], object], runs: int) -> list[float]:
    """Milliseconds of so many runs, after some to warm up."""
    return [milliseconds(run) for _ in range(PROFILE_WARM_UP + runs)][PROFILE_WARM_UP:]


def _inside(measured: Profile) -> float:
    """Share of a run that its operators take."""
    sums = [sum(times) for times in zip(*(operator.times for operator in measured.operators), strict=True)]
    return median(inside / whole for inside, whole in zip(sums, measured.times, strict=True)) if sums else 0.0


def operator_rows(
    runtime: str, operators: Sequence[OperatorTime], graph: FileGraph, ceiling: Ceiling
) -> tuple[OperatorRow, ...]:
    """A row for each operator of a runtime's profile, in its order."""
    found = claims(runtime, operators, graph)
    return tuple(_row(operator, claim, graph, ceiling) for operator, claim in zip(operators, found, strict=True))


def _row(operator: OperatorTime, claim: Claim, graph: FileGraph, ceiling: Ceiling) -> OperatorRow:
    macs = sum(graph.nodes[name].macs for name in claim.nodes)
    moved = _moved(claim, graph)
    precision = "int8" if _INT8.search(operator.kind) else "fp32"
    return OperatorRow(
        name=operator.name,
        kind=operator.kind,
        module=_module(claim, graph),
        nodes=claim.nodes,
        ms=median(operator.times),
        macs=macs,
        bytes=moved,
        fastest_ms=ceiling.fastest_ms(macs, moved, precision),
    )


def _moved(claim: Claim, graph: FileGraph) -> int:
    """Bytes an operator reads and writes; a change of layout reads and writes the result it stands beside."""
    if claim.nodes:
        return graph.traffic(claim.nodes)
    results = graph.nodes[claim.beside].results if claim.beside else ()
    return 2 * sum(graph.sizes.get(result, 0) for result in results)


def _module(claim: Claim, graph: FileGraph) -> str:
    """Of the nodes that know their module, that of the one with most MACs, the first of several."""
    names = claim.nodes or ((claim.beside,) if claim.beside else ())
    if not names:
        return UNMAPPED
    known = [node for node in (_nearest(name, graph) for name in names) if node is not None]
    return max(known, key=lambda pair: pair[0])[1] or OUTERMOST if known else UNMAPPED


def _nearest(name: str, graph: FileGraph) -> tuple[int, str] | None:
    """MACs of a node and its module; a node without one, made by a converter, is counted to what it reads."""
    node = graph.nodes[name]
    visited = {name}
    origin = node
    while origin.module is None:
        givers = [graph.producers[tensor] for tensor in origin.operands if tensor in graph.producers]
        givers = [giver for giver in givers if giver not in visited]
        if not givers:
            return None
        visited.add(givers[0])
        origin = graph.nodes[givers[0]]
    return node.macs, origin.module


def by_module(rows: Sequence[OperatorRow], depth: int) -> tuple[SumRow, ...]:
    """The rows of each module together, by so many parts of its path, in the order of execution."""
    return _summed(rows, lambda row: ".".join(row.module.split(".")[:depth]))


def by_kind(rows: Sequence[OperatorRow]) -> tuple[SumRow, ...]:
    """The rows of each kind of kernel together, what takes longest first."""
    return tuple(sorted(_summed(rows, lambda row: row.kind), key=lambda row: -row.ms))


def _summed(rows: Sequence[OperatorRow], key: Callable[[OperatorRow], str]) -> tuple[SumRow, ...]:
    groups: dict[str, list[OperatorRow]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return tuple(
        SumRow(
            name=name,
            operators=len(members),
            ms=sum(row.ms for row in members),
            macs=sum(row.macs for row in members),
            fastest_ms=sum(row.fastest_ms for row in members),
        )
        for name, members in groups.items()
    )
