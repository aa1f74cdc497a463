"""ncnn: what pnnx wrote counts as converted only when ncnn takes it, runs it, and it is the network."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ncnn
import numpy as np
import pytest
import torch
from torch.nn import functional

from edgekit.artifact import Shape, TensorSpec
from edgekit.capture import capture
from edgekit.errors import ConverterError, MisuseError
from edgekit.exporters.base import Candidate, ExportSpec
from edgekit.exporters.ncnn import FLOAT32, LAYERS, MARK, SETTINGS, convert, exact, export, last_line, named
from edgekit.network import Network
from edgekit.process import Finished
from edgekit.runners import load
from edgekit.verify import failure, verify_file
from tests.exporters.one_layer import SHAPE, Function, Net, described, image, lowered, program, snr_db, written

_ncnn: Any = ncnn  # compiled, and says nothing of its types

Artifact = Callable[[str], tuple[Candidate, ...]]
Write = Callable[[Network, str, Path], tuple[Candidate, ...]]

EQUAL_DB = 120.0


@pytest.fixture(scope="module")
def candidate(tiny_artifact: Artifact) -> Candidate:
    return tiny_artifact("ncnn")[0]


@pytest.fixture(scope="module")
def lines(candidate: Candidate) -> list[str]:
    return candidate.files[0].read_text().splitlines()


def test_the_files_are_the_network(tiny: Network, candidate: Candidate) -> None:
    assert [file.name for file in candidate.files] == ["net.ncnn.param", "net.ncnn.bin"]
    assert candidate.notes == (FLOAT32, "set use_winograd63_convolution to false")
    cases = verify_file("ncnn", candidate.files[0], tiny.reference)
    assert failure(cases) is None
    assert len(cases) == 4


def test_the_candidates_differ_in_settings_of_the_runtime(tiny: Network, tiny_artifact: Artifact) -> None:
    candidates = tiny_artifact("ncnn")
    assert [each.label for each in candidates] == list(SETTINGS)
    assert [each.notes[1:] for each in candidates] == [
        ("set use_winograd63_convolution to false",),
        ("set use_winograd43_convolution to false", "set use_winograd63_convolution to false"),
        ("set use_winograd_convolution to false",),
    ]
    assert len({each.files[1].read_bytes() for each in candidates}) == 1
    for each, settings in zip(candidates, SETTINGS.values(), strict=True):
        assert failure(verify_file("ncnn", each.files[0], tiny.reference)) is None
        with load("ncnn", each.files[0]) as runner:
            options = runner._net.opt  # type: ignore[attr-defined]
            assert {name: getattr(options, name) for name in settings} == dict.fromkeys(settings, False)


def test_ncnn_reads_past_the_description_and_finds_the_names(candidate: Candidate, lines: list[str]) -> None:
    assert lines[-1].startswith(MARK)
    assert lines[-1].isascii()
    assert len(lines) == 2 + int(lines[1].split()[0]) + 1
    net = _ncnn.Net()
    assert net.load_param(str(candidate.files[0])) == 0
    assert (net.input_names(), net.output_names()) == (["input"], ["logits"])


def test_the_metadata_comes_back(candidate: Candidate, metadata: Mapping[str, str]) -> None:
    with load("ncnn", candidate.files[0]) as runner:
        assert runner.metadata() == dict(metadata)


def test_weights_are_float32(tiny: Network, candidate: Candidate) -> None:
    # In half precision there would be half as many bytes; norms written out and Toeplitz matrices only add some.
    assert candidate.files[1].stat().st_size > 3.9 * tiny.certificates[-1].after.parameters


def test_exporting_again_gives_the_same_bytes(
    sliver: Network, sliver_artifact: Artifact, write: Write, tmp_path: Path
) -> None:
    for before, again in zip(sliver_artifact("ncnn"), write(sliver, "ncnn", tmp_path), strict=True):
        assert [file.read_bytes() for file in before.files] == [file.read_bytes() for file in again.files]


def test_nothing_tells_where_the_files_were_written(candidate: Candidate, lines: list[str]) -> None:
    text = "\n".join(lines)
    assert not re.search(r"\.py\b|site-packages|net\.p", text)
    for folder in (Path.home(), Path.cwd(), Path(torch.__file__).parent, candidate.files[0].parent):
        assert str(folder) not in text


def test_pnnx_ends_well_with_a_file_that_ncnn_does_not_load(tmp_path: Path) -> None:
    """Fails when pnnx has learned to tell, or ncnn to run it; the search for unknown layers can go then."""
    network = program(lambda x: x.clamp_min(0.1))
    param = convert(network, described(network), tmp_path)
    assert _ncnn.Net().load_param(str(param)) != 0

    with pytest.raises(
        ConverterError, match=r"ncnn has no layer for pnnx\.Expression, aten::clamp_min, which pnnx left"
    ):
        written(network, "ncnn", tmp_path)
    assert snr_db(network, "ncnn", written(lowered(network, "ncnn"), "ncnn", tmp_path)[0].files[0]) > EQUAL_DB


@pytest.mark.parametrize(
    ("function", "layers"),
    [
        (lambda x: x.tril(), r"pnnx\.Expression, aten::tril"),
        (lambda x: torch.where(x > 0, x, -x * 2), r"torch\.gt, torch\.where"),
    ],
    ids=["tril", "where"],
)
def test_a_layer_that_ncnn_lacks_is_named_and_nothing_stays(function: Function, layers: str, tmp_path: Path) -> None:
    with pytest.raises(ConverterError, match=rf"^ncnn has no layer for {layers}, which pnnx left in its file\. Write"):
        written(lowered(program(function), "ncnn"), "ncnn", tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_network_that_ncnn_crashes_on_is_an_error_like_any_other(tmp_path: Path) -> None:
    """Nothing in it tells pnnx which axis is the batch, so ncnn softmaxes along one that is not there."""
    network = capture(torch.nn.Softmax(dim=1).eval(), SHAPE)
    with pytest.raises(
        ConverterError, match=r"^ncnn cannot run what pnnx made of the program: it crashes with SIGSEGV\. Write that"
    ):
        written(network, "ncnn", tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x[:, 2:5] * 2.0,
        lambda x: functional.pad(x, (1, 2, 3, 0), mode="circular"),
        lambda x: x * x.std(dim=(2, 3), keepdim=True),
    ],
    ids=["slice", "circular padding", "standard deviation"],
)
def test_maps_come_back_whole(function: Function, tmp_path: Path) -> None:
    """ncnn keeps channels apart in memory, by more than they take."""
    network = program(function)
    candidate, *_ = written(lowered(network, "ncnn"), "ncnn", tmp_path)
    assert snr_db(network, "ncnn", candidate.files[0]) > EQUAL_DB


@pytest.mark.parametrize(("inputs", "outputs"), [((2, 8, 6, 5), (2, 8)), ((1, 8, 6, 5), (8,)), ((1, 8, 6, 5), ())])
def test_more_than_one_image_is_refused(inputs: Shape, outputs: Shape, tmp_path: Path) -> None:
    spec = ExportSpec((TensorSpec(name="input", shape=inputs),), (TensorSpec(name="out", shape=outputs),), {})
    message = r"^ncnn has no batch axis, and '(input|out)' is of shape .+ Export for one image, with --input 1x"
    with pytest.raises(MisuseError, match=message):
        export(program(lambda x: x), spec, tmp_path, "net")
    assert not list(tmp_path.iterdir())


def test_a_network_without_a_name_for_its_blobs_is_refused() -> None:
    spec = ExportSpec((TensorSpec(name="the image", shape=SHAPE),), (TensorSpec(name="out", shape=SHAPE),), {})
    with pytest.raises(ConverterError, match=r"^ncnn cannot call a tensor 'the image': a name ends at white space"):
        named(["7767517", "1 1"], spec)


def test_blobs_get_the_networks_names_and_leave_them_to_it() -> None:
    spec = ExportSpec((TensorSpec(name="out0", shape=SHAPE),), (TensorSpec(name="7", shape=SHAPE),), {})
    layers = ["7767517", "3 3", "Input in0 0 1 in0", "ReLU a 1 1 in0 7", "ReLU b 1 1 7 out0 0=0.1"]
    assert [line.split() for line in named(layers, spec)[2:]] == [
        ["Input", "in0", "0", "1", "out0"],
        ["ReLU", "a", "1", "1", "out0", "7.inside"],
        ["ReLU", "b", "1", "1", "7.inside", "7", "0=0.1"],
    ]


def test_several_inputs_and_outputs_go_by_name(tmp_path: Path) -> None:
    class Two(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = Net(torch.relu), Net(torch.tanh)

        def forward(self, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, ...]:
            inner = self.first(x) - self.second(y)
            return inner.mean((2, 3)), inner, inner * 2.0

    network, given = capture(Two().eval(), SHAPE, SHAPE), (image(), image(seed=9))
    expected = network(*given)
    names = {"z": expected[0], "b": expected[1], "a": expected[2]}
    spec = ExportSpec(
        tuple(TensorSpec(name=name, shape=SHAPE) for name in ("y", "x")),
        tuple(TensorSpec(name=name, shape=tuple(value.shape)) for name, value in names.items()),
        {},
    )
    candidate, *_ = export(network, spec, tmp_path, "net")
    with load("ncnn", candidate.files[0]) as runner:
        found = runner.run({"x": given[1].numpy(), "y": given[0].numpy()})
    assert list(found) == list(names)
    for name, value in names.items():
        np.testing.assert_allclose(found[name], value.detach().numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("done", "words"),
    [
        (Finished(1, "a\n it does not load.\n\n"), "it does not load"),
        (Finished(-6, ""), "SIGABRT"),
        (Finished(1, ""), "it gives no reason"),
    ],
    ids=["said", "crash", "silent"],
)
def test_the_reason_is_what_was_said_last(done: Finished, words: str) -> None:
    assert last_line(done) == words
    assert LAYERS.endswith(".param")


def test_what_arm_rounds_is_written_in_other_layers() -> None:
    """`rsqrt` and `1/x`; a square root stays, whose power would be no number at zero."""
    lines = [
        "7767517",
        "4 4",
        "Input in 0 1 x 0=8",
        *(f"UnaryOp u{kind} 1 1 x y{kind} 0={kind}" for kind in (5, 6, 15)),
    ]

    *kept, power, quotient = exact(lines)

    assert kept == lines[:4]
    assert power.split() == ["BinaryOp", "u6", "1", "1", "x", "y6", "0=6", "1=1", "2=-5.000000e-01"]
    assert quotient.split() == ["BinaryOp", "u15", "1", "1", "x", "y15", "0=8", "1=1", "2=1.000000e+00"]
