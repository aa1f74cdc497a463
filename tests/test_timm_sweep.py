"""The sweep over timm: a sample of it verified in every format, and a table that hides no failure."""

import importlib.util
import re
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

import pytest

from edgekit.exporters import EXPORTERS
from tests.timm_beside_torch import import_timm

SCRIPT = Path(__file__).parents[1] / "scripts" / "timm_sweep.py"
PAGE = SCRIPT.parents[1] / "benchmarks" / "timm_sweep.md"
FORMATS = ("onnx", "openvino", "tflite", "mnn", "ncnn")
SIDE = 64


@pytest.fixture(scope="module")
def sweep() -> ModuleType:
    import_timm()
    found = importlib.util.spec_from_file_location("timm_sweep", SCRIPT)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("index", range(5))
def test_sample_is_verified_in_every_format(sweep: ModuleType, index: int) -> None:
    assert set(EXPORTERS) - {"pt2"} == set(FORMATS)  # torch's own file is no other format
    name = sweep.SAMPLE[index]
    worst, failures = sweep.attempt(name, (1, 3, SIDE, SIDE), FORMATS)
    assert failures == {}, name
    assert list(worst) == list(FORMATS)
    assert min(worst.values()) >= 80.0, name


def test_failure_is_in_the_table_with_its_reason(sweep: ModuleType) -> None:
    rows = list(sweep.sweep({"resnet10x": "ResNet"}, ("onnx", "tflite"), native=False))
    page = sweep.document(rows, ("onnx", "tflite"), "the command")
    assert "Verified: 0 of 1 in onnx, 0 of 1 in tflite." in page
    assert "| resnet10x | ResNet |  | failed | failed | 0 |" in page
    (reason,) = [line for line in page.splitlines() if line.startswith("- ")]
    assert reason.startswith("- `resnet10x`, onnx, tflite: MisuseError: timm ")
    assert "Did you mean resnet10t" in reason
    assert f"timm {version('timm')}" in page


def test_page_is_read_as_it_was_written(sweep: ModuleType, tmp_path: Path) -> None:
    rows = [
        sweep.Row("resnet18", "ResNet", "1x3x64x64", 12.0, {"onnx": 121.0, "tflite": 116.0}, {}),
        sweep.Row("levit_128s", "ViT", "1x3x224x224", 4.0, {"onnx": 90.0}, {"tflite": "ParityError: 28 dB, too few."}),
    ]
    page = tmp_path / "page.md"
    page.write_text(sweep.document(rows, ("onnx", "tflite"), "the command"))
    assert list(sweep.measured(page, ("onnx", "tflite")).values()) == rows
    assert sweep.measured(page, ("onnx",)) == {}
    assert sweep.measured(tmp_path / "none.md", ("onnx",)) == {}


def test_sample_is_of_the_table_and_every_name_is_in_timm(sweep: ModuleType) -> None:
    every = sweep.chosen_names(None, None)
    assert len(every) >= 40
    assert list(sweep.chosen_names(None, 5)) == list(sweep.SAMPLE)
    assert [name for name in every if not import_timm().is_model(name)] == []
    assert [name for name in every if f"\n| {name} |" not in PAGE.read_text()] == []


def test_readme_says_what_the_page_says(sweep: ModuleType) -> None:
    rows = re.findall(r"^\| \w+ \|.* dB .*$|^\| \w+ \|.* failed .*$", PAGE.read_text(), re.MULTILINE)
    verified = [row for row in rows if " failed " not in row]
    readme = " ".join((PAGE.parents[1] / "README.md").read_text().split())
    assert f"Of {len(rows)} architectures of every kind, {len(verified)} were exported and verified" in readme
