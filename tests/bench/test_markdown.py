"""Figures in words."""

import pytest

from edgekit.bench.compare import Side
from edgekit.bench.markdown import (
    latency_text,
    markdown,
    memory_text,
    percentile_text,
    ratio_text,
    remarks,
    verdict_mark,
)
from edgekit.bench.record import Setting
from tests.bench.figures import measurement, run_of

MEDIANS = (10.0, 10.1, 10.2, 10.3, 10.4, 10.6)


@pytest.mark.parametrize(
    ("medians", "text"),
    [
        (MEDIANS, "10.25 ± 0.35 ms"),
        ((0.5, 0.5, 0.5, 0.5, 0.5, 0.502), "0.500 ± 0.002 ms"),
        ((840.0, 841.0, 843.0, 844.0, 845.0, 846.0), "843.5 ± 3.5 ms"),
        ((10.0, 12.0), "11.00 ms"),
    ],
)
def test_a_latency_has_as_many_places_as_it_deserves(medians: tuple[float, ...], text: str) -> None:
    assert latency_text(measurement(medians)) == text


def test_figures_that_are_not_there_are_left_out() -> None:
    one = measurement(MEDIANS, memory=None)

    assert percentile_text(one, "p90") == ""
    assert memory_text(one.memory) == ""


def test_memory_shows_what_it_is_made_of() -> None:
    assert memory_text(measurement(MEDIANS).memory) == "84 MiB = 50 + 30 + 4"


def test_ratios() -> None:
    first, second = measurement(MEDIANS), measurement([2 * each for each in MEDIANS])
    bad = measurement(MEDIANS, level="INVALID")
    sides = [Side(run_of(first, second, bad), one) for one in (first, second, bad)]

    assert [ratio_text(side, sides[0]) for side in sides] == ["1", "2.000 [2.000, 2.000]", "no ratio"]
    assert [verdict_mark(side.measurement) for side in sides] == ["", "", " INVALID"]


def test_remarks_that_hold_for_all_come_once_and_first() -> None:
    noisy = measurement(MEDIANS, level="NOISY")
    throttled = measurement(MEDIANS, level="THROTTLED", artifact="net.tflite")
    both = [Side(run_of(noisy, throttled), one) for one in (noisy, throttled)]

    assert [(each.names, each.text) for each in remarks(both[:1])] == [((), "It was noisy.")]
    assert [(each.level, each.names) for each in remarks(both)] == [
        ("NOISY", ("net.fp32.onnx",)),
        ("THROTTLED", ("net.tflite",)),
    ]


def test_the_page_has_every_artifact_its_verdict_and_the_machine() -> None:
    trusted = measurement(MEDIANS)
    noisy = measurement(MEDIANS, level="NOISY", setting=Setting(threads=2), artifact="a|b.onnx")

    lines = markdown([run_of(trusted, noisy)]).splitlines()

    assert lines[0].startswith("| artifact | threads | median |")
    assert lines[2].startswith("| `net.fp32.onnx` in onnxruntime 1.31.1 | 1 thread | 10.25 ± 0.35 ms |  | 1 | 90 ms |")
    assert lines[2].endswith("| trusted |")
    assert "`a\\|b.onnx`" in lines[3]
    assert lines[3].endswith("| **NOISY** |")
    assert "- NOISY: `a|b.onnx`, 2 threads: It was noisy." in lines
    assert "local: 4 x Cortex-A17 at 1800 MHz, Linux 5.10.110" in lines[-1]
    assert "10 s and 20 runs" in lines[-1]


def test_a_page_of_nothing() -> None:
    assert markdown([]) == "Nothing was measured.\n"
