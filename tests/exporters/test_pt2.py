"""torch's own file: it loads without edgekit, tells nothing of where it was made, and can be exported again."""

import json
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from torch import Tensor, nn

from edgekit.archive import reason_for_distrust
from edgekit.artifact import TensorSpec
from edgekit.capture import capture
from edgekit.cli import cli
from edgekit.errors import ConverterError
from edgekit.exporters.base import Candidate, ExportSpec
from edgekit.exporters.pt2 import export
from edgekit.intake import resolve
from edgekit.network import Network, lower
from edgekit.program import constant_names, constants, module_path, operator_counts, operators, run
from edgekit.runners import load
from edgekit.verify import failure, verify_file

Artifact = Callable[[str], tuple[Candidate, ...]]
WriteProgram = Callable[[Network, nn.Module, str, Path], tuple[Candidate, ...]]

WITHOUT_EDGEKIT = """
import sys
sys.modules["edgekit"] = None      # importing it fails
import torch
image, expected = torch.load(sys.argv[2])
module = torch.export.load(sys.argv[1]).module()
found = module(image)
assert isinstance(found, torch.Tensor) and not found.requires_grad, found
torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-5)
assert {name for name in sys.modules if name.startswith("edgekit.")} == set()
"""


@pytest.fixture(scope="module")
def path(tiny_artifact: Artifact) -> Path:
    (candidate,) = tiny_artifact("pt2")
    (file,) = candidate.files
    return file


@pytest.fixture(scope="module")
def exported(path: Path) -> torch.export.ExportedProgram:
    return torch.export.load(path)


def test_it_is_one_file_that_is_the_network(tiny: Network, path: Path) -> None:
    cases = verify_file("torch", path, tiny.reference)
    assert path.name == "net.pt2"
    assert failure(cases) is None
    assert len(cases) == 4


def test_plain_torch_reads_and_runs_it(tiny: Network, path: Path, tmp_path: Path) -> None:
    case = tiny.reference.cases[0]
    torch.save((torch.from_numpy(case.inputs[0]), torch.from_numpy(case.outputs[0].values)), tmp_path / "case.pt")
    process = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", WITHOUT_EDGEKIT, str(path), str(tmp_path / "case.pt")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr


def test_operators_are_the_programs(tiny: Network, exported: torch.export.ExportedProgram) -> None:
    lowered = lower(tiny, "torch", "fp32").program
    assert operator_counts(exported.module(check_guards=False)) == operator_counts(lowered)


def test_weights_are_parameters_without_gradients_and_no_more_than_needed(
    tiny: Network, exported: torch.export.ExportedProgram, path: Path
) -> None:
    floats = [value for value in exported.state_dict.values() if value.is_floating_point()]
    assert all(isinstance(value, nn.Parameter) and not value.requires_grad for value in floats)
    assert sum(value.numel() for value in floats) == tiny.certificates[-1].after.parameters
    assert not any(re.search(r"_\d+$", name) for name in exported.state_dict)
    with zipfile.ZipFile(path) as archive:
        stored = sum(entry.file_size for entry in archive.infolist() if "/weights/weight_" in entry.filename)
    assert stored == sum(value.numel() * value.element_size() for value in exported.state_dict.values())


def test_every_node_tells_its_module(tiny: Network, exported: torch.export.ExportedProgram) -> None:
    lowered = lower(tiny, "torch", "fp32").program
    told = [module_path(node) for node in exported.graph.nodes if node.op == "call_function"]
    assert told == [module_path(node) for node in lowered.graph.nodes if node.op == "call_function"]
    assert "stages.3.0.token_mixer.pwconv2" in told


def test_the_names_and_the_metadata_come_back(path: Path, metadata: Mapping[str, str]) -> None:
    extra = {"edgekit.json": ""}
    exported = torch.export.load(path, extra_files=extra)
    assert json.loads(extra["edgekit.json"]) == {
        "inputs": ["input"],
        "outputs": ["logits"],
        "metadata": dict(metadata),
    }
    assert exported.graph_signature.user_inputs == ("input",)


def test_nothing_tells_where_or_when_the_file_was_written(path: Path) -> None:
    content = path.read_bytes()
    assert not re.search(rb"stack_trace|from_node|graph_id|\.py\b|site-packages|tests\.|ParCNet", content)
    for folder in (Path.home(), Path.cwd(), Path(torch.__file__).parent, path.parent):
        assert str(folder).encode() not in content
    with zipfile.ZipFile(path) as archive:
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 0, 0, 0, 0, 0)}
        assert {entry.compress_type for entry in archive.infolist()} == {zipfile.ZIP_STORED}


def test_it_needs_no_trust_and_its_programs_is_the_one_written(tiny: Network, path: Path) -> None:
    with path.open("rb") as file:
        assert reason_for_distrust(file) is None
    built = resolve(str(path)).build()
    again = capture(built.model, (1, 3, 64, 64))
    case = tiny.reference.cases[0]
    torch.testing.assert_close(
        run(again, torch.from_numpy(case.inputs[0]))[0].double(),
        torch.from_numpy(case.outputs[0].values),
        rtol=1e-4,
        atol=1e-5,
    )
    lowered = lower(tiny, "torch", "fp32").program
    assert operator_counts(again) == operator_counts(lowered)
    assert {module_path(node) for node in operators(again)} == {module_path(node) for node in operators(lowered)}


def test_another_size_is_refused_by_torch_itself(exported: torch.export.ExportedProgram) -> None:
    with pytest.raises((RuntimeError, AssertionError), match=r"input.*64"):
        exported.module()(torch.zeros(1, 3, 32, 64))


def test_a_wrong_weight_is_found(tiny: Network, write_program: WriteProgram, tmp_path: Path) -> None:
    lowered = lower(tiny, "torch", "fp32").program
    name = next(name for name in constant_names(lowered) if name.endswith("pwconv2.weight"))
    weight = dict(constants(lowered))[name]
    kept = weight.clone()
    try:
        weight[0] *= 1.01
        (candidate,) = write_program(tiny, lowered, "pt2", tmp_path)
    finally:
        weight.copy_(kept)
    assert failure(verify_file("torch", candidate.files[0], tiny.reference)) is not None


class Sided(nn.Module):
    """A constant that is a view of a larger tensor, a tied weight, and whole numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.large = nn.Parameter(torch.arange(1000.0).reshape(10, 100))
        self.view = nn.Parameter(self.large[3:5, 10:14].detach())
        self.tied = self.view
        self.order: Tensor
        self.register_buffer("order", torch.tensor([1, 0]))

    def forward(self, x: Tensor) -> Tensor:
        rows: Tensor = (self.view * 2.0 + self.tied)[self.order]
        return torch.nn.functional.linear(x, rows)


def test_only_what_is_read_is_stored(tmp_path: Path) -> None:
    model = Sided().eval()
    spec = ExportSpec((TensorSpec(name="x", shape=(3, 4)),), (TensorSpec(name="y", shape=(3, 2)),), {})
    (candidate,) = export(capture(model, (3, 4)), spec, tmp_path, "net")
    exported = torch.export.load(candidate.files[0])
    found = exported.module()(torch.ones(3, 4))
    torch.testing.assert_close(found, model(torch.ones(3, 4)))
    assert sorted(tuple(value.shape) for value in exported.state_dict.values()) == [(2,), (2, 4)]
    with zipfile.ZipFile(candidate.files[0]) as archive:
        sizes = [entry.file_size for entry in archive.infolist() if "/weights/weight_" in entry.filename]
    assert sum(sizes) == 2 * 4 * 4 + 2 * 8


def test_a_file_without_names_of_edgekit_runs_under_those_of_torch(tmp_path: Path) -> None:
    file = tmp_path / "plain.pt2"
    torch.export.save(torch.export.export(nn.Linear(4, 2).eval(), (torch.zeros(1, 4),)), file)
    with load("torch", file) as runner:
        assert [(spec.name, spec.shape) for spec in runner.inputs] == [("input", (1, 4))]
        assert [(spec.name, spec.shape) for spec in runner.outputs] == [("linear", (1, 2))]
        assert runner.metadata() == {}


def test_what_torch_cannot_export_is_the_converters_failure(
    tiny: Network, write_program: WriteProgram, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("no such operator")

    monkeypatch.setattr("torch.export.export", refuse)
    lowered = lower(tiny, "torch", "fp32").program
    with pytest.raises(ConverterError, match=r"torch\.export could not write the program: no such operator"):
        write_program(tiny, lowered, "pt2", tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_command_line_exports_it_again_and_verifies_both(tmp_path: Path) -> None:
    def call(*line: str) -> str:
        result = CliRunner().invoke(cli, line, prog_name="edgekit", catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.output

    first, second = tmp_path / "first", tmp_path / "second"
    call("export", "parnet_cifar_w32", "--format", "pt2", "-o", str(first), "--no-cache")
    call("verify", str(first))
    file = first / "parnet_cifar_w32.fp32.pt2"
    call("export", str(file), "--format", "onnx", "--format", "pt2", "-o", str(second), "--no-cache")
    call("verify", str(second))
    assert {entry.suffix for entry in second.iterdir()} == {".onnx", ".pt2", ".json", ".safetensors"}
