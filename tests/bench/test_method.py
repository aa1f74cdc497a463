"""Measuring in turns: what is counted, who may take part, and what a disturbed machine does to the figures."""

import os
import signal
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import pytest
from msgspec import structs

from edgekit.bench.child import Place
from edgekit.bench.machine import Glance, Moment, Probe
from edgekit.bench.method import STEADY, Taken, measure
from edgekit.bench.record import Setting
from edgekit.bench.statistics import round_medians
from edgekit.bench.trust import Case, judge
from edgekit.errors import ArtifactError, EnvironmentProblemError, ParityError
from tests.bench.conftest import Watcher
from tests.bench.figures import BRIEF, FakeMachine

Put = Callable[..., Place]


@pytest.fixture(autouse=True)
def brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short windows for warming up; how long they are is no matter here."""
    monkeypatch.setattr("edgekit.bench.method.WINDOW_SECONDS", 0.02)


def taken_of(found: object) -> Taken:
    assert isinstance(found, Taken), found
    return found


def verdict_of(taken: Taken, setting: Setting) -> tuple[str, str]:
    assert taken.evidence is not None
    verdict = judge(
        Case(
            medians=round_medians(taken.rounds),
            runs=taken.runs,
            steady=taken.warm_up.steady,
            setting=setting,
            profile=BRIEF,
            evidence=taken.evidence,
        )
    )
    return verdict.level, " ".join(reason.text for reason in verdict.reasons)


def test_everyone_takes_turns_until_everyone_has_enough(place: Put, watcher: Watcher) -> None:
    places = {threads: place(setting=Setting(threads=threads)) for threads in (1, 2)}

    found = measure(places, BRIEF, Probe(), watcher)

    one, two = (taken_of(found[threads]) for threads in (1, 2))
    for taken in (one, two):
        assert len(taken.rounds) >= BRIEF.rounds
        assert taken.runs >= BRIEF.runs
        assert sum(sum(each.samples_ms) for each in taken.rounds) >= 1e3 * BRIEF.seconds
        assert len({len(each.samples_ms) for each in taken.rounds}) == 1
        assert taken.parity.passed
        assert taken.first_ms > 0
        assert taken.warm_up.runs >= 7
    assert len(one.rounds) == len(two.rounds)
    order = [at for pair in zip(one.rounds, two.rounds, strict=True) for at in (pair[0].at_s, pair[1].at_s)]
    assert order == sorted(order)
    assert watcher.ended == [f"warm up {places[1].path.name}"] * 2 + ["rounds"]
    assert one.evidence is not None
    assert one.evidence.cores == os.cpu_count()
    assert one.evidence.background_cores is not None


def test_alone_is_one_after_the_other(place: Put, watcher: Watcher) -> None:
    places = {threads: place(setting=Setting(threads=threads)) for threads in (1, 2)}

    found = measure(places, structs.replace(BRIEF, alone=True), Probe(), watcher)

    assert watcher.ended == [f"warm up {places[1].path.name}", "rounds"] * 2
    assert all(isinstance(taken, Taken) for taken in found.values())


def test_a_wrong_artifact_is_never_timed_and_the_others_are(place: Put, wrong: Path, watcher: Watcher) -> None:
    found = measure({"wrong": place(wrong), "right": place()}, BRIEF, Probe(), watcher)

    error = found["wrong"]
    assert isinstance(error, ParityError)
    assert str(error).startswith("wrong.fp32.onnx is not the same network: ")
    assert "dB required. It was not timed." in str(error)
    assert taken_of(found["right"]).runs >= BRIEF.runs
    assert list(found) == ["wrong", "right"]


class Deadly(Probe):
    """Looks at a machine, and crashes the first of the measured processes after five looks."""

    def __init__(self) -> None:
        super().__init__()
        self.looks = 0
        self.pids: list[int] = []

    def moment(self, pids: Collection[int]) -> Moment:
        self.pids += pids
        return super().moment(pids)

    def glance(self, affinity: Sequence[int] | None, threads: int) -> Glance:
        self.looks += 1
        if self.looks == 5:
            os.kill(self.pids[1], signal.SIGSEGV)
        return super().glance(affinity, threads)


def test_an_artifact_that_crashes_on_the_way_is_told_and_the_others_go_on(place: Put, watcher: Watcher) -> None:
    found = measure({"dies": place(), "lives": place()}, BRIEF, Deadly(), watcher)

    assert isinstance(found["dies"], ArtifactError)
    assert "crashed (SIGSEGV)" in str(found["dies"])
    assert len(taken_of(found["lives"]).rounds) >= BRIEF.rounds


def test_an_artifact_without_room_is_refused(place: Put, watcher: Watcher, tmp_path: Path) -> None:
    machine = FakeMachine(tmp_path)
    machine.put("proc/meminfo", "MemAvailable: 204800 kB\n")

    found = measure({"net": place()}, BRIEF, Probe(tmp_path), watcher)

    error = found["net"]
    assert isinstance(error, EnvironmentProblemError)
    assert "200 MiB are free, it may take" in str(error)
    assert "choose fewer with --format or --runtime" in str(error)


def test_a_measurement_that_takes_too_long_is_given_up(place: Put, watcher: Watcher) -> None:
    endless = structs.replace(BRIEF, seconds=1000.0, runs=10**9, rounds=10**8, limit_seconds=0.3)

    taken = taken_of(measure({"net": place()}, endless, Probe(), watcher)["net"])

    assert 0 < taken.runs < 10**6


def test_the_warm_up_ends_when_nothing_becomes_faster(place: Put, watcher: Watcher) -> None:
    taken = taken_of(measure({"net": place()}, BRIEF, Probe(), watcher)["net"])

    assert 0.9 < STEADY < 1
    assert taken.warm_up.steady
    assert 0 < taken.expected_ms < 100 * min(round_medians(taken.rounds))


def test_a_busy_loop_on_every_core_turns_the_verdict(place: Put, watcher: Watcher, busy: Callable[[int], None]) -> None:
    busy(os.cpu_count() or 1)

    profile = structs.replace(BRIEF, seconds=0.5)  # long enough for the kernel's clock ticks to tell
    taken = taken_of(measure({"net": place()}, profile, Probe(), watcher)["net"])

    level, reasons = verdict_of(taken, Setting(threads=1))
    assert level == "INVALID"
    assert "Other processes took" in reasons


def test_a_busy_loop_on_one_core_is_noticed(place: Put, watcher: Watcher, busy: Callable[[int], None]) -> None:
    busy(1)

    taken = taken_of(measure({"net": place()}, structs.replace(BRIEF, seconds=0.5), Probe(), watcher)["net"])

    level, reasons = verdict_of(taken, Setting(threads=1))
    assert level in ("NOISY", "INVALID")
    assert "Other processes took" in reasons
    assert taken.evidence is not None
    assert (taken.evidence.background_cores or 0) > 0.4


@pytest.mark.parametrize("what", ["clock", "temperature"])
def test_a_hot_board_turns_the_verdict(place: Put, watcher: Watcher, tmp_path: Path, what: str) -> None:
    machine = FakeMachine(tmp_path)
    machine.clock(1200 if what == "clock" else 1800)
    machine.zone(0, 86 if what == "temperature" else 60, passive=85)

    taken = taken_of(measure({"net": place()}, BRIEF, Probe(tmp_path), watcher)["net"])

    level, reasons = verdict_of(taken, Setting(threads=1))
    assert "1200 MHz in their middle" in reasons if what == "clock" else "thermal zone reached 86 °C" in reasons
    assert level in ("THROTTLED", "INVALID")  # this machine may be so busy that the rounds disagree
    assert taken.rounds[0].clock_mhz == (1200 if what == "clock" else 1800)
    assert taken.rounds[0].temperature_c == (86 if what == "temperature" else 60)
