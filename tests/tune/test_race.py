"""Races on a machine of known speed: who wins, who is as good, who is sent home, and what a disturbance changes."""

import random
from collections import Counter
from collections.abc import Callable, Mapping

import pytest

from edgekit.tune.race import (
    HOPELESS,
    LEAST_ROUNDS,
    MOST_ROUNDS,
    WARM_UP,
    Result,
    as_fast,
    race,
    still_running,
    surely_slower,
    typical,
)
from tests.tune.machine import Machine

Disturbance = Callable[[str, int, random.Random], float]
SEEDS = range(30)


def run(patch: pytest.MonkeyPatch, machine: Machine, deadline: float = 1e9, beside: str | None = None) -> Result:
    machine.install(patch)
    return race(machine.calls(), deadline, beside, machine.seconds)


def outcomes(
    patch: pytest.MonkeyPatch, costs: Mapping[str, float], disturb: Disturbance | None = None
) -> Counter[tuple[str, ...]]:
    """The fastest of a race for every seed, and how often it came to that."""
    machines = (Machine(costs, seed, disturb=disturb) if disturb else Machine(costs, seed) for seed in SEEDS)
    return Counter(tuple(sorted(run(patch, machine).fastest)) for machine in machines)


@pytest.mark.parametrize(
    "costs", [{"a": 1.0, "b": 1.3}, {"a": 1.0, "b": 1.05, "c": 2.0}, {"a": 0.02, "b": 0.0206}], ids=str
)
def test_what_is_faster_wins(costs: dict[str, float], monkeypatch: pytest.MonkeyPatch) -> None:
    assert outcomes(monkeypatch, costs) == {("a",): len(SEEDS)}


def test_a_clear_race_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine({"a": 1.0, "b": 1.5})
    result = run(monkeypatch, machine)
    assert [len(times) for times in result.times.values()] == [LEAST_ROUNDS] * 2
    assert len(machine.made) == 2 * (WARM_UP + LEAST_ROUNDS)


@pytest.mark.parametrize("number", [2, 4])
def test_equal_ones_are_called_equal(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Chance tells some apart, seldom: in one race in ten, where two are alike."""
    names = tuple("abcd"[:number])
    found = outcomes(monkeypatch, dict.fromkeys(names, 1.0))
    assert found[names] >= 0.6 * len(SEEDS)
    assert sum(found[alone] for alone in ((name,) for name in names)) <= 0.2 * len(SEEDS)


def test_equal_ones_are_timed_to_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    result = run(monkeypatch, Machine({"a": 1.0, "b": 1.0}, noise=0.0))
    assert {name: len(times) for name, times in result.times.items()} == {"a": MOST_ROUNDS, "b": MOST_ROUNDS}
    assert set(result.fastest) == {"a", "b"}


def test_the_hopeless_are_sent_home_with_the_best_of_their_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine({"a": 1.0, "slow": 1.01 * HOPELESS, "b": 0.95 * HOPELESS}, noise=0.001)
    result = run(monkeypatch, machine)
    assert result.times["slow"] == [pytest.approx(1.01 * HOPELESS, rel=0.01)]
    assert machine.made.count("slow") == WARM_UP
    assert len(result.times["b"]) == LEAST_ROUNDS
    assert result.fastest == ("a",)


def test_a_race_ends_at_its_deadline_but_not_before_the_least_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    costs = {"a": 1.0, "b": 1.0}
    assert len(run(monkeypatch, Machine(costs, noise=0.0), deadline=0.0).times["a"]) == LEAST_ROUNDS
    half = len(run(monkeypatch, Machine(costs, noise=0.0), deadline=0.1).times["a"])
    assert half == pytest.approx(50 - WARM_UP, abs=2)  # 0.1 s of 2 ms rounds


def test_what_is_timed_beside_is_in_every_round_and_never_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    result = run(monkeypatch, Machine({"": 0.1, "a": 1.0, "b": 1.2}), beside="")
    assert result.fastest == ("a",)
    assert len(result.times[""]) == len(result.times["a"]) == LEAST_ROUNDS
    assert typical(result.times[""]) == pytest.approx(0.1, rel=0.1)


def test_a_race_without_candidates_has_no_winner(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(monkeypatch, Machine({"": 1.0}), beside="").fastest == ()


# -- disturbances -----------------------------------------------------------------------------------------------------


def bursts(name: str, before: int, numbers: random.Random) -> float:
    """Three calls in ten take two to ten times as long."""
    return numbers.uniform(2, 10) if numbers.random() < 0.3 else 1.0


def phases(name: str, before: int, numbers: random.Random) -> float:
    """The clock falls and rises again, without regard to rounds."""
    return 2.5 if before // 37 % 2 else 1.0


def every_third_call(name: str, before: int, numbers: random.Random) -> float:
    """Something comes as often as a round has calls, so that one place in the order always meets it."""
    return 3.0 if before % 3 == 0 else 1.0


def first_runs(name: str, before: int, numbers: random.Random) -> float:
    """The fastest prepares its weights when it runs first."""
    return 40.0 if name == "a" and before < 3 else 1.0


@pytest.mark.parametrize("disturb", [bursts, phases, every_third_call, first_runs])
def test_a_disturbed_machine_does_not_change_the_winner(disturb: Disturbance, monkeypatch: pytest.MonkeyPatch) -> None:
    found = outcomes(monkeypatch, {"a": 1.0, "b": 1.2, "c": 1.5}, disturb)
    assert found[("a",)] >= 0.9 * len(SEEDS)
    assert not any("c" in names for names in found)


def test_a_disturbed_machine_does_not_make_a_winner(monkeypatch: pytest.MonkeyPatch) -> None:
    found = outcomes(monkeypatch, {"a": 1.0, "b": 1.0}, bursts)
    assert found["a", "b"] >= 0.7 * len(SEEDS)


@pytest.mark.parametrize("disturb", [bursts, every_third_call])
def test_the_cost_is_what_the_undisturbed_runs_take(disturb: Disturbance, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine({"a": 1.0, "b": 1.0}, noise=0.0, disturb=disturb)
    result = run(monkeypatch, machine)
    assert {name: typical(times) for name, times in result.times.items()} == {
        "a": pytest.approx(1.0),
        "b": pytest.approx(1.0),
    }


# -- the parts --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("lost", "sure"), [(12, True), (11, True), (10, False), (6, False), (0, False)])
def test_a_coin_would_seldom_fall_that_way(lost: int, sure: bool) -> None:
    leader = [1.0] * 12
    assert surely_slower([1.1] * lost + [0.9] * (12 - lost), leader) == sure


def test_ties_are_not_lost() -> None:
    assert not surely_slower([1.0] * 100, [1.0] * 100)


def test_only_the_leader_and_who_may_still_win_go_on() -> None:
    times = {"a": [1.0] * 12, "b": [1.1] * 12, "c": [1.1, 0.9] * 6}
    assert still_running(times, ["b", "a"]) == ["a"]
    assert still_running(times, ["a", "c"]) == ["a", "c"]  # c has the lowest quartile, and lost to a half the time


def test_who_is_within_a_percent_is_as_good() -> None:
    times = {"a": [1.0] * 12, "b": [1.009] * 12, "c": [1.02] * 12}
    assert as_fast(times, ["c", "b", "a"]) == ("a", "b")
    assert as_fast(times, ["c"]) == ("c",)


def test_the_typical_time_is_the_lower_quartile() -> None:
    assert typical([4.0, 1.0, 3.0, 2.0]) == 2.0
    assert typical([5.0]) == 5.0
    assert typical([9.0] * 8 + [1.0] * 4) == 1.0
    assert typical([9.0] * 8 + [1.0] * 3) == 1.0
    assert typical([9.0] * 9 + [1.0] * 2) == 9.0
