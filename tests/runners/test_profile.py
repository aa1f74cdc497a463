"""The runtimes' own profilers behind one face: complete, positive, and no change to what is computed."""

import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from edgekit import litert
from edgekit.errors import EnvironmentProblemError, MisuseError
from edgekit.exporters import EXPORTERS
from edgekit.exporters.base import Candidate
from edgekit.filegraph import read_graph
from edgekit.runners import load
from edgekit.runners.base import Profile, Runner

Artifact = Callable[[str], tuple[Candidate, ...]]
FORMATS = pytest.mark.parametrize("name", EXPORTERS)
RUNS = 3

LAYERS = {
    "onnx": ("Conv", ("Conv",)),
    "openvino": ("Convolution|GroupConvolution", ("Convolution", "GroupConvolution")),
    "tflite": ("CONV_2D|DEPTHWISE_CONV_2D|FULLY_CONNECTED", ("Convolution", "Fully Connected")),
    "pt2": ("conv2d", ("aten::conv2d",)),
    "mnn": ("Convolution|ConvolutionDepthwise", ("Convolution",)),
    "ncnn": ("Convolution|ConvolutionDepthWise", ("Convolution",)),
}
"""Layers as the file calls them, and how the runtime's kernels for them begin."""


def image() -> NDArray[np.float32]:
    return np.random.default_rng(0).standard_normal((1, 3, 64, 64)).astype(np.float32)


def opened(name: str, artifact: Artifact, threads: int = 1) -> Runner:
    return load(EXPORTERS[name].runtime, artifact(name)[0].files[0], threads)


def profiled(name: str, artifact: Artifact) -> Profile:
    with opened(name, artifact) as runner:
        return runner.profile({"input": image()}, RUNS)


@FORMATS
def test_every_operator_has_a_time_for_every_run(name: str, tiny_artifact: Artifact) -> None:
    found = profiled(name, tiny_artifact)
    runs = 1 if name == "openvino" else RUNS  # OpenVINO tells a mean only
    assert len(found.times) == runs
    assert {len(operator.times) for operator in found.operators} == {runs}
    assert all(time >= 0 for operator in found.operators for time in operator.times)
    assert min(found.times) > 0
    assert len({operator.name for operator in found.operators}) == len(found.operators)


@FORMATS
def test_operators_fit_into_the_run(name: str, tiny_artifact: Artifact) -> None:
    """With room for clocks of a microsecond, which round each operator of a network this small."""
    found = profiled(name, tiny_artifact)
    inside = [sum(times) for times in zip(*(operator.times for operator in found.operators), strict=True)]
    room = 1e-3 * len(found.operators)
    assert all(0 < each <= whole + room for each, whole in zip(inside, found.times, strict=True))


@FORMATS
def test_every_layer_of_the_file_is_there(name: str, tiny_artifact: Artifact) -> None:
    found = profiled(name, tiny_artifact)
    graph = read_graph(EXPORTERS[name].runtime, tiny_artifact(name)[0].files[0])
    kinds, kernels = LAYERS[name]
    layers = sum(node.kind in kinds.split("|") for node in graph.nodes.values())
    assert layers > 20
    made = sum(operator.kind.startswith(kernels) for operator in found.operators)
    # ONNX Runtime makes convolutions of scales too.
    assert made >= layers if name == "onnx" else made == layers


@FORMATS
def test_profiling_changes_no_result(name: str, tiny_artifact: Artifact) -> None:
    with opened(name, tiny_artifact) as runner:
        before = runner.run({"input": image()})["logits"]
        runner.profile({"input": image()}, 1)
        after = runner.run({"input": image()})["logits"]
    assert np.array_equal(before, after)


@FORMATS
def test_two_threads_are_profiled_too(name: str, tiny_artifact: Artifact) -> None:
    with opened(name, tiny_artifact, threads=2) as runner:
        assert len(runner.profile({"input": image()}, 1).operators) > 100


@FORMATS
def test_inputs_are_checked_before_anything_runs(name: str, tiny_artifact: Artifact) -> None:
    with opened(name, tiny_artifact) as runner, pytest.raises(MisuseError, match="Input 'input' is missing"):
        runner.profile({}, 1)


def test_onnx_runtime_leaves_no_trace_behind(
    tiny_artifact: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "work").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path / "work")
    assert profiled("onnx", tiny_artifact).operators
    assert [path.name for path in tmp_path.rglob("*")] == ["work"]


def test_torch_keeps_the_number_of_threads_that_the_process_had(tiny_artifact: Artifact) -> None:
    before = torch.get_num_threads()
    with opened("pt2", tiny_artifact, threads=before + 1) as runner:
        runner.profile({"input": image()}, 1)
    assert torch.get_num_threads() == before


def test_calls_that_are_not_the_programs_are_not_taken_for_them(
    tiny_artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened("pt2", tiny_artifact) as runner:
        monkeypatch.setattr(runner, "_calls", runner._calls[1:])  # type: ignore[attr-defined]
        with pytest.raises(EnvironmentProblemError, match=r"torch \S+ recorded \d+ calls where the program makes \d+"):
            runner.profile({"input": image()}, 1)


def test_litert_of_an_untried_version_is_not_called(tiny_artifact: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its declarations may be others, and a wrong call would end the process."""
    monkeypatch.setattr("edgekit.litert.version", lambda _: "2.4.0")
    monkeypatch.setattr("edgekit.litert.ctypes.CDLL", lambda path: pytest.fail(f"{path} was loaded"))
    with opened("tflite", tiny_artifact) as runner:
        message = r"TFLite cannot be profiled with ai-edge-litert 2\.4\.0: .* tried in versions 2\.3\.x only\. Run: pip"
        with pytest.raises(EnvironmentProblemError, match=message):
            runner.profile({"input": image()}, 1)


def test_the_installed_litert_is_one_that_was_tried() -> None:
    assert version(litert.PACKAGE).startswith(litert.TRIED)


def test_a_call_that_fails_is_an_error_in_words(tmp_path: Path) -> None:
    path = tmp_path / "net.tflite"
    path.write_bytes(b"garbage" * 99)
    message = r"LiteRT's profiler cannot be used: LiteRtCreateModelFromFile failed with status \d+"
    with pytest.raises(EnvironmentProblemError, match=message):
        litert.ProfiledModel(path, 1, {"input": image()})
