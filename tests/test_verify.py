"""Verification: what passes, what fails and why, in which stage, and that a single wrong weight is enough."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from edgekit.artifact import CaseParity, Parity, TensorSpec
from edgekit.bundle import Stage
from edgekit.cache import StageCache
from edgekit.errors import ArtifactError, MisuseError, ParityError
from edgekit.exporters import EXPORTERS
from edgekit.exporters.base import Candidate
from edgekit.inputs import CASES, CONSTANT_CASES, Images, generate
from edgekit.models.build import build
from edgekit.models.weights import random_weights
from edgekit.network import Network, lower, numpy_forward
from edgekit.numerics import GATE_FLOOR_DB, SAMPLE, gate_db, sampled
from edgekit.pipeline import export
from edgekit.plan import Request, make_plan
from edgekit.program import Program, clone, constant, finish, insert_constant
from edgekit.reference import model_in_float64
from edgekit.reference_file import read_reference
from edgekit.verify import (
    Expected,
    Reference,
    ReferenceCase,
    case_parity,
    failure,
    first_divergence,
    overall,
    reference,
    tightest,
    verify_file,
)

Artifact = Callable[[str], tuple[Candidate, ...]]
FORMATS = list(EXPORTERS)
SPEC = TensorSpec(name="input", shape=(1, 3, 8, 8), layout="NCHW")
OUT = TensorSpec(name="logits", shape=(1, 4), layout="NC")
MAP = TensorSpec(name="map", shape=(1, 2, 3, 3), layout="NCHW")


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


def case(snr: float, gate: float, name: str = "edges", nonfinite: int = 0, output: str = "logits") -> CaseParity:
    parity = Parity(max_abs=0.5, relative=0.1, snr_db=snr, cosine=0.9, top1_agreement=1.0, nonfinite=nonfinite)
    return CaseParity(case=name, output=output, parity=parity, noise_db=gate + 10.0, gate_db=gate)


# -- the reference --------------------------------------------------------------------------------------------------


def test_a_reference_holds_every_input_with_the_float64_output_and_float32s_own_noise(tiny: Network) -> None:
    against = tiny.reference
    assert [case.name for case in against.cases] == list(CASES)
    assert [(spec.name, spec.shape) for spec in against.inputs] == [("input", (1, 3, 64, 64))]
    assert [(spec.name, spec.shape) for spec in against.outputs] == [("logits", (1, 10))]
    made = generate(against.inputs)
    for case in against.cases:
        (image,), (expected,) = case.inputs, case.outputs
        assert image.dtype == np.float32
        assert np.array_equal(image, made[case.name][0])
        assert expected.values.dtype == np.float64
        assert not np.array_equal(expected.values, expected.values.astype(np.float32))
        assert 110.0 < expected.noise_db < 160.0


@pytest.mark.parametrize("bad", [np.nan, np.inf], ids=["nan", "infinite"])
@pytest.mark.parametrize("precision", ["both", "float32", "float64"])
@pytest.mark.parametrize("outputs", [1, 2])
def test_a_model_that_is_not_finite_is_refused_with_the_place(bad: float, precision: str, outputs: int) -> None:
    right, wrong = np.ones(MAP.shape), np.ones(MAP.shape)
    wrong[0, 1, 2, 0] = bad
    exact = right if precision == "float32" else wrong
    rounded = (right if precision == "float64" else wrong).astype(np.float32)
    place = "input 'noise', output 'map'" if outputs > 1 else "input 'noise'"
    logits = (np.ones((1, 4)),) * (outputs - 1)
    specs = (OUT,) * (outputs - 1) + (MAP,)
    message = rf"The original model itself returns NaN or infinity on {place}\. Check its weights"
    images = {"noise": (np.zeros(SPEC.shape, np.float32),)}
    with pytest.raises(ParityError, match=message):
        reference((SPEC,), specs, images, lambda _: (*logits, exact), lambda _: (*logits, rounded))


def shifted(images: Images) -> NDArray[np.float32]:
    return np.asarray(images[0].mean((2, 3)) + np.float32(1e6) - np.float32(1e6))


def mean(images: Images) -> NDArray[np.float64]:
    return np.asarray(images[0].astype(np.float64).mean((2, 3)))


def test_a_model_that_float32_cannot_compute_is_refused_with_the_figure() -> None:
    message = r"loses everything below \d+ dB in float32 on input 'noise', less than the 80 dB an artifact must reach"
    with pytest.raises(ParityError, match=message):
        reference((SPEC,), (OUT,), generate([SPEC]), lambda images: (mean(images),), lambda images: (shifted(images),))


def test_one_output_that_float32_cannot_compute_is_enough_and_named() -> None:
    def single(images: Images) -> tuple[NDArray[np.float32], ...]:
        return mean(images).astype(np.float32), shifted(images)

    specs = (OUT, TensorSpec(name="shifted", shape=(1, 3)))
    with pytest.raises(ParityError, match=r"below \d+ dB in float32 on input 'noise', output 'shifted', less than"):
        reference((SPEC,), specs, generate([SPEC]), lambda images: (mean(images),) * 2, single)


def test_a_dense_output_is_kept_thinned_but_judged_finite_as_a_whole() -> None:
    dense = TensorSpec(name="map", shape=(1, 1, 1024, 512), layout="NCHW")
    exact = np.random.default_rng(0).standard_normal(dense.shape)
    images = {"noise": (np.zeros(SPEC.shape, np.float32),)}
    against = reference((SPEC,), (dense,), images, lambda _: (exact,), lambda _: (exact.astype(np.float32),))
    (expected,) = against.cases[0].outputs
    assert np.array_equal(expected.values, sampled(exact))
    assert expected.values.size <= SAMPLE
    assert 140.0 < expected.noise_db < 160.0

    broken = exact.copy()
    broken[0, 0, 333, 1:300] = np.nan
    with pytest.raises(ParityError, match="returns NaN or infinity on input 'noise'"):
        reference((SPEC,), (dense,), images, lambda _: (exact,), lambda _: (broken,))


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
        (
            [case(120.0, 110.0), case(70.0, 80.0, output="map")],
            "70.0 dB on input 'edges', output 'map', 80.0 dB required",
        ),
        (
            [case(120.0, 110.0, output="map"), case(-400.0, 80.0, "flat", 2)],
            "2 NaN or infinite values on input 'flat', output 'logits'",
        ),
    ],
    ids=["just-below", "furthest-below", "nan", "nan-among-others", "one-of-two-outputs", "nan-in-one-of-two"],
)
def test_the_case_furthest_below_its_gate_is_the_reason(cases: list[CaseParity], message: str) -> None:
    assert failure(cases) == message


@pytest.mark.parametrize("function", [tightest, failure, overall], ids=lambda function: function.__name__)
def test_comparing_nothing_is_a_failure(function: Callable[[list[CaseParity]], object]) -> None:
    with pytest.raises(ValueError, match="nothing was compared"):
        function([])


def stored(name: str, *noise_db: float) -> ReferenceCase:
    """A case of a network that returns ones, with the SNR of float32 for each of its outputs."""
    expected = (Expected(np.ones(spec.shape), noise) for spec, noise in zip((OUT, MAP), noise_db, strict=False))
    return ReferenceCase(name, (np.zeros(SPEC.shape, np.float32),), tuple(expected))


@pytest.mark.parametrize("name", CASES)
def test_the_gate_comes_from_float32s_own_noise_except_where_the_input_is_constant(name: str) -> None:
    case = stored(name, 130.0)
    against = Reference((SPEC,), (OUT,), (stored("edges", 130.0), case))
    (compared,) = case_parity(against, case, (np.ones((1, 4), dtype=np.float32),))
    assert compared.gate_db == (GATE_FLOOR_DB if name in CONSTANT_CASES else gate_db(130.0))
    assert (compared.case, compared.output) == (name, "logits")
    assert (compared.noise_db, compared.parity.snr_db) == (130.0, 400.0)


def test_the_gate_of_an_output_is_that_of_the_case_where_float32_does_worst() -> None:
    cases = (stored("noise", 140.0, 110.0), stored("natural", 115.0, 131.0), stored("flat", 85.0, 86.0))
    against = Reference((SPEC,), (OUT, MAP), cases)
    for case in cases[:2]:
        assert [against.gate_db(case, output) for output in (0, 1)] == [105.0, 100.0]
    assert [against.gate_db(cases[2], output) for output in (0, 1)] == [GATE_FLOOR_DB] * 2


def two_outputs() -> tuple[Reference, ReferenceCase]:
    """A quiet output and a noisy one."""
    case = stored("noise", 130.0, 95.0)
    return Reference((SPEC,), (OUT, MAP), (case,)), case


def test_every_output_has_a_gate_of_its_own() -> None:
    off = 1 + 1e-5  # 100 dB
    logits, maps = case_parity(*two_outputs(), (np.full((1, 4), off), np.full(MAP.shape, off)))
    assert [(each.output, each.noise_db, each.gate_db) for each in (logits, maps)] == [
        ("logits", 130.0, 110.0),
        ("map", 95.0, 85.0),
    ]
    assert [each.passed for each in (logits, maps)] == [False, True]
    assert failure((logits, maps)) == "100.0 dB on input 'noise', output 'logits', 110.0 dB required"


def test_an_output_too_few_is_no_comparison() -> None:
    with pytest.raises(ValueError, match="zip"):
        case_parity(*two_outputs(), (np.ones((1, 4)),))


def test_a_value_that_is_not_finite_is_seen_wherever_it_is() -> None:
    """Also where an output is too large to be compared whole."""
    dense = TensorSpec(name="map", shape=(1, 1, 1024, 512), layout="NCHW")
    case = ReferenceCase("noise", (), (Expected(sampled(np.ones(dense.shape)), 130.0),))
    for place in range(0, 512, 37):
        output = np.ones(dense.shape, dtype=np.float32)
        output[0, 0, 500, place] = np.nan
        (compared,) = case_parity(Reference((), (dense,), (case,)), case, (output,))
        assert not compared.passed


def test_an_output_of_another_name_or_shape_leaves_nothing_to_compare(tiny: Network, tiny_artifact: Artifact) -> None:
    path = tiny_artifact("onnx")[0].files[0]
    named = replace(tiny.reference, outputs=(TensorSpec(name="scores", shape=(1, 10)),))
    with pytest.raises(
        ArtifactError, match=r"must return 'scores' of shape \(1, 10\); it returns {'logits': \(1, 10\)}"
    ):
        verify_file("onnxruntime", path, named)
    shaped = replace(tiny.reference, outputs=(TensorSpec(name="logits", shape=(10,)),))
    with pytest.raises(ArtifactError, match=r"must return 'logits' of shape \(10,\); it returns {'logits': \(1, 10\)}"):
        verify_file("onnxruntime", path, shaped)
    more = replace(tiny.reference, outputs=(*tiny.reference.outputs, MAP))
    with pytest.raises(ArtifactError, match=r"must return 'map' of shape \(1, 2, 3, 3\); it returns {'logits'"):
        verify_file("onnxruntime", path, more)


def test_an_input_of_another_name_or_size_is_refused(tiny: Network, sliver: Network, tiny_artifact: Artifact) -> None:
    path = tiny_artifact("onnx")[0].files[0]
    named = replace(tiny.reference, inputs=(TensorSpec(name="image", shape=(1, 3, 64, 64)),))
    with pytest.raises(MisuseError, match="Input 'input' is missing; given were: image"):
        verify_file("onnxruntime", path, named)
    small = replace(tiny.reference, cases=sliver.reference.cases)
    with pytest.raises(MisuseError, match="locked to input 1x3x64x64, and was given 1x3x32x32"):
        verify_file("onnxruntime", path, small)


def test_a_reference_without_cases_does_not_pass(tiny: Network, tiny_artifact: Artifact) -> None:
    cases = verify_file("onnxruntime", tiny_artifact("onnx")[0].files[0], replace(tiny.reference, cases=()))
    with pytest.raises(ValueError, match="nothing was compared"):
        failure(cases)


# -- the stage ------------------------------------------------------------------------------------------------------

STAGES = ["capture", "fold-constants", "crop-kernels", "l2norm-to-layernorm", "lower for tflite"]


def test_no_stage_diverges_in_a_sound_network(tiny: Network) -> None:
    lowered = lower(tiny, "tflite", "fp32").program
    stages = tiny.float32_stages(lowered, "tflite")
    assert list(stages) == STAGES
    assert first_divergence(stages, tiny.reference) is None


@pytest.mark.parametrize("stage", STAGES)
def test_the_stage_that_went_wrong_is_named(tiny: Network, stage: str) -> None:
    lowered = lower(tiny, "tflite", "fp32").program
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

    lowered = lower(sliver, runtime, "fp32").program
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
    pytest.param("parcnetv2_t", (1, 3, 320, 256), "keep", id="t-320x256-keep"),
]
"""README's blocks export ParCNetV2-T at 224; benchmarks/parity.py has the larger ones, at minutes each."""


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
        split = {} if member.artifact.runtime == "torch" else {"split-layers": {"split-layers": blocks}}
        assert {name: lowered[name] for name in split} == split  # the linear ones; fusing split the convolutions
        assert not [note for note in member.artifact.notes if note.startswith("not kept")]
        path = tmp_path / "bundle" / member.artifact.files[0].name
        again = verify_file(member.artifact.runtime, path, against)
        assert failure(again) is None


@pytest.mark.slow
def test_every_weight_that_is_off_by_a_hundredth_in_one_channel_is_seen() -> None:
    """One channel of each tensor at a time, in float64, against the gate of every input until one sees it."""
    model = build("parcnetv2_xt", None)
    random_weights(model, seed=0)
    inputs = (TensorSpec(name="input", shape=(1, 3, 224, 224)),)
    outputs = (TensorSpec(name="logits", shape=(1, 1000)),)
    exact, rounded = numpy_forward(model_in_float64(model)), numpy_forward(model)
    against = reference(inputs, outputs, generate(inputs), exact, rounded)
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
    wrong = numpy_forward(model_in_float64(model))
    with torch.no_grad():
        weight.copy_(kept)
    return any(failure(case_parity(against, case, wrong(case.inputs))) for case in against.cases)
