"""Ratios of what can be compared, and reasons for what cannot."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from msgspec import structs

from edgekit.bench.compare import Side, compare, names, setting_text
from edgekit.bench.profiles import PROFILES
from edgekit.bench.record import Core, Measurement, Setting
from tests.bench.figures import MACHINE, measurement, run_of

DRIFT = (10.0, 11.0, 13.0, 16.0, 20.0, 25.0, 24.0, 22.0)
"""A machine that is all but steady."""


def side(medians: Sequence[float], *, run: str = "one", machine: Any = None, **changes: Any) -> Side:
    one = measurement(medians, **changes)
    return Side(run_of(one, run=run, machine=structs.replace(MACHINE, **(machine or {}))), one)


def test_in_turns_drift_cancels() -> None:
    found = compare(side(DRIFT), side([1.1 * each for each in DRIFT]))

    assert found.paired
    assert found.ratio == pytest.approx(1.1)
    assert found.interval is not None
    assert (found.interval.low, found.interval.high) == pytest.approx((1.1, 1.1))
    assert found.interval.confidence >= 0.95


def test_apart_the_intervals_of_both_count() -> None:
    first, second = side([10.0, 10.1, 10.2, 10.3, 10.4, 10.5]), side([12.0, 12.1, 12.2, 12.3, 12.4, 12.5], run="two")

    found = compare(first, second)

    assert not found.paired
    assert found.ratio == pytest.approx(12.25 / 10.25)
    assert found.interval is not None
    assert (found.interval.low, found.interval.high) == pytest.approx((12.0 / 10.5, 12.5 / 10.0))
    assert found.interval.confidence == pytest.approx(1 - 4 / 2**6)


def test_rounds_that_only_one_had_are_left_out() -> None:
    assert compare(side(DRIFT), side([2 * each for each in DRIFT[:6]])).ratio == 2


def test_too_few_rounds_for_an_interval() -> None:
    found = compare(side(DRIFT[:3]), side(DRIFT[:3], run="two"))

    assert found.ratio == 1
    assert found.interval is None


def test_paired_interval_encloses_the_ratio_as_often_as_it_says() -> None:
    generator = np.random.default_rng(3)
    hits = 0
    for _ in range(600):
        machine = np.exp(np.cumsum(generator.normal(scale=0.05, size=20)))  # drift that both see
        first, second = (machine * factor * generator.lognormal(sigma=0.02, size=20) for factor in (8.0, 8.4))
        found = compare(side(first.tolist()), side(second.tolist()))
        assert found.interval is not None
        hits += found.interval.low <= 1.05 <= found.interval.high
    assert hits / 600 >= 0.93


@pytest.mark.parametrize("which", [0, 1])
def test_an_invalid_figure_enters_no_comparison(which: int) -> None:
    sides = [side(DRIFT, level="INVALID", artifact="bad.onnx") if index == which else side(DRIFT) for index in (0, 1)]

    found = compare(sides[0], sides[1])

    assert (found.ratio, found.interval) == (None, None)
    assert found.obstacles == ("The latency of bad.onnx is INVALID: It was invalid.",)


@pytest.mark.parametrize("level", ["NOISY", "THROTTLED"])
def test_other_doubts_are_compared_and_stay_doubts(level: Any) -> None:
    assert compare(side(DRIFT, level=level), side(DRIFT)).ratio == 1


SUBJECT = measurement(DRIFT).subject


@pytest.mark.parametrize(
    ("changes", "machine", "obstacle"),
    [
        ({"setting": Setting(threads=2)}, {}, "One ran with 1 thread, the other with 2 threads."),
        (
            {"setting": Setting(threads=1, affinity=(4, 5))},
            {},
            "One ran with 1 thread, the other with 1 thread on processors 4, 5.",
        ),
        (
            {"subject": structs.replace(SUBJECT, runtime_version="1.24.0")},
            {},
            "One ran in onnxruntime 1.31.1, the other in 1.24.0.",
        ),
        (
            {"subject": structs.replace(SUBJECT, build="c" * 64)},
            {},
            "They ran in different builds of onnxruntime 1.31.1.",
        ),
        ({}, {"device": "ssh://pi"}, "They are of different machines: device is local and ssh://pi."),
        ({}, {"kernel": "6.1"}, "They are of different machines: kernel is 5.10.110 and 6.1."),
        ({}, {"emulated": True}, "They are of different machines: emulated is False and True."),
        (
            {},
            {"cores": (Core(name="Cortex-A53", count=4, highest_mhz=1400, governor=None),)},
            "They are of different machines: cores is 4 x Cortex-A17 1800 MHz and 4 x Cortex-A53 1400 MHz.",
        ),
        (
            {},
            {"environment": {"OMP_NUM_THREADS": "1"}},
            "They are of different machines: environment is {} and {'OMP_NUM_THREADS': '1'}.",
        ),
    ],
    ids=["threads", "affinity", "version", "build", "device", "kernel", "emulated", "cores", "environment"],
)
def test_two_runs_are_compared_only_where_nothing_else_differs(changes: Any, machine: Any, obstacle: str) -> None:
    found = compare(side(DRIFT), side(DRIFT, run="two", machine=machine, **changes))

    assert found.ratio is None
    assert found.obstacles == (obstacle,)
    assert compare(side(DRIFT), side(DRIFT, **changes)).ratio == 1  # within one run it is what is compared


def test_alone_is_not_in_turns() -> None:
    first, second = side(DRIFT), side(DRIFT)
    sustained = [
        Side(structs.replace(each.run, profile=PROFILES["sustained"]), each.measurement) for each in (first, second)
    ]

    assert not compare(*sustained).paired
    apart = compare(first, Side(structs.replace(sustained[1].run, run="two"), second.measurement))
    assert apart.obstacles == ("One was measured with profile quick, the other with sustained.",)


@pytest.mark.parametrize(
    ("setting", "text"),
    [
        (Setting(threads=1), "1 thread"),
        (Setting(threads=4), "4 threads"),
        (Setting(threads=2, affinity=(4, 5)), "2 threads on processors 4, 5"),
    ],
)
def test_settings_in_words(setting: Setting, text: str) -> None:
    assert setting_text(measurement(DRIFT, setting=setting)) == text


def test_a_name_that_two_bundles_have_is_told_apart() -> None:
    def of(bundle: str, one: Measurement) -> Side:
        return Side(run_of(one, bundle=bundle), one)

    same, other = measurement(DRIFT, artifact="net.onnx"), measurement(DRIFT, artifact="net.tflite")

    assert names([of("a", same), of("b", same), of("b", other)]) == ["a/net.onnx", "b/net.onnx", "net.tflite"]
    assert names([of("a", same), of("a", other)]) == ["net.onnx", "net.tflite"]
