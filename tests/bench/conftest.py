"""The exported bundle's artifact as something to measure."""

from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from onnx import numpy_helper

from edgekit.bench.child import Place
from edgekit.bench.record import Setting
from edgekit.bundle import Progress, Stage
from tests.bench.figures import ONE
from tests.conftest import Exported


class Watcher(Progress):
    """Remembers the stages it was told of."""

    def __init__(self) -> None:
        self.ended: list[str] = []

    def begin(self, stage: str) -> None:
        """Nothing is shown."""

    def end(self, stage: Stage) -> None:
        """Remembers it."""
        self.ended.append(stage.name)

    def note(self, text: str) -> None:
        """Nothing is shown."""


@pytest.fixture
def watcher() -> Watcher:
    return Watcher()


@pytest.fixture(scope="session")
def place(exported: Exported) -> Callable[..., Place]:
    """The exported ONNX artifact, or another file in its place, in a setting."""
    artifact = next(exported.folder.glob("*.onnx"))

    def made(path: Path = artifact, setting: Setting = ONE, runtime: str = "onnxruntime") -> Place:
        size = path.stat().st_size if path.exists() else 0
        return Place(runtime, path, size, exported.folder / "reference.safetensors", setting)

    return made


def disturbed(artifact: Path, into: Path) -> Path:
    """An ONNX file that differs from another in one channel of one weight, by a hundredth."""
    model = onnx.load(artifact)
    weight = max(model.graph.initializer, key=lambda each: len(each.raw_data))
    values = numpy_helper.to_array(weight).copy()
    values[0] *= 1.01
    weight.CopyFrom(numpy_helper.from_array(values, weight.name))
    onnx.save(model, into)
    return into


@pytest.fixture
def wrong(exported: Exported, tmp_path: Path) -> Path:
    """The exported artifact with one weight disturbed."""
    return disturbed(next(exported.folder.glob("*.onnx")), tmp_path / "wrong.fp32.onnx")
