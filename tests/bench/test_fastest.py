"""The sentence that says which artifact to take."""

import re

import pytest
from msgspec import structs

from edgekit.bench.compare import Side
from edgekit.bench.fastest import fastest_lines
from edgekit.bench.record import Level, Measurement, Setting
from tests.bench.figures import measurement, run_of

MEDIANS = (10.0, 10.1, 10.2, 10.3, 10.4, 10.6)


def times(factor: float, artifact: str, threads: int = 1, level: Level = "TRUSTED") -> Measurement:
    one = measurement([factor * each for each in MEDIANS], artifact=artifact, level=level)
    return structs.replace(one, setting=Setting(threads=threads))


def said(*measurements: Measurement, bundle: str = "bundle") -> list[str]:
    run = run_of(*measurements, bundle=bundle)
    return list(fastest_lines([Side(run, one) for one in measurements]))


def test_the_fastest_and_by_how_much() -> None:
    found = said(times(2.0, "whole"), times(1.0, "parts", threads=2))
    assert found == [
        "Fastest of bundle: parts in onnxruntime with 2 threads, 10.25 ms. "
        "whole in onnxruntime with 1 thread takes 2.000 [2.000, 2.000] times as long."
    ]


def test_what_is_as_fast_is_not_called_slower() -> None:
    one, other = measurement(MEDIANS, artifact="a"), measurement(sorted(MEDIANS, reverse=True), artifact="b")
    (found,) = said(one, structs.replace(other, latency=structs.replace(other.latency, median_ms=10.3)))
    assert re.search(r"a in .*, 10\.25 ms\. b in onnxruntime with 1 thread is not shown to be slower \(", found)


@pytest.mark.parametrize("measurements", [(), (times(1.0, "a"),), (times(1.0, "a"), times(0.5, "b", level="INVALID"))])
def test_one_alone_and_invalid_ones_are_no_contest(measurements: tuple[Measurement, ...]) -> None:
    assert said(*measurements) == []


def test_bundles_are_told_apart() -> None:
    sides = [
        Side(run_of(bundle=bundle), one)
        for bundle in ("b", "a")
        for one in (times(1.0, f"{bundle}1"), times(1.5, f"{bundle}2"))
    ]
    assert [line.split(",")[0] for line in fastest_lines(sides)] == [
        "Fastest of a: a1 in onnxruntime with 1 thread",
        "Fastest of b: b1 in onnxruntime with 1 thread",
    ]
