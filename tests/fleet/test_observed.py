"""What a board tells of itself, as evidence."""

from typing import Any

import pytest

from edgekit.bench.record import Evidence
from edgekit.fleet.observed import evidence_of, machine_of, reasons_of, watch_of
from tests.fleet.records import FACTS, QUIET, record_of, state


def test_the_machine_of_a_board() -> None:
    machine = machine_of(FACTS, QUIET)

    (core,) = machine.cores
    assert (core.name, core.count, core.highest_mhz, core.governor) == ("Cortex-A17", 4, 1800, "performance")
    assert (machine.device, machine.architecture, machine.emulated) == ("ssh://board", "armv7l", False)
    assert machine.memory_bytes == 2 << 30


def test_a_board_that_tells_nothing_gives_no_evidence() -> None:
    silent: dict[str, Any] = {"clocks_khz": {}, "highest_khz": {}, "governors": {}, "temperatures_c": {}, "load": None}

    record = record_of(before=state(**silent), after=state(monotonic_s=12.0, **silent))

    assert evidence_of(record) == Evidence(seconds=2.0, cores=4)


def test_the_hotter_moment_counts() -> None:
    record = record_of(after=state(temperatures_c={"thermal_zone0 soc": 81.5}))

    assert evidence_of(record).temperature_c == 81.5


@pytest.mark.parametrize(
    ("threads", "share", "clock"),
    [(1, 1.0, 1800.0), (2, 0.75, 1600.0)],
    ids=["the fastest core", "both cores"],
)
def test_clocks_are_those_of_the_cores_that_were_used(threads: int, share: float, clock: float) -> None:
    """One core was at full clock all the time, the other half of it."""
    highest = {"cpu0": 1_800_000, "cpu1": 1_800_000}
    before = {cpu: {"1000000": 500, "1800000": 100} for cpu in highest}
    after = {"cpu0": {"1000000": 500, "1800000": 300}, "cpu1": {"1000000": 600, "1800000": 200}}
    record = record_of(
        before=state(highest_khz=highest, residency=before),
        after=state(highest_khz=highest, residency=after),
        threads=threads,
    )

    evidence = evidence_of(record)

    assert evidence.clock_residency == pytest.approx(share)
    assert evidence.clock_mhz == pytest.approx(clock)


def test_disturbances_speak_against_the_times() -> None:
    disturbed = record_of(disturbances=("the clock was set by +7200 s meanwhile",))
    throttled = record_of(
        after=state(allowed_khz={"cpu0": 600_000}), disturbances=("the highest allowed clock was lowered",)
    )

    assert [(each.level, each.text) for each in reasons_of(disturbed)] == [
        ("NOISY", "On the device the clock was set by +7200 s meanwhile.")
    ]
    assert [each.level for each in reasons_of(throttled)] == ["THROTTLED"]
    assert reasons_of(record_of()) == ()


def test_the_state_is_kept_as_it_was_before_and_after() -> None:
    watch = watch_of(record_of(after=state(monotonic_s=30.0, clocks_khz={"cpu0": 600_000}, available_kib=1024)))

    assert (watch.before.clocks_mhz, watch.after.clocks_mhz) == ({"cpu0": 1800.0}, {"cpu0": 600.0})
    assert watch.after.available_bytes == 1 << 20
    assert (watch.before.at_s, watch.after.at_s) == (10.0, 30.0)
