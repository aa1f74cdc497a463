"""The twin of MobileNets: a depthwise network on which a runtime's default int8 loses points and edgekit's does not."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, quantize_static

from edgekit.budget import Answers, answers
from edgekit.bundle import read_manifest
from edgekit.cli import cli
from edgekit.evaluation.statistics import drop_interval
from edgekit.material import Material, gather
from edgekit.quant.base import Feed
from edgekit.quiet import silenced
from edgekit.user_module import load_file

SCRIPT = Path(__file__).parents[2] / "scripts" / "depthwise.py"


class Reader(CalibrationDataReader):  # type: ignore[misc]
    """The calibration images, one at a time."""

    def __init__(self, feeds: Iterator[Feed]) -> None:
        self.feeds = feeds

    def get_next(self) -> dict[str, NDArray[np.float32]]:
        return dict(next(self.feeds, {}))


def default(material: Material, folder: Path) -> Path:
    """The network through torch's exporter and `quantize_static` without an option: one scale for each tensor."""
    model, example = load_file(SCRIPT).depthwise()
    exact, rounded = folder / "default.fp32.onnx", folder / "default.int8.onnx"
    name = material.source.name
    torch.onnx.export(model, (example,), exact, dynamo=True, input_names=[name], external_data=False, verbose=False)
    quantize_static(exact, rounded, Reader(material.calibrating()))
    return rounded


def lost(before: Answers, after: Answers) -> tuple[float, float]:
    """The 95 % interval of the drop in points."""
    return drop_interval(int(np.sum(before & ~after)), int(np.sum(~before & after)), len(before))


@pytest.mark.slow
def test_the_default_loses_more_than_5_points_and_ours_less_than_1(tmp_path: Path) -> None:
    line = ("export", f"{SCRIPT}:depthwise", "--format", "onnx", "--int8", "--data", "patterns", "--no-cache")
    done = CliRunner().invoke(cli, [*line, "-o", str(tmp_path / "bundle")], prog_name="edgekit")
    assert done.exit_code == 0, done.output
    manifest = read_manifest(tmp_path / "bundle")
    exact, rounded = manifest.members
    (equalised,) = (each for each in rounded.lowering if each.name == "equalise")
    assert equalised.fired["equalise"] >= 12
    assert equalised.parity.max_abs == 0.0

    material = gather("patterns", manifest.model.preprocessing, manifest.inputs, 128)
    with silenced():
        naive = default(material, tmp_path)
    files = [tmp_path / "bundle" / member.artifact.files[0].name for member in (exact, rounded)]
    before, ours, theirs = (answers("onnxruntime", path, material) for path in (*files, naive))

    assert len(before) == 2000
    assert before.mean() > 0.9
    assert lost(before, theirs)[0] > 5.0
    assert lost(before, ours)[1] < 1.0
