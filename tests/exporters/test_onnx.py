"""ONNX: the file is the network, says what it is, and is the same bytes whoever writes it, wherever."""

import re
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

import onnx
import pytest
import torch

from edgekit.exporters.base import Candidate
from edgekit.exporters.onnx import OPSET
from edgekit.exporters.onnx_graph import MODULE_KEY
from edgekit.network import Network, lower
from edgekit.program import module_path, operator_counts, operators
from edgekit.runners import load
from edgekit.verify import failure, verify_file

Artifact = Callable[[str], tuple[Candidate, ...]]
Write = Callable[[Network, str, Path], tuple[Candidate, ...]]


@pytest.fixture(scope="module")
def candidates(tiny_artifact: Artifact) -> tuple[Candidate, ...]:
    return tiny_artifact("onnx")


@pytest.fixture(scope="module")
def model(candidates: tuple[Candidate, ...]) -> onnx.ModelProto:
    return onnx.load(candidates[0].files[0])


def test_the_simplified_graph_comes_first_and_both_are_the_network(
    tiny: Network, candidates: tuple[Candidate, ...]
) -> None:
    assert [candidate.label for candidate in candidates] == ["simplified", "plain"]
    assert [[file.name for file in candidate.files] for candidate in candidates] == [
        ["net.onnx"],
        ["net.unsimplified.onnx"],
    ]
    for candidate in candidates:
        cases = verify_file("onnxruntime", candidate.files[0], tiny.reference)
        assert failure(cases) is None
        assert len(cases) == 4


def test_the_notes_tell_opset_and_what_simplification_did(candidates: tuple[Candidate, ...]) -> None:
    plain = onnx.load(candidates[1].files[0])
    simplified = onnx.load(candidates[0].files[0])
    counts = f"onnxsim: {len(plain.graph.node)} nodes to {len(simplified.graph.node)}"
    assert candidates[0].notes == ("opset 20", counts)
    assert candidates[1].notes == ("opset 20",)


def test_one_opset_and_no_other_domain(model: onnx.ModelProto) -> None:
    assert [(entry.domain, entry.version) for entry in model.opset_import if entry.domain in ("", "ai.onnx")] == [
        ("", OPSET)
    ]
    assert OPSET == 20
    assert {node.domain for node in model.graph.node} == {""}
    assert not model.functions
    onnx.checker.check_model(model, full_check=True)


def test_operators_arrive_whole_and_in_number(tiny: Network, model: onnx.ModelProto) -> None:
    lowered = lower(tiny, "onnxruntime", "fp32").program
    program, graph = operator_counts(lowered), Counter(node.op_type for node in model.graph.node)
    assert graph["Conv"] == program["conv2d"] == 40
    assert graph["LayerNormalization"] == program["layer_norm"] == 13
    assert graph["Gelu"] == program["gelu"] == 8
    assert graph["Gemm"] + graph["MatMul"] == program["linear"] == 1
    assert not {"Resize", "Split", "Erf", "ReduceL2", "Shape"} & set(graph)


def test_inputs_and_outputs_have_the_networks_names_and_fixed_shapes(model: onnx.ModelProto) -> None:
    def described(value: onnx.ValueInfoProto) -> tuple[str, int, list[int]]:
        tensor = value.type.tensor_type
        return value.name, tensor.elem_type, [dimension.dim_value for dimension in tensor.shape.dim]

    float32 = onnx.TensorProto.FLOAT
    assert [described(value) for value in model.graph.input] == [("input", float32, [1, 3, 64, 64])]
    assert [described(value) for value in model.graph.output] == [("logits", float32, [1, 10])]


def test_the_metadata_comes_back(candidates: tuple[Candidate, ...], metadata: Mapping[str, str]) -> None:
    for candidate in candidates:
        with load("onnxruntime", candidate.files[0]) as runner:
            assert runner.metadata() == dict(metadata)


@pytest.mark.parametrize("which", [0, 1], ids=["simplified", "plain"])
def test_every_node_tells_its_module(tiny: Network, candidates: tuple[Candidate, ...], which: int) -> None:
    model = onnx.load(candidates[which].files[0])
    lowered = lower(tiny, "onnxruntime", "fp32").program
    modules = {module_path(node) for node in operators(lowered)}
    told = [{entry.key: entry.value for entry in node.metadata_props} for node in model.graph.node]
    assert {key for entries in told for key in entries} == {MODULE_KEY}
    assert {entries[MODULE_KEY] for entries in told if entries} <= modules
    convolutions = [
        {entry.key: entry.value for entry in node.metadata_props}.get(MODULE_KEY)
        for node in model.graph.node
        if node.op_type == "Conv"
    ]
    assert None not in convolutions
    assert {"downsample_layers.0.conv", "stages.3.0.token_mixer.pwconv2"} <= set(convolutions)


def test_nothing_tells_where_the_file_was_written(candidates: tuple[Candidate, ...]) -> None:
    for candidate in candidates:
        content = candidate.files[0].read_bytes()
        assert not re.search(rb"stack_trace|\.py\b|site-packages", content)
        for folder in (Path.home(), Path.cwd(), Path(torch.__file__).parent, candidate.files[0].parent):
            assert str(folder).encode() not in content
        model = onnx.load(candidate.files[0])
        assert not any(node.doc_string for node in model.graph.node)
        assert (model.doc_string, model.graph.doc_string, model.graph.name) == ("", "", "tiny")


def test_weights_are_in_the_file_as_float32(tiny: Network, model: onnx.ModelProto) -> None:
    assert all(tensor.data_location == onnx.TensorProto.DEFAULT for tensor in model.graph.initializer)
    floats = [tensor for tensor in model.graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT]
    assert not any(tensor.data_type == onnx.TensorProto.DOUBLE for tensor in model.graph.initializer)
    assert sum(len(tensor.raw_data) // 4 for tensor in floats) == tiny.certificates[-1].after.parameters
