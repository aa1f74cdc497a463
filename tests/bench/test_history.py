"""Of many runs, the best pair."""

from typing import Any

from msgspec import structs

from edgekit.bench.history import pairings
from edgekit.bench.record import Run, Setting
from tests.bench.figures import machine_called, measurement, run_of

A, B = "a" * 64, "b" * 64
SLOW, FAST = (12.0,) * 6, (10.0,) * 6


def run(sha256: str, medians: tuple[float, ...], name: str, **changes: Any) -> Run:
    return run_of(measurement(medians, sha256=sha256, **changes), run=name)


def test_a_run_in_turns_comes_before_later_ones_apart() -> None:
    first = [run(A, SLOW, "newest"), run(A, FAST, "shared")]
    second = [run(B, SLOW, "other"), run(B, SLOW, "shared")]

    (found,) = pairings(first, second, (A, B))

    assert found.comparison.paired
    assert found.comparison.ratio == 1.2


def test_of_several_runs_in_turns_the_latest_counts() -> None:
    first = [run(A, FAST, "late"), run(A, FAST, "early")]
    second = [run(B, FAST, "late"), run(B, SLOW, "early")]

    assert pairings(first, second, (A, B))[0].comparison.ratio == 1


def test_a_pair_that_can_be_compared_comes_before_a_later_one_that_cannot() -> None:
    first = [run(A, FAST, "late", level="INVALID"), run(A, FAST, "early")]
    second = [run(B, SLOW, "late"), run(B, SLOW, "other")]

    (found,) = pairings(first, second, (A, B))

    assert found.comparison.ratio == 1.2
    assert not found.comparison.paired


def test_where_nothing_can_be_compared_the_reasons_are_told() -> None:
    (found,) = pairings([run(A, FAST, "x", level="INVALID")], [run(B, FAST, "x")], (A, B))

    assert found.comparison.ratio is None
    assert found.comparison.obstacles


def test_a_pairing_knows_its_devices() -> None:
    here, there = run(A, FAST, "x"), structs.replace(run(B, FAST, "y"), machine=machine_called("ssh://board"))

    (apart,) = pairings([here], [there], (A, B))
    (together,) = pairings([here], [there, run(B, FAST, "z")], (A, B))

    assert (apart.devices, apart.together) == (("local", "ssh://board"), False)
    assert together.together, "what can be compared comes first"


def test_settings_are_paired_with_their_like() -> None:
    one, two = Setting(threads=1), Setting(threads=2)
    first = [run_of(measurement(FAST, setting=one), measurement(SLOW, setting=two))]
    second = [run_of(measurement(SLOW, setting=one, sha256=B))]

    assert [pairing.setting for pairing in pairings(first, second, (A, B))] == [one]


def test_other_artifacts_of_the_bundles_are_left_out() -> None:
    assert pairings([run(A, FAST, "x")], [run(A, FAST, "x")], (A, B)) == ()
    assert pairings([], [], (A, B)) == ()
