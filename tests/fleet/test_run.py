"""Several devices at once: each has its say, and one that fails takes nothing from the others."""

import signal
import threading
import time
from pathlib import Path

import pytest

from edgekit.errors import DeviceError, MisuseError
from edgekit.fleet.run import Fleet, measure_fleet, settled
from edgekit.measure import Bundle, Choice, Outcome, store
from edgekit.targets.device import Device
from tests.bench.conftest import Watcher
from tests.bench.figures import BRIEF, run_of

NOWHERE = "adb://nobody"
NOTHING = Outcome(runs=(), problems=())


@pytest.fixture(autouse=True)
def no_adb(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An adb that knows no device."""
    adb = tmp_path / "bin" / "adb"
    adb.parent.mkdir()
    adb.write_text("#!/bin/sh\necho \"adb: device 'nobody' not found\" >&2\nexit 1\n")
    adb.chmod(0o755)
    monkeypatch.setenv("PATH", str(adb.parent), prepend=":")


def test_a_device_that_fails_takes_nothing_from_the_others(
    opened: Bundle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("edgekit.bench.method.WINDOW_SECONDS", 0.02)

    outcome = measure_fleet(("local", NOWHERE), [opened], Choice(memory=False), BRIEF, ("edgekit", "bench"), Watcher())

    assert [(run.machine.device, len(run.measurements)) for run in outcome.runs] == [("local", 1)]
    (problem,) = outcome.problems
    assert (problem.device, problem.bundle, problem.error.exit_code) == (NOWHERE, None, 3)
    assert isinstance(problem.error, DeviceError)
    (place,) = store([opened], outcome.runs, None)
    assert place.parent == opened.folder / "measurements"


def test_devices_work_at_the_same_time() -> None:
    """Each waits for the other in the middle of its work; one after the other they would wait for ever."""
    both = threading.Barrier(2, timeout=60)

    def work(device: Device) -> Outcome:
        both.wait()
        return Outcome(runs=(run_of(run=device.address),), problems=())

    found = Fleet(work, lambda line: None).visit(["local", "local"])

    assert list(found) == ["local"]
    assert not both.broken


def test_what_is_no_error_of_a_device_is_raised() -> None:
    def work(device: Device) -> Outcome:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        Fleet(work, lambda line: None).visit(["local"])


def test_an_interrupt_ends_the_sessions(tmp_path: Path) -> None:
    """Every device clears up before the interrupt goes on."""
    begun, ended = threading.Event(), threading.Event()

    def work(device: Device) -> Outcome:
        begun.set()
        try:
            while True:
                device.probe()
        finally:
            ended.set()

    def interrupt() -> None:
        begun.wait(60)
        time.sleep(0.2)
        signal.raise_signal(signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores the signal
    threading.Thread(target=interrupt, daemon=True).start()
    try:
        with pytest.raises(KeyboardInterrupt):
            Fleet(work, lambda line: None).visit(["local"])
    finally:
        signal.signal(signal.SIGINT, before)

    assert ended.is_set()
    assert not list((tmp_path / "cache").glob("local/**/sessions/*"))


def test_a_device_is_named_once(opened: Bundle) -> None:
    with pytest.raises(MisuseError, match="qemu://armv7 is named twice"):
        measure_fleet(("qemu://armv7", "qemu://armv7"), [opened], Choice(), BRIEF, (), Watcher())


def test_what_is_no_address(opened: Bundle) -> None:
    with pytest.raises(MisuseError, match="'board' is no address of a device"):
        measure_fleet(("board",), [opened], Choice(), BRIEF, (), Watcher())


def test_an_outcome_stays_as_it_is() -> None:
    assert settled("local", NOTHING) is NOTHING
