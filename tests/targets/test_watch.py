"""Memory of a process, by what it does and by what the kernel tells of it."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgekit.targets.shipped.watch import UntoldError, Watch, weigh

MEBI = 1 << 20


def test_a_watch_sees_memory_come_and_go_and_keeps_the_peak() -> None:
    watch = Watch(os.getpid())
    watch.forget()
    before = watch.resident()
    block = np.ones(96 * MEBI, np.uint8)
    held = watch.resident()
    watch.look()
    del block
    after = watch.resident()
    peak = watch.peak()
    watch.forget()

    assert held - before == pytest.approx(96 * MEBI, abs=8 * MEBI)
    assert after < held - 80 * MEBI
    assert peak > held - MEBI  # the kernel counts a few pages late
    assert watch.peak() < peak - 80 * MEBI
    assert watch.peak_pss is not None
    assert 96 * MEBI < watch.peak_pss <= held + MEBI


class Kernel:
    """A `/proc` with one process in it, as an old kernel has it: nothing can be set back there."""

    def __init__(self, proc: Path) -> None:
        self.folder = proc / "7"
        self.folder.mkdir()
        self.watch = Watch(7, str(proc))

    def tell(self, *, resident: int, peak: int) -> None:
        (self.folder / "status").write_text(f"Name:\tholder\nVmHWM:\t{peak:8} kB\nVmRSS:\t{resident:8} kB\n")


@pytest.fixture
def kernel(tmp_path: Path) -> Kernel:
    return Kernel(tmp_path)


@pytest.fixture
def stubborn(kernel: Kernel) -> Kernel:
    """One that refuses to set a peak back, as Linux before 4.0 does."""
    (kernel.folder / "clear_refs").mkdir()
    return kernel


def test_older_kernels_tell_pss_mapping_by_mapping(kernel: Kernel) -> None:
    (kernel.folder / "smaps").write_text("00-01 r\nRss: 9 kB\nPss:    3 kB\n02-03 r\nPss:    4 kB\nPss_Anon: 100 kB\n")

    kernel.watch.look()

    assert kernel.watch.peak_pss == 7 * 1024


def test_the_rollup_is_preferred_and_the_highest_kept(kernel: Kernel) -> None:
    (kernel.folder / "smaps").write_text("Pss: 3 kB\n")
    for size in (20, 50, 40):
        (kernel.folder / "smaps_rollup").write_text(f"Rss: 90 kB\nPss: {size} kB\nPss_Dirty: 99 kB\n")
        kernel.watch.look()

    assert kernel.watch.peak_pss == 50 * 1024


def steps(kernel: Kernel, *sizes: tuple[int, int]) -> tuple[Callable[[], None], Callable[[], None]]:
    """Loading and running, after which the process takes so much and has so high a peak, in KiB."""
    loaded, run = (lambda at=at: kernel.tell(resident=at[0], peak=at[1]) for at in sizes)
    return loaded, run


def test_a_peak_that_cannot_be_set_back_counts_where_it_is_a_new_one(stubborn: Kernel) -> None:
    stubborn.tell(resident=10, peak=12)

    taken = weigh(stubborn.watch, *steps(stubborn, (30, 40), (32, 50)))

    assert (taken.runtime_bytes, taken.load_bytes, taken.run_bytes) == (10 * 1024, 20 * 1024, 20 * 1024)
    assert (taken.load_peak_bytes, taken.peak_rss_bytes) == (40 * 1024, 50 * 1024)
    assert taken.peak_pss_bytes is None, "this kernel tells none"


def test_an_old_peak_is_not_taken_for_that_of_running(stubborn: Kernel) -> None:
    stubborn.tell(resident=10, peak=12)

    taken = weigh(stubborn.watch, *steps(stubborn, (30, 60), (32, 60)))

    assert taken.run_bytes == 2 * 1024, "what is there after running is all that is known of it"
    assert (taken.load_peak_bytes, taken.peak_rss_bytes) == (60 * 1024, 60 * 1024)


@pytest.mark.parametrize("ask", [Watch.resident, Watch.peak, Watch.forget])
def test_a_system_that_does_not_tell(tmp_path: Path, ask: Callable[[Watch], object]) -> None:
    with pytest.raises(UntoldError, match=r"status has no Vm(RSS|HWM)"):
        ask(Watch(sys.maxsize, str(tmp_path)))


def test_a_system_that_leaves_it_out(kernel: Kernel) -> None:
    (kernel.folder / "status").write_text("Name: kernel thread\n")

    with pytest.raises(UntoldError, match="status has no VmRSS"):
        kernel.watch.resident()


@pytest.mark.skipif(sys.platform != "linux", reason="there is no /proc")
def test_a_process_that_ended_tells_nothing() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()

    with pytest.raises(UntoldError):
        Watch(process.pid).resident()
