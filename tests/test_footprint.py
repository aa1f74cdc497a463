"""Memory of an artifact here, by its parts."""

from pathlib import Path

import pytest

from edgekit.bench.child import Place
from edgekit.errors import ArtifactError, EnvironmentProblemError
from edgekit.footprint import measure_memory
from edgekit.targets.shipped.watch import Watch
from tests.bench.figures import ONE
from tests.conftest import Exported

MEBI = 1 << 20


def place(exported: Exported, path: Path) -> Place:
    return Place("onnxruntime", path, path.stat().st_size, exported.folder / "reference.safetensors", ONE)


@pytest.fixture
def artifact(exported: Exported) -> Place:
    """The exported ONNX artifact."""
    return place(exported, next(exported.folder.glob("*.onnx")))


def test_the_parts_of_an_artifacts_memory_add_up(artifact: Place) -> None:
    memory = measure_memory(artifact)

    assert memory.runtime_bytes > 10 * MEBI
    assert 0.8 * artifact.size_bytes < memory.load_bytes < 8 * artifact.size_bytes
    assert 0 <= memory.run_bytes < artifact.size_bytes
    parts = memory.runtime_bytes + memory.load_bytes + memory.run_bytes
    assert memory.peak_rss_bytes == max(parts, memory.load_peak_bytes)
    assert memory.load_peak_bytes >= memory.runtime_bytes + memory.load_bytes
    assert memory.peak_pss_bytes is not None
    assert 0.5 * memory.peak_rss_bytes < memory.peak_pss_bytes <= memory.peak_rss_bytes + MEBI


def test_memory_of_an_artifact_that_does_not_load(exported: Exported, tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"garbage")

    with pytest.raises(ArtifactError, match=r"does not load broken\.onnx"):
        measure_memory(place(exported, broken))


def test_a_system_that_does_not_tell(artifact: Place, tmp_path: Path) -> None:
    with pytest.raises(EnvironmentProblemError, match=r"does not tell how much memory .* Measure with --no-memory"):
        measure_memory(artifact, lambda pid: Watch(pid, str(tmp_path)))
