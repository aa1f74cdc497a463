"""From a runtime's profile to modules, MACs and shares of the ceiling; what cannot be tied is never hidden."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from edgekit.bench.ceiling import higher
from edgekit.bench.ceiling_record import Bandwidth, Ceiling, ProductRate
from edgekit.bench.profile import (
    OUTERMOST,
    UNMAPPED,
    Measured,
    assess,
    by_kind,
    by_module,
    measure_artifact,
    operator_rows,
)
from edgekit.bench.profile_record import ArtifactProfile
from edgekit.exporters import EXPORTERS
from edgekit.exporters.base import Candidate
from edgekit.filegraph.base import FileGraph, FileNode
from edgekit.network import Network, lower
from edgekit.program import stats
from edgekit.runners.base import OperatorTime, Profile

Artifact = Callable[[str], tuple[Candidate, ...]]
FORMATS = pytest.mark.parametrize("name", EXPORTERS)

MEGA = 1_000_000


def ceiling(threads: int = 1) -> Ceiling:
    """1 GMAC/s, 4 in int8, and 1 GB/s: a million of anything takes a millisecond."""
    rates = {"fp32": 1.0, "int8": 4.0}
    return Ceiling(
        threads=threads,
        rounds=2,
        products=tuple(
            ProductRate(runtime="r", precision=name, computes_in="k", side=8, gmacs=rate)
            for name, rate in rates.items()
        ),
        bandwidths=(Bandwidth(runtime="r", size=1024, gbytes=1.0),),
        versions={},
    )


def file() -> FileGraph:
    """A convolution of 2 M MACs, its activation in the block around it, and a head of 1 M."""
    nodes = (
        FileNode("conv", "Conv", "blocks.0.conv", 2 * MEGA, ("x", "w"), ("c",)),
        FileNode("act", "Relu", "blocks.0", 0, ("c",), ("a",)),
        FileNode("split", "Split", None, 0, ("a",), ("p",)),
        FileNode("head", "Gemm", "", MEGA, ("p", "v"), ("y",)),
    )
    sizes = {"x": MEGA, "w": 10, "c": MEGA, "a": MEGA, "p": MEGA, "v": 10, "y": 10}
    return FileGraph({node.name: node for node in nodes}, sizes)


def timed(name: str, *times: float, kind: str = "kernel", origins: str = "") -> OperatorTime:
    return OperatorTime(name, kind, times, tuple((origins or name).split()))


OPERATORS = (
    timed("k0", 4.0, 5.0, 9.0, kind="Conv f32", origins="conv act"),
    timed("k1", 1.0, 1.0, 1.0, kind="Split", origins="split"),
    timed("k2", 2.0, 2.0, 2.0, kind="Gemm i8", origins="head"),
    timed("k3", 0.5, 0.5, 0.5, kind="Copy", origins="nowhere"),
)


def test_a_fused_kernel_has_the_module_of_its_heaviest_node_and_the_work_of_all() -> None:
    row = operator_rows("torch", OPERATORS, file(), ceiling())[0]
    assert (row.module, row.nodes, row.ms, row.macs) == ("blocks.0.conv", ("conv", "act"), 5.0, 2 * MEGA)
    assert row.bytes == MEGA + 10 + MEGA  # what is between the two stays inside
    assert row.fastest_ms == pytest.approx(2.00001)


def test_a_node_without_a_module_is_counted_to_what_it_reads() -> None:
    assert operator_rows("torch", OPERATORS, file(), ceiling())[1].module == "blocks.0"


def test_the_outermost_module_and_what_is_tied_to_nothing_have_names() -> None:
    modules = [row.module for row in operator_rows("torch", OPERATORS, file(), ceiling())]
    assert modules == ["blocks.0.conv", "blocks.0", OUTERMOST, UNMAPPED]


def test_integer_kernels_are_measured_against_the_integer_rate() -> None:
    head = operator_rows("torch", OPERATORS, file(), ceiling())[2]
    assert head.fastest_ms == pytest.approx(1.00002)  # by its bytes; its MACs would take 0.25 ms
    in_float = (*OPERATORS[:2], replace(OPERATORS[2], kind="Gemm f32"), OPERATORS[3])
    assert operator_rows("torch", in_float, file(), ceiling())[2].fastest_ms == pytest.approx(1.00002)


@pytest.mark.parametrize(
    ("kind", "precision"),
    [
        ("FullyConnected brgemm_avx512_I8", "int8"),
        ("Convolution brgconv_avx512_1x1_u8", "int8"),
        ("QLinearConv", "int8"),
        ("MatMulIntegerToFloat", "int8"),
        ("Fully Connected (NC, QD8, F32, QC8W) GEMM", "int8"),
        ("Fully Connected (NC, F32) GEMM", "fp32"),
        ("Convolution brgconv_avx512_1x1_f32", "fp32"),
        ("aten::conv2d", "fp32"),
        ("Conv", "fp32"),
    ],
)
def test_the_arithmetic_is_told_from_the_kernel(kind: str, precision: str) -> None:
    only = FileGraph({"conv": FileNode("conv", "Conv", "m", 8 * MEGA, (), ())}, {})
    (row,) = operator_rows("torch", [timed("conv", 1.0, kind=kind)], only, ceiling())
    assert row.fastest_ms == pytest.approx(8.0 if precision == "fp32" else 2.0)


def test_modules_are_summed_in_the_order_of_execution_and_nothing_is_lost() -> None:
    rows = operator_rows("torch", OPERATORS, file(), ceiling())
    summed = by_module(rows, 2)
    assert [(row.name, row.operators, row.ms, row.macs) for row in summed] == [
        ("blocks.0", 2, 6.0, 2 * MEGA),
        (OUTERMOST, 1, 2.0, MEGA),
        (UNMAPPED, 1, 0.5, 0),
    ]
    assert [row.name for row in by_module(rows, 1)] == ["blocks", OUTERMOST, UNMAPPED]
    assert sum(row.ms for row in summed) == sum(row.ms for row in rows)


def test_kinds_are_summed_with_the_longest_first() -> None:
    rows = operator_rows("torch", OPERATORS, file(), ceiling())
    assert [row.name for row in by_kind(rows)] == ["Conv f32", "Gemm i8", "Split", "Copy"]


def assessed() -> ArtifactProfile:
    measured = Measured("net.pt2", "torch", [9.0, 7.0, 8.0], Profile(OPERATORS, (9.375, 10.625, 15.625)), file())
    return assess(measured, ceiling())


def test_operators_are_compared_with_the_runs_they_were_measured_in() -> None:
    found = assessed()
    assert (found.latency_ms, found.fastest_ms, found.profiled_ms, found.runs) == (8.0, 7.0, 10.625, 3)
    assert found.inside == pytest.approx(0.8)  # 7.5, 8.5 and 12.5 ms of these runs
    assert found.operators_ms == pytest.approx(8.5)
    assert found.outside_ms == pytest.approx(8.5 / 0.8 - 8.5)


def test_the_better_of_two_measurements_of_the_ceiling_counts() -> None:
    slow = ceiling()
    quick = Ceiling(
        threads=1,
        rounds=3,
        products=tuple(
            ProductRate(runtime="r", precision=each.precision, computes_in="k", side=8, gmacs=3.0)
            for each in slow.products
        ),
        bandwidths=(Bandwidth(runtime="r", size=1024, gbytes=0.5),),
        versions={},
    )
    both = higher(slow, quick)
    assert (both.gmacs("fp32"), both.gmacs("int8"), both.gbytes(1), both.rounds) == (3.0, 4.0, 1.0, 5)


@FORMATS
def test_a_real_artifact_is_accounted_for(name: str, tiny: Network, tiny_artifact: Artifact) -> None:
    image = np.random.default_rng(0).standard_normal((1, 3, 64, 64)).astype(np.float32)
    runtime, path = EXPORTERS[name].runtime, tiny_artifact(name)[0].files[0]
    found = assess(measure_artifact(path, runtime, {"input": image}, 3, threads=1), ceiling())
    program = lower(tiny, runtime, "fp32").program
    assert sum(row.macs for row in found.operators) == stats(program).macs
    assert 0 < found.inside < 1.5
    assert found.latency_ms >= found.fastest_ms > 0
    times = {row.name: row.ms for row in by_module(found.operators, 2)}
    if name == "ncnn":  # pnnx keeps no module
        assert times.keys() == {UNMAPPED}
        return
    assert {"downsample_layers.0", "stages.0", "stages.3"} <= times.keys()
    assert times.get(UNMAPPED, 0.0) <= 0.05 * found.operators_ms
