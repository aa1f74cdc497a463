"""Every runtime behind one face: names, shapes, metadata, and errors in edgekit's own words."""

import io
import sys
import zipfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgekit.artifact import TensorSpec
from edgekit.capture import capture
from edgekit.errors import ArtifactError, MissingExtraError, MisuseError
from edgekit.exporters import EXPORTERS
from edgekit.exporters.base import Candidate, ExportSpec
from edgekit.network import Network
from edgekit.runners import RUNNERS, load

Artifact = Callable[[str], tuple[Candidate, ...]]
FORMATS = pytest.mark.parametrize("name", EXPORTERS)


def image(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal(shape or (1, 3, 64, 64)).astype(np.float32)


def runtime(name: str) -> str:
    return EXPORTERS[name].runtime


def test_every_runtime_of_the_exporters_has_a_runner() -> None:
    assert {entry.runtime for entry in EXPORTERS.values()} == set(RUNNERS)
    for entry in EXPORTERS.values():
        _, package, extra = RUNNERS[entry.runtime]
        assert package in entry.packages
        assert extra == entry.extra


@FORMATS
def test_a_runner_gives_names_and_shapes_and_runs_by_name(name: str, tiny: Network, tiny_artifact: Artifact) -> None:
    with load(runtime(name), tiny_artifact(name)[0].files[0]) as runner:
        assert [(spec.name, spec.shape) for spec in runner.inputs] == [("input", (1, 3, 64, 64))]
        assert [(spec.name, spec.shape) for spec in runner.outputs] == [("logits", (1, 10))]
        case = tiny.reference.cases[0]
        outputs = runner.run({"input": case.inputs[0]})
    assert list(outputs) == ["logits"]
    assert outputs["logits"].dtype == np.float32
    np.testing.assert_allclose(outputs["logits"], case.outputs[0].values, rtol=1e-4, atol=1e-5)


@FORMATS
def test_results_stay_when_the_next_inference_runs(name: str, tiny_artifact: Artifact) -> None:
    with load(runtime(name), tiny_artifact(name)[0].files[0]) as runner:
        first = runner.run({"input": image()})["logits"]
        kept = first.copy()
        second = runner.run({"input": image(seed=1)})["logits"]
        again = runner.run({"input": image()})["logits"]
    assert np.array_equal(first, kept)
    assert not np.array_equal(first, second)
    assert np.array_equal(first, again)


@FORMATS
def test_strided_and_read_only_inputs_are_read_as_they_look(name: str, tiny_artifact: Artifact) -> None:
    plain = image()
    strided = np.ascontiguousarray(plain.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    frozen = plain.copy()
    frozen.flags.writeable = False
    with load(runtime(name), tiny_artifact(name)[0].files[0]) as runner:
        expected, *others = (runner.run({"input": given})["logits"] for given in (plain, strided, frozen))
    for found in others:
        assert np.array_equal(found, expected)


@FORMATS
def test_two_threads_compute_the_same_network(name: str, tiny_artifact: Artifact) -> None:
    path = tiny_artifact(name)[0].files[0]
    with load(runtime(name), path) as one, load(runtime(name), path, threads=2) as two:
        first, second = (runner.run({"input": image()})["logits"] for runner in (one, two))
    np.testing.assert_allclose(first, second, rtol=1e-5, atol=1e-6)


@FORMATS
def test_the_metadata_of_the_export_comes_back(name: str, tiny_artifact: Artifact, metadata: Mapping[str, str]) -> None:
    with load(runtime(name), tiny_artifact(name)[0].files[0]) as runner:
        assert runner.metadata() == dict(metadata)


@FORMATS
@pytest.mark.parametrize("shape", [(1, 3, 32, 64), (2, 3, 64, 64), (3, 64, 64), (1, 64, 64, 3)])
def test_another_input_shape_is_refused_with_the_command_that_exports_it(
    name: str, shape: tuple[int, ...], tiny_artifact: Artifact
) -> None:
    asked = "x".join(map(str, shape))
    message = (
        rf"locked to input 1x3x64x64, and was given {asked}\. Its kernels were materialised for that size; "
        rf"export again with `edgekit export MODEL --input {asked}`"
    )
    with load(runtime(name), tiny_artifact(name)[0].files[0]) as runner, pytest.raises(MisuseError, match=message):
        runner.run({"input": image(*shape)})


@FORMATS
@pytest.mark.parametrize(
    ("names", "message"),
    [([], "Input 'input' is missing; given were: none"), (["image", "x"], "is missing; given were: image, x")],
    ids=["none", "others"],
)
def test_a_missing_input_is_refused(name: str, names: list[str], message: str, tiny_artifact: Artifact) -> None:
    with load(runtime(name), tiny_artifact(name)[0].files[0]) as runner, pytest.raises(MisuseError, match=message):
        runner.run(dict.fromkeys(names, image()))


@FORMATS
@pytest.mark.parametrize("how", ["garbage", "empty", "half", "missing"])
def test_a_file_that_does_not_load_is_an_artifact_error(
    name: str, how: str, tiny_artifact: Artifact, tmp_path: Path
) -> None:
    files = tiny_artifact(name)[0].files
    for file in files:
        (tmp_path / file.name).write_bytes(file.read_bytes())
    path = tmp_path / files[0].name
    content = path.read_bytes()
    if how == "missing":
        path.unlink()
    else:
        path.write_bytes({"garbage": b"garbage" * 99, "empty": b"", "half": content[: len(content) // 2]}[how])
    with pytest.raises(
        ArtifactError, match=rf"(ONNX Runtime|OpenVINO|TFLite|MNN|ncnn|torch) does not load {path.name}: \S"
    ) as caught:
        load(runtime(name), path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("how", ["missing", "half"])
def test_openvino_needs_the_whole_bin_beside_the_xml(how: str, tiny_artifact: Artifact, tmp_path: Path) -> None:
    xml, weights = tiny_artifact("openvino")[0].files
    (tmp_path / xml.name).write_bytes(xml.read_bytes())
    if how == "half":
        content = weights.read_bytes()
        (tmp_path / weights.name).write_bytes(content[: len(content) // 2])
    with pytest.raises(ArtifactError, match=r"OpenVINO does not load net\.xml: \S"):
        load("openvino", tmp_path / xml.name)


def test_openvino_computes_in_float32_whatever_the_processor_offers(tiny_artifact: Artifact) -> None:
    with load("openvino", tiny_artifact("openvino")[0].files[0], threads=1) as runner:
        compiled = runner._request.get_compiled_model()  # type: ignore[attr-defined]
        assert compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name() == "f32"
        assert compiled.get_property("INFERENCE_NUM_THREADS") == 1


@pytest.mark.parametrize(
    ("name", "module", "package", "extra"),
    [
        ("openvino", "openvino", "openvino", "openvino"),
        ("tflite", "ai_edge_litert.interpreter", "ai-edge-litert", "tflite"),
        ("mnn", "MNN", "mnn", "mnn"),
        ("ncnn", "ncnn", "ncnn", "ncnn"),
    ],
    ids=["openvino", "tflite", "mnn", "ncnn"],
)
def test_a_runtime_that_is_not_installed_is_named_with_its_extra(
    name: str, module: str, package: str, extra: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)  # what Python has for a module that cannot be imported
    monkeypatch.delitem(sys.modules, f"edgekit.runners.{name}", raising=False)
    path = tmp_path / f"net{EXPORTERS[name].suffixes[0]}"
    message = rf"Running {path.name} needs {package}, which is not installed\. Run: pip install 'edgekit\[{extra}\]'"
    with pytest.raises(MissingExtraError, match=message):
        load(name, path)


def test_a_runtime_that_a_newer_edgekit_added_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        ArtifactError, match=r"^net\.nnapi is for runtime 'nnapi', which this edgekit does not know\. Update"
    ):
        load("nnapi", tmp_path / "net.nnapi")


class Scaled(nn.Module):
    """A reshape, then a factor."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(3, True).mean(2, True).reshape(1, 8) * 2.0


def test_names_that_openvino_adds_are_not_the_networks(tmp_path: Path) -> None:
    """When it moves a factor through a reshape, the output gets the reshape's names besides its own."""
    inputs, outputs = (TensorSpec(name="input", shape=(1, 8, 4, 4)),), (TensorSpec(name="logits", shape=(1, 8)),)
    program = capture(Scaled().eval(), inputs[0].shape)
    (candidate,) = EXPORTERS["openvino"].load()(program, ExportSpec(inputs, outputs, {}), tmp_path, "net")
    with load("openvino", candidate.files[0]) as runner:
        assert [spec.name for spec in (*runner.inputs, *runner.outputs)] == ["input", "logits"]
        given = image(1, 8, 4, 4)
        np.testing.assert_allclose(runner.run({"input": given})["logits"], 2 * given.mean((2, 3)), rtol=1e-4, atol=1e-6)


@FORMATS
def test_closing_twice_does_no_harm(name: str, tiny_artifact: Artifact) -> None:
    runner = load(runtime(name), tiny_artifact(name)[0].files[0])
    runner.close()
    runner.close()


class Bomb:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return Path.touch, (self.mark,)


def test_torch_runs_nothing_that_is_in_a_file(tiny_artifact: Artifact, tmp_path: Path) -> None:
    mark, armed, pickled = tmp_path / "ran", tmp_path / "armed.pt2", io.BytesIO()
    torch.save(Bomb(mark), pickled)
    with zipfile.ZipFile(tiny_artifact("pt2")[0].files[0]) as old, zipfile.ZipFile(armed, "w") as new:
        for entry in old.infolist():
            is_input = entry.filename.endswith("sample_inputs/model.pt")
            new.writestr(entry.filename, pickled.getvalue() if is_input else old.read(entry))
    with pytest.raises(ArtifactError, match=r"torch does not load armed\.pt2: reading it could run code in it"):
        load("torch", armed)
    assert not mark.exists()
    with suppress(Exception):
        torch.export.load(armed)
    assert mark.exists(), "the file is no bomb, so the test above proves nothing"


def test_torch_keeps_the_number_of_threads_that_the_process_had(tiny_artifact: Artifact) -> None:
    before = torch.get_num_threads()
    with load("torch", tiny_artifact("pt2")[0].files[0], threads=before + 1) as runner:
        runner.run({"input": image()})
    assert torch.get_num_threads() == before
