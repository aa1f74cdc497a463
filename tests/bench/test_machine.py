"""A machine's state, read from trees that play any machine."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from edgekit.bench.machine import DEFAULT_TRIP_C, Moment, Probe, evidence
from tests.bench.figures import FakeMachine

TICK = 1 / os.sysconf("SC_CLK_TCK")


@pytest.fixture
def machine(tmp_path: Path) -> FakeMachine:
    return FakeMachine(tmp_path)


@pytest.fixture
def probe(machine: FakeMachine) -> Probe:
    return Probe(machine.root)


def test_a_moment_has_every_counter(machine: FakeMachine, probe: Probe) -> None:
    machine.cpu_times(busy=700, idle=200, stolen=100)
    machine.process(4711, 30)
    machine.process(4712, 12, name="a) strange (name")
    machine.put("sys/fs/cgroup/cpu.stat", "usage_usec 9\nnr_throttled 4\nthrottled_usec 2500000\n")

    moment = probe.moment([4711, 4712])

    assert moment.busy == pytest.approx(700 * TICK)
    assert moment.total == pytest.approx(1000 * TICK)
    assert moment.stolen == pytest.approx(100 * TICK)
    assert moment.own == pytest.approx(42 * TICK)
    assert moment.swapped == 30
    assert moment.throttled == 2.5


def test_a_process_that_is_gone_makes_its_share_unknown(machine: FakeMachine, probe: Probe) -> None:
    machine.process(4711, 30)

    assert probe.moment([4711, 4712]).own is None


def test_a_machine_that_tells_nothing(tmp_path: Path) -> None:
    probe = Probe(tmp_path / "nothing")
    moment = probe.moment([1])

    assert (moment.busy, moment.total, moment.stolen, moment.own, moment.swapped, moment.throttled) == (None,) * 6
    assert probe.load() is None
    assert probe.available_bytes() is None
    assert probe.governors() == ()
    assert probe.cores() == os.cpu_count()
    glance = probe.glance(None, 1)
    assert (glance.clock_mhz, glance.temperature_c) == (None, None)


def test_load_cores_governors_and_memory(machine: FakeMachine, probe: Probe) -> None:
    machine.clock(1800)
    machine.clock(600, governor="ondemand", cpu=3)

    assert probe.load() == 0.10
    assert probe.cores() == 4
    assert probe.governors() == ("ondemand", "performance")
    assert probe.available_bytes() == 1 << 30


def test_the_clock_is_that_of_the_slowest_processor_in_use(machine: FakeMachine, probe: Probe) -> None:
    for cpu, mhz in enumerate((600, 1800, 1200, 600)):
        machine.clock(mhz, cpu=cpu)

    assert probe.glance(None, 1).clock_mhz == 1800
    assert probe.glance(None, 2).clock_mhz == 1200
    assert probe.glance((0, 2), 1).clock_mhz == 1200
    assert probe.glance((0,), 1).clock_mhz == 600


def test_a_base_clock_counts_as_the_highest_that_all_cores_reach(machine: FakeMachine, probe: Probe) -> None:
    machine.clock(2600, highest=4500)
    for cpu in range(machine.cores):
        machine.put(f"sys/devices/system/cpu/cpu{cpu}/cpufreq/base_frequency", "2500000\n")

    (clock,) = probe.glance(None, 1).clocks
    assert clock.highest_mhz == 2500


@pytest.mark.parametrize(
    ("kind", "passive", "trip"),
    [
        ("soc-thermal", 75.0, 75.0),
        ("cpu-thermal", None, DEFAULT_TRIP_C),
        ("x86_pkg_temp", None, DEFAULT_TRIP_C),
        ("iwlwifi_1", None, None),
        ("battery", 45.0, 45.0),
    ],
)
def test_a_zone_trips_where_it_says_or_where_processors_usually_do(
    machine: FakeMachine, probe: Probe, kind: str, passive: float | None, trip: float | None
) -> None:
    machine.zone(0, 61.5, kind=kind, passive=passive)

    (zone,) = probe.glance(None, 1).zones

    assert (zone.now_c, zone.trip_c) == (61.5, trip)


@pytest.mark.parametrize("text", ["", "-274000\n", "no number\n"])
def test_a_sensor_that_makes_no_sense_is_no_zone(machine: FakeMachine, probe: Probe, text: str) -> None:
    machine.zone(0, 50)
    machine.put("sys/class/thermal/thermal_zone0/temp", text)

    assert probe.glance(None, 1).zones == ()


def test_evidence_is_what_happened_between_two_moments(machine: FakeMachine, probe: Probe) -> None:
    machine.clock(1800)
    machine.zone(0, 60, passive=85)
    cool = probe.glance(None, 2)
    machine.clock(1200)
    machine.zone(0, 79, passive=85)
    machine.zone(1, 82, kind="gpu-thermal")
    hot = probe.glance(None, 2)
    before = Moment(at=100.0, busy=50.0, total=400.0, stolen=1.0, own=10.0, swapped=30, throttled=1.0)
    after = Moment(at=110.0, busy=75.0, total=440.0, stolen=3.0, own=20.0, swapped=35, throttled=1.5)

    found = evidence(probe, 0.5, before, after, [cool, cool, hot])

    assert found.seconds == 10
    assert found.cores == 4
    assert found.background_cores == pytest.approx((25 - 10) / 10)
    assert found.steal == pytest.approx(2 / 40)
    assert found.swapped_pages == 5
    assert found.quota == pytest.approx(0.05)
    assert (found.load, found.governors) == (0.5, ("performance",))
    assert found.clock_mhz == 1800
    assert found.clock_residency == pytest.approx(2 / 3)
    assert found.clock_trend == pytest.approx(2 / 3)
    assert found.temperature_c == 82
    assert (found.trip_c, found.trip_margin_c) == (85, 6)


def test_evidence_of_a_silent_machine_is_none_and_not_zero(tmp_path: Path) -> None:
    silent = Moment(at=0.0, busy=None, total=None, stolen=None, own=None, swapped=None, throttled=None)
    probe = Probe(tmp_path)

    found = evidence(probe, None, silent, replace(silent, at=1.0), [probe.glance(None, 1)])

    assert (found.background_cores, found.steal, found.swapped_pages, found.load) == (None,) * 4
    assert found.quota is None
    assert (found.clock_mhz, found.clock_residency, found.clock_trend) == (None,) * 3
    assert (found.temperature_c, found.trip_c, found.trip_margin_c) == (None,) * 3


def test_this_machine_tells_its_processor_time() -> None:
    probe = Probe()
    before = probe.moment([os.getpid()])
    deadline = os.times().user + 0.1
    while os.times().user < deadline:
        pass
    after = probe.moment([os.getpid()])

    assert before.own is not None
    assert after.own is not None
    assert after.own - before.own >= 0.08
    assert after.busy is not None
    assert before.busy is not None
    assert after.busy > before.busy
