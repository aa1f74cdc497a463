"""The network of an export: weights that are the plan's, gates of each output, and an identity that has the names."""

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from edgekit.artifact import Shape, TensorSpec, WeightsSource
from edgekit.capture import capture, output_specs
from edgekit.errors import ParityError, WeightsError
from edgekit.inputs import generate
from edgekit.models.build import build
from edgekit.models.features import build as build_features
from edgekit.models.features import from_classifier
from edgekit.models.shipped import weights_path
from edgekit.models.weights import random_weights
from edgekit.network import Network, numpy_forward, prepare, rewrite, set_weights, statistics_shape
from edgekit.passes.base import Log
from edgekit.plan import Request, make_plan
from edgekit.program import Program, constant, insert_constant
from edgekit.reference import model_in_float64
from edgekit.verify import Reference, reference

SMALL: Shape = (1, 3, 32, 32)


class Pair(nn.Module):
    """An image and a code in; a map, and scores that lose much of their precision, out."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.linear = nn.Linear(8, 4)

    def forward(self, image: Tensor, code: Tensor) -> tuple[Tensor, Tensor]:
        scores = self.linear(code)
        return self.conv(image), scores + 1000.0 - 1000.0 + self.linear(code * 2)


INPUTS = (TensorSpec(name="image", shape=(1, 3, 8, 8)), TensorSpec(name="code", shape=(1, 8)))


def pair() -> tuple[Program, Reference]:
    model = Pair().eval()
    random_weights(model, 0)
    program = capture(model, *(spec.shape for spec in INPUTS))
    outputs = output_specs(program, ("map", "scores"))
    exact, rounded = numpy_forward(model_in_float64(model)), numpy_forward(model)
    return program, reference(INPUTS, outputs, generate(INPUTS), exact, rounded)


class Scaling:
    """Scales one constant a little."""

    name = "scaling"

    def __init__(self, weight: str, factor: float) -> None:
        self.weight = weight
        self.factor = factor

    def __call__(self, program: Program, log: Log) -> None:
        node = next(node for node in program.graph.nodes if node.op == "get_attr" and node.target == self.weight)
        value = constant(program, node)
        assert value is not None
        node.replace_all_uses_with(insert_constant(program, node, self.weight, value * self.factor))
        log.fired[self.name] += 1


def taken_through(rewriting: Scaling) -> Network:
    program, against = pair()
    return rewrite(program, WeightsSource(kind="random"), against, {"s": (rewriting,)}, lambda _: nullcontext())


def test_every_output_is_held_to_the_precision_of_its_own() -> None:
    network = taken_through(Scaling("conv.bias", 1.0))
    exact, noisy = network.gates_db
    assert exact > 130.0
    assert 80.0 < noisy < exact - 20.0
    assert [len(probe) for probe in network.probes] == [2, 2]
    assert len(network.proven.outputs) == 4


def test_what_a_noisy_output_may_do_an_exact_one_may_not() -> None:
    little = 1 + 1e-6  # 120 dB
    (certificate,) = taken_through(Scaling("linear.weight", little)).certificates
    assert certificate.gate_db < certificate.parity.snr_db < 130.0
    with pytest.raises(
        ParityError, match=r"Pass 'scaling' changed the network: 1[12]\d\.\d dB .*, 1[34]\d\.\d dB required"
    ):
        taken_through(Scaling("conv.weight", little))


def test_a_network_is_told_from_one_with_other_output_names() -> None:
    network = taken_through(Scaling("conv.bias", 1.0))
    renamed = tuple(replace_name(spec, f"{spec.name}2") for spec in network.reference.outputs)
    other = replace(network, reference=replace(network.reference, outputs=renamed))
    assert network.identity() != other.identity()
    assert network.identity() == taken_through(Scaling("conv.bias", 1.0)).identity()


def replace_name(spec: TensorSpec, name: str) -> TensorSpec:
    return TensorSpec(name=name, shape=spec.shape, layout=spec.layout)


@pytest.mark.parametrize(
    ("shape", "measured"),
    [
        ((1, 3, 224, 224), (1, 3, 224, 224)),
        ((1, 3, 512, 512), (1, 3, 256, 256)),
        ((1, 3, 320, 64), (1, 3, 256, 64)),
        ((1, 8), (1, 8)),
    ],
)
def test_statistics_are_measured_on_images_of_bounded_size(shape: Shape, measured: Shape) -> None:
    assert statistics_shape(shape) == measured


# -- weights --------------------------------------------------------------------------------------------------------


def checkpoint(path: Path, name: str, seed: int) -> dict[str, Tensor]:
    model = build(name, None)
    random_weights(model, seed)
    tensors = model.state_dict()
    save_file(tensors, path)
    return tensors


def test_a_checkpoint_that_was_replaced_after_it_was_planned_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    checkpoint(path, "parnet_cifar_w32", 1)
    plan = make_plan(Request("parnet_cifar_w32", formats=("onnx",), weights=path))
    built = plan.source.build()
    assert set_weights(built, plan).sha256 == plan.weights_sha256

    checkpoint(path, "parnet_cifar_w32", 2)
    with pytest.raises(
        WeightsError, match=r"weights\.safetensors was replaced while it was read\. Run the command again"
    ):
        set_weights(built, plan)


@pytest.mark.parametrize("name", ["parcnetv2_xt", "parnet_cifar_w32"])
def test_a_backbone_takes_the_checkpoint_of_its_classifier(name: str, tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    tensors = checkpoint(path, name, 5)
    plan = make_plan(Request(name, formats=("onnx",), shape=SMALL, features=True, weights=path))
    built = plan.source.build(SMALL)

    source = set_weights(built, plan)

    assert (source.kind, source.file_name) == ("file", path.name)
    backbone = build_features(name).eval()
    backbone.load_state_dict(from_classifier(backbone, tensors), strict=True)
    assert all(value.equal(backbone.state_dict()[key]) for key, value in built.model.state_dict().items())


def test_a_backbone_refuses_the_checkpoint_of_another_network(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    checkpoint(path, "parnet_cifar_w32", 5)
    plan = make_plan(Request("parcnetv2_xt", formats=("onnx",), shape=SMALL, features=True, weights=path))
    with pytest.raises(WeightsError, match=r"weights\.safetensors does not fit the model"):
        set_weights(plan.source.build(SMALL), plan)


@pytest.mark.parametrize("features", [False, True], ids=["classifier", "backbone"])
@pytest.mark.parametrize("name", ["parcnetv2_pico_digits", "parnet_pico_patterns"])
def test_a_demo_model_takes_the_weights_it_comes_with(name: str, features: bool) -> None:
    plan = make_plan(Request(name, formats=("onnx",), features=features))
    built = plan.source.build()

    source = set_weights(built, plan)

    assert (source.kind, source.file_name, source.sha256) == ("shipped", f"{name}.safetensors", plan.weights_sha256)
    stored = load_file(weights_path(name))
    loaded = built.model.state_dict()
    assert "streams.0.0.block.rbr_dense.conv.weight" in loaded or "stages.0.0.mlp.fc1.weight" in loaded
    assert all(loaded[key].equal(value.float()) for key, value in stored.items() if key in loaded)
    assert any("float16 to torch.float32" in note for note in source.notes)


def test_a_demo_model_takes_random_weights_when_a_seed_is_given() -> None:
    plan = make_plan(Request("parnet_pico_digits", formats=("onnx",), seed=0))
    source = set_weights(plan.source.build(), plan)
    assert (source.kind, source.seed, plan.weights_sha256) == ("random", 0, None)


def test_random_weights_do_not_depend_on_the_size_asked_for() -> None:
    states = []
    for side in (32, 64):
        plan = make_plan(Request("parnet_cifar_w32", formats=("onnx",), shape=(1, 3, side, side), features=True))
        built = plan.source.build(plan.request.shape)
        set_weights(built, plan)
        states.append(built.model.state_dict())
    assert all(value.equal(states[1][name]) for name, value in states[0].items())


def test_a_backbone_is_prepared_with_all_its_maps() -> None:
    network = prepare(make_plan(Request("parnet_cifar_w32", formats=("onnx",), features=True)), lambda _: nullcontext())
    assert [(spec.name, spec.shape) for spec in network.reference.outputs] == [
        ("stride1", (1, 32, 32, 32)),
        ("stride2", (1, 64, 16, 16)),
        ("stride4", (1, 128, 8, 8)),
    ]
    assert all(torch.is_tensor(value) for probe in network.probes for value in probe)
    assert len(network.gates_db) == 3
    assert all(
        each.values.shape == spec.shape
        for case in network.reference.cases
        for each, spec in zip(case.outputs, network.reference.outputs, strict=True)
    )
