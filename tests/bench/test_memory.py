"""Memory of a process, by what it does."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgekit.bench.child import Place
from edgekit.bench.memory import Watch, measure_memory
from edgekit.errors import ArtifactError, EnvironmentProblemError

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
    assert 96 * MEBI < watch.peak_pss <= held + MEBI


def test_the_parts_of_an_artifacts_memory_add_up(place: Callable[..., Place]) -> None:
    artifact = place()

    memory = measure_memory(artifact)

    assert memory.runtime_bytes > 10 * MEBI
    assert 0.8 * artifact.size_bytes < memory.load_bytes < 8 * artifact.size_bytes
    assert 0 <= memory.run_bytes < artifact.size_bytes
    parts = memory.runtime_bytes + memory.load_bytes + memory.run_bytes
    assert memory.peak_rss_bytes == max(parts, memory.load_peak_bytes)
    assert memory.load_peak_bytes >= memory.runtime_bytes + memory.load_bytes
    assert 0.5 * memory.peak_rss_bytes < memory.peak_pss_bytes <= memory.peak_rss_bytes + MEBI


def test_memory_of_an_artifact_that_does_not_load(place: Callable[..., Place], tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"garbage")

    with pytest.raises(ArtifactError, match=r"does not load broken\.onnx"):
        measure_memory(place(broken))


def test_older_kernels_tell_pss_mapping_by_mapping(tmp_path: Path) -> None:
    folder = tmp_path / "7"
    folder.mkdir()
    (folder / "smaps").write_text("00-01 r\nRss: 9 kB\nPss:    3 kB\n02-03 r\nPss:    4 kB\nPss_Anon: 100 kB\n")

    watch = Watch(7, tmp_path)
    watch.look()

    assert watch.peak_pss == 7 * 1024


@pytest.mark.parametrize("ask", [Watch.resident, Watch.peak, Watch.forget, Watch.look])
def test_a_system_that_does_not_tell(tmp_path: Path, ask: Callable[[Watch], object]) -> None:
    with pytest.raises(EnvironmentProblemError, match=r"does not tell how much memory .* Measure with --no-memory"):
        ask(Watch(sys.maxsize, tmp_path))


def test_a_system_that_leaves_it_out(tmp_path: Path) -> None:
    (tmp_path / "7").mkdir()
    (tmp_path / "7/status").write_text("Name: kernel thread\n")

    with pytest.raises(EnvironmentProblemError, match="status has no VmRSS"):
        Watch(7, tmp_path).resident()
