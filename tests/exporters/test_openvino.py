"""OpenVINO: the file is the network in float32, says what it is, and is the same bytes whoever writes it, wherever."""

import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

import openvino
import pytest
import torch

from edgekit.errors import OutputError
from edgekit.exporters.base import Candidate
from edgekit.network import Network, lower
from edgekit.numerics import compare_one
from edgekit.program import operator_counts
from edgekit.runners import load
from edgekit.verify import failure, verify_file

Artifact = Callable[[str], tuple[Candidate, ...]]
Write = Callable[[Network, str, Path], tuple[Candidate, ...]]


@pytest.fixture(scope="module")
def candidate(tiny_artifact: Artifact) -> Candidate:
    (only,) = tiny_artifact("openvino")
    return only


@pytest.fixture(scope="module")
def layers(candidate: Candidate) -> list[ElementTree.Element]:
    return ElementTree.parse(candidate.files[0]).getroot().findall("./layers/layer")  # noqa: S314


def test_the_file_is_the_network(tiny: Network, candidate: Candidate) -> None:
    assert [file.name for file in candidate.files] == ["net.xml", "net.bin"]
    cases = verify_file("openvino", candidate.files[0], tiny.reference)
    assert failure(cases) is None
    assert len(cases) == 4


def test_every_float_constant_is_float32(
    tiny: Network, candidate: Candidate, layers: list[ElementTree.Element]
) -> None:
    types = Counter(
        data.get("element_type") for layer in layers if layer.get("type") == "Const" for data in layer.findall("data")
    )
    assert types["f32"]
    assert not {"f16", "bf16", "f64"} & set(types)
    assert not [layer for layer in layers if layer.get("type") == "Convert"]
    # OpenVINO folds a scale into the layer behind it; in a narrower type there would be half as many bytes.
    assert candidate.files[1].stat().st_size > 3.9 * tiny.certificates[-1].after.parameters


def test_operators_arrive_whole_and_in_number(tiny: Network, layers: list[ElementTree.Element]) -> None:
    lowered = lower(tiny, "openvino", "fp32").program
    program, graph = operator_counts(lowered), Counter(layer.get("type") for layer in layers)
    assert graph["Convolution"] + graph["GroupConvolution"] == program["conv2d"] == 40
    assert graph["Gelu"] == program["gelu"] == 8
    assert graph["MatMul"] == program["linear"] == 1
    assert graph["MVN"] == program["layer_norm"] == 1
    assert not {"Interpolate", "Split", "VariadicSplit", "ShapeOf"} & set(graph)


def test_inputs_and_outputs_have_the_networks_names_and_fixed_shapes(candidate: Candidate) -> None:
    model = openvino.Core().read_model(str(candidate.files[0]))
    assert [(port.get_any_name(), list(port.shape)) for port in model.inputs] == [("input", [1, 3, 64, 64])]
    assert [(port.get_any_name(), list(port.shape)) for port in model.outputs] == [("logits", [1, 10])]
    assert {port.get_element_type().get_type_name() for port in (*model.inputs, *model.outputs)} == {"f32"}
    assert model.get_friendly_name() == "tiny"


def test_the_metadata_comes_back(candidate: Candidate, metadata: Mapping[str, str]) -> None:
    with load("openvino", candidate.files[0]) as runner:
        assert runner.metadata() == dict(metadata)


def test_the_file_asks_for_float32_arithmetic(candidate: Candidate) -> None:
    model = openvino.Core().read_model(str(candidate.files[0]))
    options = model.get_rt_info("runtime_options").astype(dict)
    assert {key: str(value.value) for key, value in options.items()} == {"INFERENCE_PRECISION_HINT": "f32"}
    assert "INFERENCE_PRECISION_HINT=f32" in candidate.notes[0]


def test_a_place_that_cannot_be_written_is_no_fault_of_the_network(
    tiny: Network, write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise RuntimeError("Check 'bin_file' failed at src/core/src/pass/serialize.cpp:1\nNo space left on device")

    monkeypatch.setattr(openvino, "save_model", full)
    with pytest.raises(OutputError, match=r"net\.xml cannot be written: Check 'bin_file' failed [^\n]+$"):
        write(tiny, "openvino", tmp_path)


def test_nothing_tells_where_the_file_was_written(candidate: Candidate) -> None:
    content = candidate.files[0].read_bytes()
    assert b".py" not in content
    for folder in (Path.home(), Path.cwd(), Path(torch.__file__).parent, candidate.files[0].parent):
        assert str(folder).encode() not in content


@pytest.mark.skipif(
    "BF16" not in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"),
    reason="this processor has no bfloat16 instructions, so OpenVINO has nothing to choose",
)
def test_what_openvino_does_by_itself_is_another_network(tiny: Network, candidate: Candidate) -> None:
    """It computes in bfloat16 unless it is told not to, silently; the gate of a float32 artifact shuts it out."""
    core = openvino.Core()
    compiled = core.compile_model(core.read_model(str(candidate.files[0])), "CPU")
    case = tiny.reference.cases[0]
    output = compiled(dict(zip((port.get_any_name() for port in compiled.inputs), case.inputs, strict=True)))[0]

    assert compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name() == "bf16"
    (verified, *_) = verify_file("openvino", candidate.files[0], tiny.reference)
    reached = compare_one(case.outputs[0].values, output).snr_db
    assert reached < 50.0 < verified.gate_db <= verified.parity.snr_db
