"""Comparing files on this machine: what runs is timed, what does not is told."""

from pathlib import Path

import numpy as np
import pytest

from edgekit.errors import MisuseError
from edgekit.targets.board import core_name, load_board
from edgekit.tune.artifacts import EMPTY, Contest, worth_running
from edgekit.tune.measure import LocalBench, known, open_bench
from tests.conftest import Exported


@pytest.fixture
def inputs() -> dict[str, np.ndarray]:
    return {"input": np.linspace(-1, 1, 3 * 32 * 32, dtype=np.float32).reshape(1, 3, 32, 32)}


def test_this_machine_is_what_exports_for_the_host_are_for() -> None:
    with open_bench("local", 1, print) as bench:
        board = load_board("host")
        assert isinstance(bench, LocalBench)
        assert (bench.scene.cpu, bench.scene.architecture) == (board.clusters[0].core, board.architectures[0])
        assert (bench.scene.unit, bench.scene.threads, bench.scene.emulated) == ("ms", 1, False)
        assert {"onnxruntime", "torch"} <= bench.scene.runtimes


def test_files_are_timed_in_turn_and_one_that_does_not_load_is_told(
    exported: Exported, inputs: dict[str, np.ndarray], tmp_path: Path
) -> None:
    (artifact,) = exported.folder.glob("*.onnx")
    (tmp_path / "damaged.onnx").write_bytes(artifact.read_bytes()[:1000])
    contest = Contest(
        {"a": (artifact,), "b": (artifact,), "damaged": (tmp_path / "damaged.onnx",), EMPTY: (artifact,)}, inputs, {}
    )
    with open_bench("local", 1, print) as bench:
        measured = bench.measure(contest, "onnxruntime", 0.0)

    assert measured.package.startswith("onnxruntime ")
    assert measured.failures.keys() == {"damaged"}
    assert "damaged.onnx" in measured.failures["damaged"]
    assert measured.costs.keys() == measured.outputs.keys() == {"a", "b", EMPTY}
    assert set(measured.fastest) <= {"a", "b"}
    assert all(cost > 0 for costs in measured.costs.values() for cost in costs)
    assert np.array_equal(measured.outputs["a"], measured.outputs["b"])


def test_where_nothing_loads_nothing_wins(inputs: dict[str, np.ndarray], tmp_path: Path) -> None:
    (tmp_path / "damaged.onnx").write_bytes(b"nothing")
    with open_bench("local", 1, print) as bench:
        measured = bench.measure(Contest({"a": (tmp_path / "damaged.onnx",)}, inputs, {}), "onnxruntime", 0.0)
    assert (measured.fastest, measured.costs, list(measured.failures)) == ((), {}, ["a"])


@pytest.mark.parametrize(
    ("installed", "runtimes"),
    [
        (("onnxruntime", "numpy"), {"onnxruntime"}),
        (("tflite-runtime",), {"tflite"}),
        (("ai-edge-litert", "MNN"), {"tflite", "mnn"}),
        ((), set()),
    ],
)
def test_runtimes_are_known_by_their_distributions(installed: tuple[str, ...], runtimes: set[str]) -> None:
    assert known(installed) == runtimes


@pytest.mark.parametrize(("processor", "core"), [("0x41:0xd08", "Cortex-A72"), ("AMD EPYC", "AMD EPYC")])
def test_a_core_has_the_name_of_its_design(processor: str, core: str) -> None:
    assert core_name(processor) == core


def test_an_address_that_is_none_is_refused() -> None:
    with pytest.raises(MisuseError), open_bench("moon://base", 1, print):
        pass


def test_what_multiplies_much_more_than_the_least_is_not_worth_the_time() -> None:
    macs = {EMPTY: 100, "depthwise": 200, "toeplitz": 150, "dense": 600, "matmul": 601}
    assert worth_running(macs) == [EMPTY, "depthwise", "toeplitz", "dense"]
    assert worth_running({EMPTY: 100, "pieces": 100}) == [EMPTY, "pieces"]
