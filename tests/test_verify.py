"""Verification: what passes, what fails and why, in which stage, and that a single wrong weight is enough."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.numpy import save_file
from torch import nn

from edgekit.artifact import CaseParity, Parity, TensorSpec
from edgekit.bundle import Stage
from edgekit.cache import StageCache
from edgekit.errors import ArtifactError, BundleError, MisuseError, ParityError
from edgekit.exporters import EXPORTERS
from edgekit.exporters.base import Candidate
from edgekit.inputs import CASES, CONSTANT_CASES, generate
from edgekit.models.build import build
from edgekit.models.weights import random_weights
from edgekit.network import Network, lower, model_forward
from edgekit.numerics import GATE_FLOOR_DB, gate_db
from edgekit.pipeline import export
from edgekit.plan import Request, make_plan
from edgekit.program import Program, clone, constant, finish, insert_constant
from edgekit.reference import model_in_float64
from edgekit.verify import (
    Reference,
    ReferenceCase,
    case_parity,
    failure,
    first_divergence,
    overall,
    read_reference,
    reference,
    tightest,
    verify_file,
    write_reference,
)

Artifact = Callable[[str], tuple[Candidate, ...]]
FORMATS = list(EXPORTERS)
SPEC = TensorSpec(name="input", shape=(1, 3, 8, 8), layout="NCHW")
OUT = TensorSpec(name="logits", shape=(1, 4), layout="NC")


def one_wrong_channel(program: Program, name: str) -> Program:
    """The program with one channel of one constant scaled by 1.01."""
    wrong = clone(program)
    node = next(node for node in wrong.graph.nodes if node.op == "get_attr" and str(node.target) == name)
    value = constant(wrong, node)
    assert value is not None
    changed = value.clone()
    changed[2] *= 1.01
    node.replace_all_uses_with(insert_constant(wrong, node, name, changed))
    return finish(wrong)


def case(snr: float, gate: float, name: str = "edges", nonfinite: int = 0) -> CaseParity:
    parity = Parity(max_abs=0.5, relative=0.1, snr_db=snr, cosine=0.9, top1_agreement=1.0, nonfinite=nonfinite)
    return CaseParity(case=name, parity=parity, noise_db=gate + 10.0, gate_db=gate)


# -- the reference --------------------------------------------------------------------------------------------------


def test_a_reference_holds_every_input_with_the_float64_output_and_float32s_own_noise(tiny: Network) -> None:
    against = tiny.reference
    assert [case.name for case in against.cases] == list(CASES)
    assert (against.input.name, against.input.shape) == ("input", (1, 3, 64, 64))
    assert (against.output.name, against.output.shape) == ("logits", (1, 10))
    for case in against.cases:
        assert case.input.dtype == np.float32
        assert np.array_equal(case.input, generate((1, 3, 64, 64))[case.name])
        assert case.output.dtype == np.float64
        assert not np.array_equal(case.output, case.output.astype(np.float32))
        assert 110.0 < case.noise_db < 160.0


@pytest.mark.parametrize("bad", [np.nan, np.inf], ids=["nan", "infinite"])
@pytest.mark.parametrize("precision", ["both", "float32"])
def test_a_model_that_is_not_finite_is_refused_with_the_input(bad: float, precision: str) -> None:
    exact = np.array([[1.0, bad if precision == "both" else 2.0]])
    single = np.array([[1.0, bad]], dtype=np.float32)
    with pytest.raises(ParityError, match="The original model itself returns NaN or infinity on input 'noise'"):
        reference(SPEC, OUT, {"noise": np.zeros(SPEC.shape, np.float32)}, lambda _: exact, lambda _: single)


def test_a_model_that_float32_cannot_compute_is_refused_with_the_figure() -> None:
    def shifted(image: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray(image.mean((2, 3)) + np.float32(1e6) - np.float32(1e6))

    message = r"loses everything below \d+ dB in float32 on input 'noise', less than the 80 dB an artifact must reach"
    with pytest.raises(ParityError, match=message):
        reference(SPEC, OUT, generate(SPEC.shape), lambda image: image.astype(np.float64).mean((2, 3)), shifted)


# -- the file -------------------------------------------------------------------------------------------------------


def test_a_reference_comes_back_from_its_file_unchanged(tiny: Network, tmp_path: Path) -> None:
    path = tmp_path / "reference.safetensors"
    write_reference(tiny.reference, path)
    read = read_reference(path)

    assert (read.input, read.output) == (tiny.reference.input, tiny.reference.output)
    assert [case.name for case in read.cases] == [case.name for case in tiny.reference.cases]
    for stored, original in zip(read.cases, tiny.reference.cases, strict=True):
        assert np.array_equal(stored.input, original.input)
        assert np.array_equal(stored.output, original.output)
        assert stored.input.dtype == np.float32
        assert stored.output.dtype == np.float64
        assert stored.noise_db == original.noise_db


def test_a_reference_is_written_with_the_same_bytes_every_time(tiny: Network, tmp_path: Path) -> None:
    for name in ("first", "second"):
        write_reference(tiny.reference, tmp_path / name)
    write_reference(read_reference(tmp_path / "first"), tmp_path / "third")
    assert len({(tmp_path / name).read_bytes() for name in ("first", "second", "third")}) == 1


def test_a_strided_input_is_stored_as_it_looks(tmp_path: Path) -> None:
    image = np.arange(12, dtype=np.float32).reshape(1, 3, 2, 2).transpose(0, 1, 3, 2)
    cases = (ReferenceCase("noise", image, np.ones((1, 4))[:, ::-1], 120.0),)
    write_reference(Reference(SPEC, OUT, cases), tmp_path / "file")
    assert np.array_equal(read_reference(tmp_path / "file").cases[0].input, image)


def damage(path: Path, how: str) -> None:
    content = path.read_bytes()
    if how == "garbage":
        path.write_bytes(b"garbage" * 100)
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif how == "missing":
        path.unlink()
    elif how == "folder":
        path.unlink()
        path.mkdir()
    elif how == "no-metadata":
        save_file({"noise.input": np.zeros(3)}, path)
    elif how == "no-json":
        save_file({"noise.input": np.zeros(3)}, path, {"edgekit.reference": "{"})
    elif how == "other-json":
        save_file({"noise.input": np.zeros(3)}, path, {"edgekit.reference": '{"cases": [["noise", 1.0, 2.0]]}'})
    elif how == "lost-tensor":
        save_file({"noise.input": np.zeros(3)}, path, {"edgekit.reference": '{"cases": [["noise", 1.0]]}'})


DAMAGES = ["garbage", "empty", "cut", "missing", "folder", "no-metadata", "no-json", "other-json", "lost-tensor"]


@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_reference_is_one_error_that_names_the_file_and_the_remedy(how: str, tmp_path: Path) -> None:
    path = tmp_path / "reference.safetensors"
    write_reference(Reference(SPEC, OUT, (ReferenceCase("noise", np.zeros(3, np.float32), np.ones(4), 99.0),)), path)
    damage(path, how)
    message = r"reference\.safetensors is no reference of a bundle \(.+\)\. Export the model again\."
    with pytest.raises(BundleError, match=message):
        read_reference(path)


def test_a_reference_without_names_is_damaged(tmp_path: Path) -> None:
    described = {"edgekit.reference": '{"cases": [["noise", 99.0]]}'}
    save_file({"noise.input": np.zeros(3), "noise.output": np.zeros(3)}, tmp_path / "file", described)
    with pytest.raises(BundleError, match="is no reference of a bundle"):
        read_reference(tmp_path / "file")


def test_a_reference_without_cases_is_nothing_to_compare_with(tmp_path: Path) -> None:
    write_reference(Reference(SPEC, OUT, ()), tmp_path / "file")
    with pytest.raises(BundleError, match=r"holds no case, so there is nothing to compare with\. Export the model"):
        read_reference(tmp_path / "file")


# -- the verdict ----------------------------------------------------------------------------------------------------


def test_nothing_is_wrong_when_every_case_reaches_its_gate() -> None:
    cases = [case(100.0, 90.0, "noise"), case(80.0, 80.0)]
    assert failure(cases) is None
    assert tightest(cases).case == "edges"
    assert overall(cases).snr_db == 80.0


@pytest.mark.parametrize(
    ("cases", "message"),
    [
        ([case(100.0, 90.0, "noise"), case(79.96, 80.0)], "80.0 dB on input 'edges', 80.0 dB required"),
        ([case(70.0, 90.0, "noise"), case(65.0, 80.0)], "70.0 dB on input 'noise', 90.0 dB required"),
        ([case(-400.0, 80.0, "flat", nonfinite=3)], "3 NaN or infinite values on input 'flat'"),
        ([case(60.0, 80.0, "noise"), case(-400.0, 80.0, "flat", 1)], "1 NaN or infinite values on input 'flat'"),
    ],
    ids=["just-below", "furthest-below", "nan", "nan-among-others"],
)
def test_the_case_furthest_below_its_gate_is_the_reason(cases: list[CaseParity], message: str) -> None:
    assert failure(cases) == message


@pytest.mark.parametrize("function", [tightest, failure, overall], ids=lambda function: function.__name__)
def test_comparing_nothing_is_a_failure(function: Callable[[list[CaseParity]], object]) -> None:
    with pytest.raises(ValueError, match="nothing was compared"):
        function([])


@pytest.mark.parametrize("name", CASES)
def test_the_gate_comes_from_float32s_own_noise_except_where_the_input_is_constant(name: str) -> None:
    compared = case_parity(
        ReferenceCase(name, np.zeros(3, np.float32), np.ones(4), noise_db=130.0), np.ones(4, dtype=np.float32)
    )
    assert compared.gate_db == (GATE_FLOOR_DB if name in CONSTANT_CASES else gate_db(130.0))
    assert (compared.case, compared.noise_db, compared.parity.snr_db) == (name, 130.0, 400.0)


def test_an_output_of_another_name_or_shape_leaves_nothing_to_compare(tiny: Network, tiny_artifact: Artifact) -> None:
    path = tiny_artifact("onnx")[0].files[0]
    named = replace(tiny.reference, output=TensorSpec(name="scores", shape=(1, 10)))
    with pytest.raises(
        ArtifactError, match=r"must return 'scores' of shape \(1, 10\); it returns {'logits': \(1, 10\)}"
    ):
        verify_file("onnxruntime", path, named)
    shaped = replace(tiny.reference, output=TensorSpec(name="logits", shape=(10,)))
    with pytest.raises(ArtifactError, match=r"must return 'logits' of shape \(10,\); it returns {'logits': \(1, 10\)}"):
        verify_file("onnxruntime", path, shaped)


def test_an_input_of_another_name_or_size_is_refused(tiny: Network, sliver: Network, tiny_artifact: Artifact) -> None:
    path = tiny_artifact("onnx")[0].files[0]
    named = replace(tiny.reference, input=TensorSpec(name="image", shape=(1, 3, 64, 64)))
    with pytest.raises(MisuseError, match="Input 'input' is missing; given were: image"):
        verify_file("onnxruntime", path, named)
    small = replace(tiny.reference, cases=sliver.reference.cases)
    with pytest.raises(MisuseError, match="locked to input 1x3x64x64, and was given 1x3x32x32"):
        verify_file("onnxruntime", path, small)


def test_a_reference_without_cases_does_not_pass(tiny: Network, tiny_artifact: Artifact) -> None:
    cases = verify_file("onnxruntime", tiny_artifact("onnx")[0].files[0], replace(tiny.reference, cases=()))
    with pytest.raises(ValueError, match="nothing was compared"):
        failure(cases)


def test_a_stored_reference_judges_like_the_original(tiny: Network, tiny_artifact: Artifact, tmp_path: Path) -> None:
    path = tiny_artifact("onnx")[0].files[0]
    write_reference(tiny.reference, tmp_path / "file")
    fresh = verify_file("onnxruntime", path, tiny.reference)
    assert verify_file("onnxruntime", path, read_reference(tmp_path / "file")) == fresh
    assert failure(fresh) is None


# -- the stage ------------------------------------------------------------------------------------------------------

STAGES = ["capture", "fold-constants", "crop-kernels", "l2norm-to-layernorm", "lower for tflite"]


def test_no_stage_diverges_in_a_sound_network(tiny: Network) -> None:
    lowered, _ = lower(tiny, "tflite", "fp32")
    stages = tiny.float32_stages(lowered, "tflite")
    assert list(stages) == STAGES
    assert first_divergence(stages, tiny.reference) is None


@pytest.mark.parametrize("stage", STAGES)
def test_the_stage_that_went_wrong_is_named(tiny: Network, stage: str) -> None:
    lowered, _ = lower(tiny, "tflite", "fp32")
    programs = {**tiny.programs, "lower for tflite": lowered}
    sound = tiny.float32_stages(lowered, "tflite")
    wrong = one_wrong_channel(programs[stage], "stages.2.0.mlp.fc2.weight")
    broken = replace(tiny, programs={stage: wrong}).float32_stages(wrong, "tflite")
    position = STAGES.index(stage)
    stages = {name: (sound if at < position else {name: broken[stage]})[name] for at, name in enumerate(STAGES)}
    assert first_divergence(stages, tiny.reference) == stage


# -- the negative twin ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FORMATS)
def test_a_true_artifact_passes_and_its_twin_with_one_wrong_channel_fails(
    name: str,
    sliver: Network,
    sliver_artifact: Artifact,
    write_program: Callable[[Network, Program, str, Path], tuple[Candidate, ...]],
    tmp_path: Path,
) -> None:
    runtime = EXPORTERS[name].runtime
    true = verify_file(runtime, sliver_artifact(name)[0].files[0], sliver.reference)
    assert failure(true) is None

    lowered, _ = lower(sliver, runtime, "fp32")
    wrong = one_wrong_channel(lowered, "stages.2.0.token_mixer.pwconv2.weight")
    twin = verify_file(runtime, write_program(sliver, wrong, name, tmp_path)[0].files[0], sliver.reference)
    assert failure(twin) == f"{tightest(twin).parity.snr_db:.1f} dB on input {tightest(twin).case!r}, " + (
        f"{tightest(twin).gate_db:.1f} dB required"
    )
    assert tightest(twin).parity.snr_db < 90.0


# -- whole networks -------------------------------------------------------------------------------------------------


@dataclass
class Watcher:
    """Follows an export and keeps what it says."""

    stages: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def begin(self, stage: str) -> None:
        """A stage starts."""

    def end(self, stage: Stage) -> None:
        self.stages.append(stage.name)

    def note(self, text: str) -> None:
        self.notes.append(text)


NETWORKS = [
    pytest.param("parcnetv2_xt", (1, 3, 224, 224), None, id="xt-224"),
    pytest.param("parcnetv2_t", (1, 3, 224, 224), None, id="t-224"),
    pytest.param("parcnetv2_s", (1, 3, 224, 224), None, id="s-224"),
    pytest.param("parcnetv2_b", (1, 3, 224, 224), None, id="b-224"),
    pytest.param("parcnetv2_t", (1, 3, 320, 256), "interpolate", id="t-320x256-interpolate"),
    pytest.param("parcnetv2_t", (1, 3, 320, 256), "keep", id="t-320x256-keep"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("model", "shape", "policy"), NETWORKS)
def test_a_network_passes_in_every_format(
    model: str, shape: tuple[int, ...], policy: str | None, tmp_path: Path
) -> None:
    request = Request(model, formats=tuple(FORMATS), shape=shape, kernel_policy=policy, out=tmp_path / "bundle")
    watcher = Watcher()
    manifest = export(make_plan(request), ("test",), StageCache(None), watcher)

    assert [member.artifact.format for member in manifest.members] == FORMATS
    assert not watcher.notes
    fired = {certificate.name: sum(certificate.fired.values()) for certificate in manifest.passes}
    blocks = {"parcnetv2_xt": 17, "parcnetv2_t": 21, "parcnetv2_s": 39, "parcnetv2_b": 39}[model]
    assert fired["fold-constants"] == (2 * blocks if shape[2] != 224 and policy == "interpolate" else 0)
    assert fired["crop-kernels"] == 0
    assert fired["l2norm-to-layernorm"] == 2 * blocks + 4
    against = read_reference(tmp_path / "bundle" / manifest.reference.name)
    for member in manifest.members:
        assert failure(member.parity) is None
        assert [compared.case for compared in member.parity] == list(CASES)
        lowered = {certificate.name: certificate.fired for certificate in member.lowering}
        assert lowered["split-layers"] == {"split-layers": blocks}  # the linear ones; fusing split the convolutions
        assert not [note for note in member.artifact.notes if note.startswith("not kept")]
        path = tmp_path / "bundle" / member.artifact.files[0].name
        again = verify_file(member.artifact.runtime, path, against)
        assert failure(again) is None


@pytest.mark.slow
def test_every_weight_that_is_off_by_a_hundredth_in_one_channel_is_seen() -> None:
    """One channel of each tensor at a time, in float64, against the gate of every input until one sees it."""
    model = build("parcnetv2_xt", None)
    random_weights(model, seed=0)
    against = reference(
        TensorSpec(name="input", shape=(1, 3, 224, 224)),
        TensorSpec(name="logits", shape=(1, 1000)),
        generate((1, 3, 224, 224)),
        lambda image: model_in_float64(model)(torch.from_numpy(image)).numpy(),
        model_forward(model),
    )
    names = [name for name, _ in model.named_parameters()]
    missed = [name for index, name in enumerate(names) if not seen(model, name, index, against)]
    print(f"{len(missed)} of {len(names)} wrong weights were missed: {missed}")  # noqa: T201 - what -rP shows
    assert len(missed) <= len(names) // 100, missed


def seen(model: nn.Module, name: str, index: int, against: Reference) -> bool:
    """Whether the gate of any input notices a tensor whose channel `index` (wrapped around) is scaled by 1.01."""
    weight = model.get_parameter(name)
    kept = weight.detach().clone()
    with torch.no_grad():
        weight[index % len(weight)] *= 1.01
    wrong = model_in_float64(model)
    with torch.no_grad():
        weight.copy_(kept)
    for case in against.cases:
        compared = case_parity(case, wrong(torch.from_numpy(case.input)).numpy())
        if not compared.passed:
            return True
    return False
