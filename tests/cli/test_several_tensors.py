"""Networks with several inputs and several outputs, from the command line to the verified bundle and back."""

import hashlib
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from click.testing import CliRunner, Result
from onnx import helper, numpy_helper

from edgekit.bundle import MANIFEST, read_manifest
from edgekit.cli import cli
from edgekit.exporters import EXPORTERS
from tests.cli.conftest import Run

NETS = """
import torch
from torch import nn

class Base(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.embed = nn.Linear(8, 4)
        self.scale = nn.Parameter(torch.tensor(0.7))

class Several(Base):
    def forward(self, a, b):
        found = self.conv(a).relu()
        code = self.embed(b)
        return {"map": found, "parts": (found[:, :, ::11, ::11].mean((2, 3)) * code, [code.tanh()])}

class Difference(Base):
    def forward(self, a, b):
        left, right = self.conv(a), self.conv(2 * b)
        return left - 2 * right, left + right

class SameNames(Base):
    def forward(self, a, b):
        return {"a": self.conv(a).relu(), "b": self.embed(b)}

class InsideNames(Base):
    def forward(self, conv2d, relu):
        return {"linear": self.conv(conv2d).relu(), "out": self.embed(relu)}

class Constant(Base):
    def forward(self, a, b):
        return {"map": self.conv(a), "scale": self.scale.exp()}

class Equal(Base):
    def forward(self, a):
        found = self.conv(a)
        return {"first": found.relu(), "second": found.relu(), "flat": found.relu().flatten(2), "mean": found.mean()}

class Vector(Base):
    def forward(self, features):
        return self.embed(features)

class Decided(Base):
    def forward(self, a):
        scores = self.conv(a).mean((2, 3))
        return {"scores": scores, "winner": scores.argmax(1)}

class Inputs(Base):
    def forward(self, a, b):
        return {"map": self.conv(a), "code": b}

class Empty(Base):
    def forward(self, a):
        return {"map": self.conv(a), "none": a[:, :0]}
"""

SEVERAL = ("--input", "a=1x3x32x32", "--input", "b=1x8")
NAMES = ["map", "parts_0", "parts_1_0"]


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(each) for each in arguments], prog_name="edgekit", catch_exceptions=False)


@pytest.fixture(scope="module")
def nets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("nets") / "nets.py"
    path.write_text(NETS)
    return path


def made(name: str, nets: Path, folder: Path, *options: str, formats: tuple[str, ...] = ("onnx",)) -> Path:
    """The bundle of one of the networks."""
    chosen = [word for each in formats for word in ("--format", each)]
    result = invoke("export", f"{nets}:{name}", *options, *chosen, "--no-cache", "-o", folder / name)
    assert result.exit_code == 0, result.output
    return folder / name


@pytest.fixture(scope="module")
def several(nets: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made("Several", nets, tmp_path_factory.mktemp("several"), *SEVERAL)


@pytest.fixture(scope="module")
def difference(nets: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    sizes = ("--input", "a=1x3x16x16", "--input", "b=1x3x16x16")
    return made("Difference", nets, tmp_path_factory.mktemp("difference"), *sizes)


def artifact(bundle: Path) -> Path:
    (path,) = bundle.glob("*.onnx")
    return path


def names(bundle: Path) -> tuple[list[str], list[str]]:
    """Names of the inputs and outputs of the ONNX file, which are the manifest's and the reference's."""
    manifest, graph = read_manifest(bundle), onnx.load(artifact(bundle)).graph
    found = [value.name for value in graph.input], [value.name for value in graph.output]
    assert found == ([spec.name for spec in manifest.inputs], [spec.name for spec in manifest.outputs])
    assert {case.output for member in manifest.members for case in member.parity} == set(found[1])
    return found


# -- the bundle -----------------------------------------------------------------------------------------------------


def test_the_manifest_has_every_tensor_and_every_figure(several: Path) -> None:
    manifest = read_manifest(several)
    assert [(spec.name, spec.shape, spec.layout) for spec in manifest.inputs] == [
        ("a", (1, 3, 32, 32), "NCHW"),
        ("b", (1, 8), ""),
    ]
    assert [(spec.name, spec.shape) for spec in manifest.outputs] == [
        ("map", (1, 4, 32, 32)),
        ("parts_0", (1, 4)),
        ("parts_1_0", (1, 4)),
    ]
    (member,) = manifest.members
    assert [(case.case, case.output) for case in member.parity] == [
        (case, name) for case in ("noise", "natural", "edges", "flat") for name in NAMES
    ]
    assert all(case.passed for case in member.parity)
    assert manifest.model.classes == 0


def test_the_file_has_the_names_and_computes_the_network(several: Path, nets: Path) -> None:
    assert names(several) == (["a", "b"], NAMES)
    session = onnxruntime.InferenceSession(artifact(several), providers=["CPUExecutionProvider"])
    generator = np.random.default_rng(5)
    given = {"a": (1, 3, 32, 32), "b": (1, 8)}
    images = {name: generator.standard_normal(shape).astype(np.float32) for name, shape in given.items()}
    space: dict[str, Any] = {}
    exec(nets.read_text(), space)  # noqa: S102 - the test's own text
    torch.manual_seed(0)  # what intake seeds a user's code with
    with torch.no_grad():
        expected = space["Several"]().eval()(*(torch.from_numpy(image) for image in images.values()))
    found = session.run(NAMES, images)
    wanted = [expected["map"], expected["parts"][0], expected["parts"][1][0]]
    for values, tensor in zip(found, wanted, strict=True):
        np.testing.assert_allclose(np.asarray(values), tensor.numpy(), rtol=1e-4, atol=1e-5)


def test_every_command_tells_of_all_tensors(run: Run, several: Path, nets: Path) -> None:
    shown = " ".join(run("inspect", several).stdout.split())
    assert "a 1x3x32x32 NCHW, b 1x8, this size only" in shown
    assert "map 1x4x32x32, parts_0 1x4, parts_1_0 1x4" in shown
    assert "same network" in run("verify", several).stdout
    dry = run("export", f"{nets}:Several", *SEVERAL, "--dry-run", "--json")
    assert json.loads(dry.stdout)["input"] == "a=1x3x32x32 b=1x8"
    metadata = {entry.key: entry.value for entry in onnx.load(artifact(several)).metadata_props}
    assert metadata["edgekit.input"] == "a=1x3x32x32 b=1x8"
    assert metadata["edgekit.layout"] == "NCHW, none"


def test_a_vector_alone_is_an_input_as_well(run: Run, nets: Path) -> None:
    result = run("export", f"{nets}:Vector", "--input", "features=2x8", "--format", "onnx", "--no-cache")
    assert result.exit_code == 0, result.output
    (bundle,) = Path("edgekit-out").iterdir()
    assert bundle.name == "nets-Vector-2x8-n2-arm"
    assert names(bundle) == (["features"], ["output"])
    assert run("verify", bundle).exit_code == 0


@pytest.mark.parametrize(
    ("name", "options", "outputs"),
    [
        ("SameNames", ("--input", "a=1x3x8x8", "--input", "b=1x8"), ["a_2", "b_2"]),
        ("InsideNames", ("--input", "conv2d=1x3x8x8", "--input", "relu=1x8"), ["linear", "out"]),
        ("Constant", ("--input", "a=1x3x8x8", "--input", "b=1x8"), ["map", "scale"]),
        ("Equal", ("--input", "a=1x3x8x8"), ["first", "second", "flat", "mean"]),
    ],
)
def test_names_and_values_that_meet_stay_apart(
    run: Run, nets: Path, tmp_path: Path, name: str, options: tuple[str, ...], outputs: list[str]
) -> None:
    bundle = made(name, nets, tmp_path, *options)
    assert names(bundle) == ([word.partition("=")[0] for word in options[1::2]], outputs)
    assert run("verify", bundle).exit_code == 0


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("Several", (), r"takes 2 inputs\. Give the sizes of a, b: --input a=1x3x224x224 --input b="),
        ("Several", ("--input", "32"), r"takes 2 inputs\. Give their sizes: --input a="),
        ("Several", ("--input", "a=1x3x8x8"), r"Give the sizes of b: --input b="),
        ("Several", (*SEVERAL, "--input", "c=1"), r"has no input 'c'; it has a, b\."),
        (
            "Several",
            ("--input", "a=1x3x8x8", "--input", "b=1x9"),
            r"run on an input of 1x3x8x8, 1x9, failed at .*nets\.py:",
        ),
        (
            "Decided",
            ("--input", "8"),
            r"float32 values, .* Return the values they are made of, such as logits, and decide on the",
        ),
        ("Inputs", ("--input", "a=1x3x8x8", "--input", "b=1x8"), r"returns one of its inputs as 'code', which it does"),
        ("Empty", ("--input", "8"), r"'none'.*empty|empty.*'none'"),
    ],
    ids=["no-sizes", "one-size", "one-missing", "one-too-many", "no-fit", "decision", "input-returned", "empty"],
)
def test_what_cannot_be_exported_is_one_line(
    run: Run, nets: Path, name: str, options: tuple[str, ...], message: str
) -> None:
    result = run("export", f"{nets}:{name}", *options, "--format", "onnx", "-o", "out")
    assert result.exit_code == 2, result.output
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert re.search(message, line), line
    assert not Path("out").exists()


# -- the cache ------------------------------------------------------------------------------------------------------


def test_the_order_of_the_sizes_means_nothing(run: Run, nets: Path) -> None:
    for folder, options in (("one", SEVERAL), ("two", (*SEVERAL[2:], *SEVERAL[:2]))):
        assert run("export", f"{nets}:Several", *options, "--format", "onnx", "-o", folder).exit_code == 0
    assert names(Path("two")) == (["a", "b"], NAMES)
    assert artifact(Path("one")).read_bytes() == artifact(Path("two")).read_bytes()
    assert [stage.name for stage in read_manifest(Path("two")).stages if stage.cached] == ["network", "onnx"]


@pytest.mark.parametrize("which", ["output", "input"])
def test_another_name_is_not_taken_from_the_cache(run: Run, tmp_path: Path, which: str) -> None:
    """The numbers are the same, the interface is not."""
    path = tmp_path / "net.py"
    code = "{'before': self.conv(image)}"
    sizes = ("16", "image=1x3x16x16" if which == "input" else "16")
    found = []
    for folder, size in zip(("one", "two"), sizes, strict=True):
        text = code.replace("before", "after") if (which, folder) == ("output", "two") else code
        path.write_text(NETS + f"\nclass Net(Base):\n    def forward(self, image):\n        return {text}\n")
        result = run("export", f"{path}:Net", "--input", size, "--format", "onnx", "-o", folder)
        assert result.exit_code == 0, result.output
        found.append(names(Path(folder)))
        assert run("verify", folder).exit_code == 0
    changed = (["input"], ["after"]) if which == "output" else (["image"], ["before"])
    assert found == [(["input"], ["before"]), changed]


# -- the negative twins ---------------------------------------------------------------------------------------------


def twin(bundle: Path, folder: Path, change: Callable[[onnx.GraphProto], object]) -> Path:
    """A copy of a bundle whose artifact was changed, with a manifest that vouches for it."""
    copy = folder / "twin"
    shutil.copytree(bundle, copy)
    model = onnx.load(artifact(copy))
    change(model.graph)
    onnx.checker.check_model(model, full_check=True)
    content = model.SerializeToString()
    artifact(copy).write_bytes(content)
    manifest = json.loads((copy / MANIFEST).read_text())
    manifest["members"][0]["artifact"]["files"][0].update(size=len(content), sha256=hashlib.sha256(content).hexdigest())
    (copy / MANIFEST).write_text(json.dumps(manifest))
    return copy


def scaled(graph: onnx.GraphProto, name: str, factor: float) -> None:
    """Multiplies one output."""
    for node in graph.node:
        node.output[:] = [f"{name}_true" if output == name else output for output in node.output]
        node.input[:] = [f"{name}_true" if given == name else given for given in node.input]
    graph.initializer.append(numpy_helper.from_array(np.array(factor, dtype=np.float32), "factor"))
    graph.node.append(helper.make_node("Mul", [f"{name}_true", "factor"], [name]))


def exchanged(graph: onnx.GraphProto, first: str, second: str) -> None:
    """Gives two tensors each other's names."""
    other = {first: second, second: first}
    for node in graph.node:
        node.input[:] = [other.get(name, name) for name in node.input]
        node.output[:] = [other.get(name, name) for name in node.output]


def test_a_file_that_was_only_written_anew_passes(run: Run, several: Path, tmp_path: Path) -> None:
    """Or what the tests below find might come of how they change the file."""
    copy = twin(several, tmp_path, lambda graph: scaled(graph, "map", 1.0))
    assert run("verify", copy).exit_code == 0


@pytest.mark.parametrize("name", NAMES)
def test_one_wrong_output_is_found_and_named(run: Run, several: Path, tmp_path: Path, name: str) -> None:
    copy = twin(several, tmp_path, lambda graph: scaled(graph, name, 1.0001))
    result = run("verify", copy)
    assert result.exit_code == 1
    message = rf"onnx is not the same network: 80\.\d dB on input '\w+', output '{name}', 1\d\d\.\d dB required"
    assert re.search(message, result.stderr), result.stderr


@pytest.mark.parametrize("pair", [("a", "b"), ("output_0", "output_1")], ids=["inputs", "outputs"])
def test_tensors_of_one_shape_that_are_taken_for_each_other_are_found(
    run: Run, difference: Path, tmp_path: Path, pair: tuple[str, str]
) -> None:
    assert names(difference) == (["a", "b"], ["output_0", "output_1"])
    assert run("verify", difference).exit_code == 0
    copy = twin(difference, tmp_path, lambda graph: exchanged(graph, *pair))
    result = run("verify", copy)
    assert result.exit_code == 1
    assert re.search(
        r"is not the same network: -?\d+\.\d dB on input '(noise|natural|edges)', output 'output_[01]'", result.stderr
    )


# -- every format ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("Several", SEVERAL),
        ("Difference", ("--input", "a=1x3x16x16", "--input", "b=1x3x16x16")),
        ("SameNames", SEVERAL),
        ("InsideNames", ("--input", "conv2d=1x3x8x8", "--input", "relu=1x8")),
        ("Constant", SEVERAL),
        ("Equal", ("--input", "a=1x3x8x8")),
        ("Vector", ("--input", "features=2x8")),
    ],
)
def test_every_format_has_all_tensors(
    run: Run, nets: Path, tmp_path: Path, name: str, options: tuple[str, ...]
) -> None:
    formats = tuple(each for each in EXPORTERS if each != "ncnn")  # it has neither batches nor scalars
    bundle = made(name, nets, tmp_path, *options, formats=formats)
    manifest = read_manifest(bundle)
    assert tuple(member.artifact.format for member in manifest.members) == formats
    assert [spec.name for spec in manifest.inputs] == [word.partition("=")[0] for word in options[1::2]]
    for member in manifest.members:
        assert [case.output for case in member.parity] == 4 * [spec.name for spec in manifest.outputs]
    assert run("verify", bundle).exit_code == 0
