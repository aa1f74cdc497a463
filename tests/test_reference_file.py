"""The reference as a file: what is read is what was written, and what is damaged is one error."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save_file

from edgekit.artifact import TensorSpec
from edgekit.errors import BundleError
from edgekit.exporters.base import Candidate
from edgekit.network import Network
from edgekit.numerics import SAMPLE, sampled
from edgekit.reference_file import KEY, read_reference, write_reference
from edgekit.verify import Expected, Reference, ReferenceCase, failure, verify_file

Artifact = Callable[[str], tuple[Candidate, ...]]
Tensors = dict[str, NDArray[Any]]

IMAGE = TensorSpec(name="image", shape=(1, 3, 2, 2), layout="NCHW")
CODE = TensorSpec(name="code", shape=(5,))
SCALE = TensorSpec(name="scale", shape=())
SCORES = TensorSpec(name="scores", shape=(1, 4), layout="NC")
MAP = TensorSpec(name="map", shape=(1, 2, 3, 3), layout="NCHW")


def values(*shape: int, seed: int = 0) -> NDArray[np.float64]:
    return np.random.default_rng(seed).standard_normal(shape)


def case(name: str, seed: int = 0) -> ReferenceCase:
    images = tuple(values(*spec.shape, seed=seed + 1).astype(np.float32) for spec in (IMAGE, CODE))
    outputs = (Expected(values(1, 4, seed=seed), 130.5 + seed), Expected(values(1, 2, 3, 3, seed=seed), 99.25))
    return ReferenceCase(name, images, outputs)


def pair() -> Reference:
    """Two inputs, two outputs, two cases."""
    return Reference((IMAGE, CODE), (SCORES, MAP), (case("noise"), case("edges", seed=7)))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    written = tmp_path / "reference.safetensors"
    write_reference(pair(), written)
    return written


def check_same(read: Reference, original: Reference) -> None:
    assert (read.inputs, read.outputs) == (original.inputs, original.outputs)
    assert [case.name for case in read.cases] == [case.name for case in original.cases]
    for stored, wanted in zip(read.cases, original.cases, strict=True):
        for image, other in zip(stored.inputs, wanted.inputs, strict=True):
            assert np.array_equal(image, other)
            assert image.dtype == np.float32
        for expected, also in zip(stored.outputs, wanted.outputs, strict=True):
            assert np.array_equal(expected.values, also.values)
            assert expected.values.dtype == np.float64
            assert expected.noise_db == also.noise_db


def test_the_reference_of_a_network_comes_back_unchanged(tiny: Network, tmp_path: Path) -> None:
    write_reference(tiny.reference, tmp_path / "file")
    check_same(read_reference(tmp_path / "file"), tiny.reference)


def test_several_inputs_and_outputs_come_back_in_order(path: Path) -> None:
    check_same(read_reference(path), pair())


def test_tensors_have_names_one_can_read(path: Path) -> None:
    with safe_open(path, framework="numpy") as file:
        names = list(file.keys())
        head = json.loads(file.metadata()[KEY])
    kinds = ("input.0", "input.1", "output.0", "output.1")
    assert sorted(names) == sorted(f"{name}.{kind}" for name in ("noise", "edges") for kind in kinds)
    assert [spec["name"] for spec in head["inputs"]] == ["image", "code"]
    assert [spec["name"] for spec in head["outputs"]] == ["scores", "map"]
    assert head["cases"][1] == {"name": "edges", "noise_db": [137.5, 99.25]}


def test_a_reference_is_written_with_the_same_bytes_every_time(path: Path, tmp_path: Path) -> None:
    write_reference(pair(), tmp_path / "second")
    write_reference(read_reference(path), tmp_path / "third")
    assert len({file.read_bytes() for file in (path, tmp_path / "second", tmp_path / "third")}) == 1


def test_strided_tensors_are_stored_as_they_look(tmp_path: Path) -> None:
    image = np.arange(12, dtype=np.float32).reshape(1, 3, 2, 2).transpose(0, 1, 3, 2)
    scores = np.arange(4.0).reshape(1, 4)[:, ::-1]
    cases = (ReferenceCase("noise", (image,), (Expected(scores, 120.0),)),)
    write_reference(Reference((IMAGE,), (SCORES,), cases), tmp_path / "file")
    (read,) = read_reference(tmp_path / "file").cases
    assert np.array_equal(read.inputs[0], image)
    assert np.array_equal(read.outputs[0].values, scores)


def test_single_numbers_stay_single_numbers(tmp_path: Path) -> None:
    one = TensorSpec(name="one", shape=())
    cases = (ReferenceCase("noise", (np.array(2.0, np.float32),), (Expected(np.array(0.5), 140.0),)),)
    write_reference(Reference((one,), (SCALE,), cases), tmp_path / "file")
    (read,) = read_reference(tmp_path / "file").cases
    assert (read.inputs[0].shape, read.outputs[0].values.shape) == ((), ())
    assert (float(read.inputs[0]), float(read.outputs[0].values)) == (2.0, 0.5)


def test_a_dense_output_is_stored_thinned_under_its_whole_shape(tmp_path: Path) -> None:
    dense = TensorSpec(name="map", shape=(1, 16, 256, 256), layout="NCHW")
    kept = sampled(values(*dense.shape))
    outputs = (Expected(kept, 120.0),)
    cases = (ReferenceCase("noise", (case("noise").inputs[0],), outputs),)
    write_reference(Reference((IMAGE,), (dense,), cases), tmp_path / "file")

    read = read_reference(tmp_path / "file")
    assert read.outputs == (dense,)
    assert np.array_equal(read.cases[0].outputs[0].values, kept)
    assert (tmp_path / "file").stat().st_size < 8 * SAMPLE + 10_000


def test_a_stored_reference_judges_like_the_original(tiny: Network, tiny_artifact: Artifact, tmp_path: Path) -> None:
    artifact = tiny_artifact("onnx")[0].files[0]
    write_reference(tiny.reference, tmp_path / "file")
    fresh = verify_file("onnxruntime", artifact, tiny.reference)
    assert verify_file("onnxruntime", artifact, read_reference(tmp_path / "file")) == fresh
    assert failure(fresh) is None


# -- damage ---------------------------------------------------------------------------------------------------------


def parts(path: Path) -> tuple[Tensors, dict[str, Any]]:
    """The tensors of a reference and what it says about them."""
    with safe_open(path, framework="numpy") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, json.loads(file.metadata()[KEY])  # noqa: SIM118


def rewrite(path: Path, change: Callable[[Tensors, dict[str, Any]], object]) -> None:
    tensors, head = parts(path)
    change(tensors, head)
    save_file(tensors, path, {KEY: json.dumps(head)})


def make_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGES: dict[str, Callable[[Path], object]] = {
    "garbage": lambda path: path.write_bytes(b"garbage" * 100),
    "empty": lambda path: path.write_bytes(b""),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-100]),
    "missing": Path.unlink,
    "folder": make_folder,
    "no-metadata": lambda path: save_file(parts(path)[0], path),
    "other-metadata": lambda path: save_file(parts(path)[0], path, {"format": "pt"}),
    "no-json": lambda path: save_file(parts(path)[0], path, {KEY: "{"}),
    "no-object": lambda path: save_file(parts(path)[0], path, {KEY: "[]"}),
    "of-edgekit-0.1": lambda path: save_file(parts(path)[0], path, {KEY: '{"cases": [["noise", 99.0]]}'}),
    "no-cases": lambda path: rewrite(path, lambda _, head: head.pop("cases")),
    "noise-of-another-kind": lambda path: rewrite(path, lambda _, head: head["cases"][0].update(noise_db=99.0)),
    "input-lost": lambda path: rewrite(path, lambda tensors, _: tensors.pop("noise.input.1")),
    "output-lost": lambda path: rewrite(path, lambda tensors, _: tensors.pop("edges.output.1")),
}


@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_reference_is_one_error_that_names_the_file_and_the_remedy(how: str, path: Path) -> None:
    DAMAGES[how](path)
    message = r"reference\.safetensors is no reference of a bundle \((.|\n)+\)\. Export the model again\."
    with pytest.raises(BundleError, match=message):
        read_reference(path)


@pytest.mark.parametrize(
    "change",
    [
        lambda against: replace(against, cases=()),
        lambda against: replace(against, inputs=(), cases=(replace(against.cases[0], inputs=()),)),
        lambda against: replace(against, outputs=(), cases=(replace(against.cases[0], outputs=()),)),
    ],
    ids=["cases", "inputs", "outputs"],
)
def test_a_reference_without_anything_is_nothing_to_compare_with(
    change: Callable[[Reference], Reference], tmp_path: Path
) -> None:
    write_reference(change(pair()), tmp_path / "file")
    with pytest.raises(BundleError, match=r"\(it holds no case, so there is nothing to compare with\)\. Export"):
        read_reference(tmp_path / "file")


@pytest.mark.parametrize(
    "change",
    [
        lambda tensors, head: tensors.update({"edges.input.1": np.zeros((1, 5), np.float32)}),
        lambda tensors, head: tensors.update({"edges.output.0": np.zeros((1, 5))}),
        lambda tensors, head: head["outputs"][1].update(shape=[1, 2, 3, 4]),
        lambda tensors, head: head["outputs"].pop(),
        lambda tensors, head: head["cases"][1]["noise_db"].pop(),
        lambda tensors, head: head["outputs"][1].update(shape=[1, 2, -3, -3]),
        lambda tensors, head: head["outputs"][1].update(shape=[1, 1 << 31, 1 << 31, 1 << 31]),
    ],
    ids=[
        "input",
        "output",
        "said-otherwise",
        "output-not-told",
        "noise-not-told",
        "negative",
        "larger-than-memory",
    ],
)
def test_tensors_that_are_not_what_the_file_says_are_one_error(
    change: Callable[[Tensors, dict[str, Any]], object], path: Path
) -> None:
    rewrite(path, change)
    message = r"reference\.safetensors is no reference of a bundle \((.+)\)\. Export the model again\."
    with pytest.raises(BundleError, match=message):
        read_reference(path)
