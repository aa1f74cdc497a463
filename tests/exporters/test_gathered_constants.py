"""Constants without their repeats: the same numbers once more, in smaller files, for everyone who reads them."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from edgekit.artifact import TensorSpec
from edgekit.capture import capture
from edgekit.exporters import gathered_constants, onnx_graph
from edgekit.exporters.base import Candidate, ExportSpec
from edgekit.exporters.gathered_constants import gather_constants, without_repeats
from edgekit.exporters.onnx import export
from edgekit.filegraph import read_graph
from edgekit.intake.onnx_source import OnnxSource
from edgekit.passes.base import Log
from edgekit.passes.lower.kernel_forms import KernelForms
from edgekit.program import Program, clone, constants, finish, run, stats
from edgekit.runners import load
from tests.passes.materialising import image

SHAPE = (1, 16, 32, 32)
SPEC = ExportSpec((TensorSpec(name="x", shape=SHAPE),), (TensorSpec(name="y", shape=SHAPE),), {})


def toeplitz_program() -> Program:
    """A layer, and an oversized pair written with banded matrices."""
    torch.manual_seed(0)
    across = nn.Conv2d(16, 16, (1, 63), padding=(0, 31), groups=16, bias=False)
    down = nn.Conv2d(16, 16, (63, 1), padding=(31, 0), groups=16, bias=False)
    program = clone(capture(nn.Sequential(nn.Conv2d(16, 16, 1), across, down).eval(), SHAPE))
    KernelForms(("toeplitz",))(program, Log())
    return finish(program)


@pytest.fixture(scope="module")
def program() -> Program:
    return toeplitz_program()


@pytest.fixture(scope="module")
def candidates(program: Program, tmp_path_factory: pytest.TempPathFactory) -> tuple[Candidate, ...]:
    return export(program, SPEC, tmp_path_factory.mktemp("gathered"), "net")


def expanded(model: onnx.ModelProto) -> dict[str, NDArray[np.float32]]:
    """Every constant by name, those that are gathered as numpy gathers them."""
    found = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Gather":
            found[node.output[0]] = np.take(found[node.input[0]], found[node.input[1]], axis=node.attribute[0].i)
    return found


def test_the_file_is_smaller_by_the_repeats_and_holds_every_bit(
    program: Program, candidates: tuple[Candidate, ...]
) -> None:
    small, whole = (candidate.files[0] for candidate in candidates)
    model = onnx.load(small)
    onnx.checker.check_model(model, full_check=True)
    matrices = [value.numpy() for _, value in constants(program) if value.ndim == 4 and value.shape[-1] == 32]
    found = [value for value in expanded(model).values() if value.shape == (1, 16, 32, 32)]

    assert len(matrices) == 2
    assert {value.tobytes() for value in matrices} == {value.tobytes() for value in found}
    saved = 2 * 16 * (32 * 32 - 63) * 4 - 32 * 32 * 4  # the distinct numbers are kept, and one index for both
    assert whole.stat().st_size - small.stat().st_size == pytest.approx(saved, abs=2000)
    assert candidates[0].notes[-1] == "2 constants stored without repeats"


def test_one_index_serves_all_constants_with_the_same_places(candidates: tuple[Candidate, ...]) -> None:
    gathers = [node for node in onnx.load(candidates[0].files[0]).graph.node if node.op_type == "Gather"]
    assert len(gathers) == 2
    assert len({node.input[1] for node in gathers}) == 1
    modules = [{entry.key: entry.value for entry in node.metadata_props} for node in gathers]
    assert modules == [{onnx_graph.MODULE_KEY: "1"}, {onnx_graph.MODULE_KEY: "2"}]


def test_onnx_runtime_gathers_when_it_loads_and_computes_the_same(
    candidates: tuple[Candidate, ...], tmp_path: Path
) -> None:
    x = image(SHAPE).numpy()
    results, kinds = [], []
    for candidate in candidates:
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = str(tmp_path / candidate.files[0].name)
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(str(candidate.files[0]), options, providers=["CPUExecutionProvider"])
        results.append(session.run(None, {"x": x})[0])
        kinds.append([node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node])
    assert kinds[0] == kinds[1]
    assert "Gather" not in kinds[0]
    assert results[0].tobytes() == results[1].tobytes()


def test_a_number_from_the_wrong_place_is_found(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(values: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        distinct, index = without_repeats(values)
        index[5, 9] = index[9, 5]
        return distinct, index

    expected = run(program, image(SHAPE))[0].numpy()
    for change, close in ((without_repeats, True), (wrong, False)):
        monkeypatch.setattr(gathered_constants, "without_repeats", change)
        with load("onnxruntime", export(program, SPEC, tmp_path, "net")[0].files[0]) as runner:
            found = runner.run({"x": image(SHAPE).numpy()})["y"]
        assert np.allclose(found, expected, atol=1e-4) is close


def test_it_is_the_same_bytes_again(program: Program, candidates: tuple[Candidate, ...], tmp_path: Path) -> None:
    again = export(program, SPEC, tmp_path, "net")
    assert again[0].files[0].read_bytes() == candidates[0].files[0].read_bytes()


def test_the_graph_of_the_file_has_no_more_nodes_than_run(program: Program, candidates: tuple[Candidate, ...]) -> None:
    small, whole = (read_graph("onnxruntime", candidate.files[0]) for candidate in candidates)
    assert [node.kind for node in small.nodes.values()] == [node.kind for node in whole.nodes.values()]
    assert small.macs == whole.macs == stats(program).macs
    product = next(node for node in small.nodes.values() if node.kind == "MatMul")
    assert small.traffic((product.name,)) == 3 * 16 * 32 * 32 * 4


def test_edgekit_takes_the_file_over(program: Program, candidates: tuple[Candidate, ...]) -> None:
    built = OnnxSource(candidates[0].files[0]).build()
    assert torch.allclose(built.model(image(SHAPE)), run(program, image(SHAPE))[0], atol=1e-5)


def test_what_differs_in_a_bit_or_in_one_channel_is_no_repeat() -> None:
    values = np.zeros((1, 2, 2, 3), np.float32)
    values[0, 0, 0, 1] = -0.0
    values[0, 1, 1, 2] = 1.0
    distinct, index = without_repeats(values)
    assert index.tolist() == [[0, 1, 0], [0, 0, 2]]
    assert np.take(distinct, index, axis=2).tobytes() == values.tobytes()


def banded(channels: int = 16) -> NDArray[np.float32]:
    """(1, C, 32, 32), constant along its diagonals."""
    numbers = np.random.default_rng(0).standard_normal((1, channels, 63)).astype(np.float32)
    rows, columns = np.indices((32, 32))
    return numbers[:, :, rows - columns + 31]


RANDOM = np.random.default_rng(1).standard_normal((1, 16, 32, 32)).astype(np.float32)


@pytest.mark.parametrize(
    ("value", "kinds", "gathered"),
    [
        pytest.param(banded(), ["MatMul"], 1, id="banded"),
        pytest.param(banded(), ["MatMul", "MatMul"], 1, id="read twice"),
        pytest.param(RANDOM, ["MatMul"], 0, id="without repeats"),
        pytest.param(banded(channels=8), ["MatMul"], 0, id="small"),
        pytest.param(banded(), ["MatMul", "Add"], 0, id="not for products alone"),
        pytest.param(banded().astype(np.float64), ["MatMul"], 0, id="float64"),
    ],
)
def test_only_constants_of_products_with_many_repeats_change(
    value: NDArray[np.float32], kinds: list[str], gathered: int
) -> None:
    nodes = [helper.make_node(kind, ["x", "w"], [f"y{index}"]) for index, kind in enumerate(kinds)]
    element = TensorProto.FLOAT if value.dtype == np.float32 else TensorProto.DOUBLE
    ports = [helper.make_tensor_value_info(name, element, value.shape) for name in ("x", "y0")]
    graph = helper.make_graph(nodes, "g", ports[:1], ports[1:], [numpy_helper.from_array(value, "w")])
    model = helper.make_model(graph)
    before = model.SerializeToString(deterministic=True)

    assert gather_constants(model) == gathered
    assert expanded(model)["w"].tobytes() == value.tobytes()
    assert (model.SerializeToString(deterministic=True) == before) is (gathered == 0)
