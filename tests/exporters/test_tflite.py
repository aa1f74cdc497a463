"""TFLite: the file is the network, aligned, says what it is, and is the same bytes whoever writes it, wherever."""

from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

from edgekit.artifact import TensorSpec
from edgekit.exporters.base import Candidate, ExportSpec
from edgekit.exporters.tflite import with_metadata
from edgekit.flatbuffer import CONSTANT_ALIGNMENT
from edgekit.network import Network, lower
from edgekit.program import operator_counts
from edgekit.runners import load
from edgekit.verify import failure, verify_file

Artifact = Callable[[str], tuple[Candidate, ...]]
Write = Callable[[Network, str, Path], tuple[Candidate, ...]]


@pytest.fixture(scope="module")
def path(tiny_artifact: Artifact) -> Path:
    (only,) = tiny_artifact("tflite")
    (file,) = only.files
    return file


def operator_names(content: bytes) -> Counter[str]:
    """How often each builtin operator occurs."""
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    names = {number: name for name, number in vars(schema.BuiltinOperator).items() if not name.startswith("_")}
    assert model.operatorCodes is not None
    assert model.subgraphs is not None
    codes = [max(code.builtinCode, code.deprecatedBuiltinCode) for code in model.operatorCodes]
    (graph,) = model.subgraphs
    assert graph.operators is not None
    return Counter(names[codes[operator.opcodeIndex]] for operator in graph.operators)


def test_the_file_is_the_network(tiny: Network, path: Path) -> None:
    assert path.name == "net.tflite"
    cases = verify_file("tflite", path, tiny.reference)
    assert failure(cases) is None
    assert len(cases) == 4


def test_operators_are_builtin_and_arrive_in_number(tiny: Network, path: Path) -> None:
    lowered = lower(tiny, "tflite", "fp32").program
    program, graph = operator_counts(lowered), operator_names(path.read_bytes())
    assert "CUSTOM" not in graph
    assert graph["DEPTHWISE_CONV_2D"] == 12  # four 7x7 and the four oversized pairs beside them
    convolutions = graph["CONV_2D"] + graph["DEPTHWISE_CONV_2D"] + graph["FULLY_CONNECTED"] + graph["BATCH_MATMUL"]
    assert convolutions == program["conv2d"] + program["linear"] + program["matmul"]
    assert graph["GELU"] == program["gelu"] == 8
    assert not {"RESIZE_BILINEAR", "SPLIT", "SPLIT_V", "SHAPE"} & set(graph)


def test_every_buffer_of_constants_is_aligned_in_the_file(path: Path) -> None:
    """Where each byte vector starts, found through the flatbuffer itself."""
    content = path.read_bytes()
    model = schema.Model.GetRootAs(content, 0)
    whole = np.frombuffer(content, dtype=np.uint8)
    starts = []
    for index in range(model.BuffersLength()):
        buffer = model.Buffers(index)
        assert buffer is not None
        data = buffer.DataAsNumpy()
        if isinstance(data, np.ndarray) and data.size:
            starts.append(data.__array_interface__["data"][0] - whole.__array_interface__["data"][0])
            assert content[starts[-1] : starts[-1] + data.size] == data.tobytes()
    assert len(starts) > 60
    assert CONSTANT_ALIGNMENT == 16
    assert {start % 16 for start in starts} == {0}


def test_the_identifier_says_tflite_and_the_description_names_the_model(path: Path) -> None:
    content = path.read_bytes()
    assert content[4:8] == b"TFL3"
    model = schema.Model.GetRootAs(content, 0)
    assert (model.Version(), model.Description()) == (3, b"tiny")


def test_inputs_and_outputs_have_the_networks_names_and_fixed_shapes(path: Path) -> None:
    runner = Interpreter(model_path=str(path)).get_signature_runner()
    (source,), (result,) = runner.get_input_details().items(), runner.get_output_details().items()
    assert (source[0], source[1]["shape"].tolist(), source[1]["dtype"]) == ("input", [1, 3, 64, 64], np.float32)
    assert (result[0], result[1]["shape"].tolist(), result[1]["dtype"]) == ("logits", [1, 10], np.float32)


def test_the_metadata_comes_back(path: Path, metadata: Mapping[str, str]) -> None:
    with load("tflite", path) as runner:
        assert runner.metadata() == dict(metadata)


def test_metadata_can_be_added_to_what_already_has_some(
    path: Path, metadata: Mapping[str, str], tmp_path: Path
) -> None:
    spec = ExportSpec((TensorSpec(name="input", shape=(1, 3, 64, 64)),), (), {"edgekit.more": "yes"})
    (tmp_path / "more.tflite").write_bytes(with_metadata(path.read_bytes(), spec, ()))
    with load("tflite", tmp_path / "more.tflite") as runner:
        assert runner.metadata() == {**metadata, "edgekit.more": "yes"}


def test_nothing_tells_where_the_file_was_written(path: Path) -> None:
    content = path.read_bytes()
    assert b".py" not in content
    for folder in (Path.home(), Path.cwd(), Path(torch.__file__).parent, path.parent):
        assert str(folder).encode() not in content


def test_it_runs_without_xnnpack_as_well(tiny: Network, path: Path) -> None:
    """32-bit boards have plain kernels only."""
    from ai_edge_litert.interpreter import OpResolverType

    interpreter = Interpreter(
        model_path=str(path), experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    )
    interpreter.allocate_tensors()
    case = tiny.reference.cases[0]
    (output,) = interpreter.get_signature_runner()(input=case.inputs[0]).values()
    np.testing.assert_allclose(output, case.outputs[0].values, rtol=1e-4, atol=1e-5)
