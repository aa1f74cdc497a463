"""How long a device measures, and what its samples become."""

import pytest
from msgspec import structs

from edgekit.bench.record import Profile
from edgekit.fleet.timing import rounds_of, schedule
from tests.fleet.records import record_of

PROFILE = Profile(name="p", summary="", seconds=10.0, runs=20, rounds=20, limit_seconds=120.0)


@pytest.mark.parametrize(
    ("expected_ms", "turns", "rounds"),
    [
        ({"a": 10.0}, {"a": 50}, 20),  # 10 s are 1000 inferences
        ({"a": 10.0, "b": 1000.0}, {"a": 50, "b": 1}, 20),
        ({"a": 1e4}, {"a": 1}, 12),  # 120 s allow twelve
        ({"a": 1e6}, {"a": 1}, 1),  # one is always taken
        ({}, {}, 20),
    ],
)
def test_every_artifact_gets_its_time_within_the_limit(
    expected_ms: dict[str, float], turns: dict[str, int], rounds: int
) -> None:
    plan = schedule(expected_ms, PROFILE, settle=0)

    assert (plan.turns, plan.rounds) == (turns, rounds)


def test_inferences_that_do_not_count_take_time_too() -> None:
    assert schedule({"a": 1e4, "b": 1e4}, PROFILE, settle=1).rounds == 6


def test_a_profile_may_ask_for_more_runs_than_time() -> None:
    assert schedule({"a": 1000.0}, structs.replace(PROFILE, runs=1000), settle=0).turns == {"a": 50}


def test_samples_become_rounds_in_the_order_they_were_taken() -> None:
    record = record_of(a=(10.0, 12.0, 11.0, 13.0), b=(100.0, 200.0))

    rounds = rounds_of(record, {"a": 2, "b": 1}, settle=1)

    assert [each.samples_ms for each in rounds["a"]] == [(10.0, 12.0), (11.0, 13.0)]
    assert [each.samples_ms for each in rounds["b"]] == [(100.0,), (200.0,)]
    starts = [rounds["a"][0].at_s, rounds["b"][0].at_s, rounds["a"][1].at_s, rounds["b"][1].at_s]
    assert starts == pytest.approx([0.0, 0.033, 0.233, 0.269])


def test_an_artifact_that_failed_has_no_rounds() -> None:
    assert set(rounds_of(record_of(a=(), b=(1.0,)), {"a": 1, "b": 1}, settle=0)) == {"b"}
