"""MNN: the file is the network although its converter would change it, and the converter stays off the network."""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import MNN
import pytest
import torch
from torch.nn import functional

from edgekit.errors import ConverterError
from edgekit.exporters.base import Candidate
from edgekit.exporters.mnn import FLOAT32, LEVEL_KEY, LEVELS, OPSET
from edgekit.exporters.onnx_graph import to_graph
from edgekit.mnn_tools import CONVERTER, reason
from edgekit.network import Network
from edgekit.process import Finished, run_script
from edgekit.program import Program
from edgekit.runners import load
from edgekit.runners.base import read_description
from edgekit.verify import failure, verify_file
from tests.exporters.one_layer import Function, described, lowered, program, snr_db, written
from tests.sealed import CAUGHT, sealed

_mnn: Any = MNN  # compiled, and says nothing of its types

Artifact = Callable[[str], tuple[Candidate, ...]]
Write = Callable[[Network, str, Path], tuple[Candidate, ...]]

CHANGED_DB, EQUAL_DB = 80.0, 120.0
"""Above the first no output of these networks may come that the converter changed; the second float32 reaches."""

TRAPS: Mapping[str, tuple[Function, int]] = {
    "Euclidean norm": (lambda x: x / torch.linalg.vector_norm(x, dim=1, keepdim=True), OPSET),
    "norm of order 1": (lambda x: x / x.norm(p=1, dim=1, keepdim=True), OPSET),
    "GELU": (functional.gelu, 20),
    "GELU by hand": (lambda x: (torch.erf(x * 0.70710678) + 1.0) * x * 0.5, OPSET),
}
"""What the converter changes without a word, and the opset in which it does."""


def naively(network: Program, opset: int, folder: Path) -> Path:
    """The file that MNN's converter makes of torch's ONNX."""
    spec = described(network)
    (folder / "net.onnx").write_bytes(to_graph(network, spec, opset).SerializeToString())
    text = spec.described({LEVEL_KEY: 3})
    arguments = ["--bizCode", text, "-f", "ONNX", "--modelFile", "net.onnx", "--MNNModel", "net.mnn"]
    assert run_script(CONVERTER, arguments, folder).status == 0
    return folder / "net.mnn"


@pytest.fixture(scope="module")
def candidate(tiny_artifact: Artifact) -> Candidate:
    return tiny_artifact("mnn")[0]


def test_the_file_is_the_network(tiny: Network, candidate: Candidate) -> None:
    assert [file.name for file in candidate.files] == ["net.mnn"]
    assert candidate.notes == (FLOAT32,)
    cases = verify_file("mnn", candidate.files[0], tiny.reference)
    assert failure(cases) is None
    assert len(cases) == 4


def test_mnn_itself_finds_the_names_and_what_the_network_is(candidate: Candidate, metadata: Mapping[str, str]) -> None:
    information = _mnn.nn.load_module_from_file(str(candidate.files[0]), [], []).get_info()
    assert (information["inputNames"], information["outputNames"]) == (["input"], ["logits"])
    assert information["bizCode"].isascii()
    with load("mnn", candidate.files[0]) as runner:
        assert runner.metadata() == dict(metadata)


def test_the_candidates_differ_in_a_setting_of_the_runtime(tiny: Network, tiny_artifact: Artifact) -> None:
    candidates = tiny_artifact("mnn")
    assert [each.label for each in candidates] == list(LEVELS)
    assert [each.notes[1:] for each in candidates] == [
        (),
        ("set the hint WINOGRAD_MEMORY_LEVEL to 1",),
        ("set the hint WINOGRAD_MEMORY_LEVEL to 0",),
    ]
    for each, level in zip(candidates, LEVELS.values(), strict=True):
        described = read_description(_mnn.nn.load_module_from_file(str(each.files[0]), [], []).get_info()["bizCode"])
        assert described.settings == {LEVEL_KEY: level}
        assert failure(verify_file("mnn", each.files[0], tiny.reference)) is None


def test_the_identifier_tells_one_network_from_another(sliver_artifact: Artifact, candidate: Candidate) -> None:
    identifiers = {_mnn.get_model_uuid(str(file)) for file in (candidate.files[0], sliver_artifact("mnn")[0].files[0])}
    assert len(identifiers) == 2
    assert all(re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", each) for each in identifiers)


def test_nothing_tells_where_the_file_was_written(candidate: Candidate) -> None:
    content = candidate.files[0].read_bytes()
    assert not re.search(rb"stack_trace|\.py\b|site-packages|net\.onnx", content)
    for folder in (Path.home(), Path.cwd(), Path(torch.__file__).parent, candidate.files[0].parent):
        assert str(folder).encode() not in content


@pytest.mark.parametrize(
    "trap",
    [
        "Euclidean norm",
        "GELU",
        *(pytest.param(each, marks=pytest.mark.slow) for each in ("norm of order 1", "GELU by hand")),
    ],
)
def test_what_the_converter_changes_without_a_word_is_kept(trap: str, tmp_path: Path) -> None:
    function, opset = TRAPS[trap]
    network = program(function)
    assert snr_db(network, "mnn", naively(network, opset, tmp_path)) < CHANGED_DB

    candidate, *_ = written(lowered(network, "mnn"), "mnn", tmp_path)
    assert snr_db(network, "mnn", candidate.files[0]) > EQUAL_DB


@pytest.mark.parametrize(
    ("function", "operator"),
    [(lambda x: x / x.norm(dim=1, keepdim=True), "ReduceL2"), (lambda x: x.logsumexp(1), "ReduceLogSumExp")],
    ids=["no pass was applied", "no pass knows it"],
)
def test_what_no_pass_took_out_is_refused(function: Function, operator: str, tmp_path: Path) -> None:
    message = rf"MNN's converter gets {operator} wrong, and no pass wrote the one in .+ in other operators\."
    with pytest.raises(ConverterError, match=message):
        written(program(function), "mnn", tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("function", "operator"), [(functional.mish, "Mish"), (lambda x: torch.isinf(x).float(), "IsInf")]
)
def test_an_operator_that_mnn_lacks_is_named(function: Function, operator: str, tmp_path: Path) -> None:
    with pytest.raises(ConverterError, match=rf"^MNN could not convert the program: it has no {operator}\. Write that"):
        written(program(function), "mnn", tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("done", "words"),
    [
        (Finished(0, "These Op Not Support: ONNX::Det | ONNX::STFT | ONNX::Det"), "it has no Det, STFT"),
        (Finished(-11, "Start to Optimize the MNN Net..."), r"its converter crashed \(SIGSEGV\)"),
        (Finished(1, "Can't open file\n\nConverted Failed!\n"), "Can't open file"),
        (Finished(1, ""), "it gives no reason"),
    ],
    ids=["unsupported", "crash", "said", "silent"],
)
def test_the_reason_is_what_the_converter_said(done: Finished, words: str) -> None:
    assert re.match(words, reason(done))
    assert reason(done).endswith("--format.")


def test_converting_opens_no_connection_and_starts_no_program(
    tmp_path: Path, sliver: Network, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key, value in sealed(tmp_path).items():
        monkeypatch.setenv(key, value)
    (tmp_path / "out").mkdir()
    candidate, *_ = write(sliver, "mnn", tmp_path / "out")
    assert failure(verify_file("mnn", candidate.files[0], sliver.reference)) is None


def test_mnns_own_command_does(tmp_path: Path) -> None:
    """Fails when MNN's converter stays quiet; edgekit could call it then."""
    command = [sys.executable, "-c", "import MNN.tools.mnnconvert"]
    done = subprocess.run(command, env={**os.environ, **sealed(tmp_path)}, check=False, capture_output=True)
    assert done.returncode == CAUGHT
