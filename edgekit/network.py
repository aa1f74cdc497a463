"""The network of one export: built, given weights, captured, materialised and referenced; then lowered per runtime."""

import copy
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from msgspec import structs
from numpy.typing import NDArray
from torch import Tensor, nn

from edgekit.artifact import Certificate, GraphStats, RegionCertificate, WeightsSource
from edgekit.cache import default_folder
from edgekit.capture import capture, output_specs
from edgekit.errors import ModelError, OutputError, ParityError
from edgekit.inputs import PROBES, generate
from edgekit.intake.explain import explain_capture_error, explain_program
from edgekit.intake.fetch import fetch_weights, is_url
from edgekit.intake.source import Built, only_image
from edgekit.intake.state import hash_state
from edgekit.models.build import settle
from edgekit.models.cards import CARDS
from edgekit.models.statistics import measure_batch_norms
from edgekit.models.weights import load_weights, random_weights
from edgekit.numerics import compare_one
from edgekit.passes.base import Pass, Proven, apply
from edgekit.passes.fuse import Fuse, FuseOptions
from edgekit.passes.lower import LOWERINGS
from edgekit.passes.materialise import MATERIALISE
from edgekit.plan import Plan
from edgekit.program import Program, fingerprint, run, stats
from edgekit.reference import model_in_float64, program_in_float64
from edgekit.verify import Reference, reference

Forward = Callable[[NDArray[np.float32]], NDArray[np.float32]]
StageClock = Callable[[str], AbstractContextManager[None]]


@dataclass(frozen=True, slots=True)
class Network:
    """A network ready to be lowered.

    Attributes:
        programs: Name of each stage to the program it left, in order.
        probes: Inputs on which passes are proved.
        gate_db: SNR a pass has to keep in float64: what torch float32 reaches on the worst of the probes.
        lowered: What each sequence of lowering passes made; runtimes share as many first passes as they agree on.
    """

    weights: WeightsSource
    reference: Reference
    captured: GraphStats
    fingerprint: str
    certificates: tuple[Certificate, ...]
    regions: tuple[RegionCertificate, ...]
    proven: Proven
    programs: Mapping[str, Program] = field(repr=False)
    probes: tuple[Tensor, ...] = field(repr=False)
    gate_db: float
    lowered: dict[tuple[Pass, ...], tuple[Proven, Certificate]] = field(default_factory=dict, repr=False)

    def float32_stages(self, lowered: Program, runtime: str) -> dict[str, Forward]:
        """Each stage's program as a float32 function, in order, for finding where an artifact went wrong."""
        stages = {**self.programs, f"lower for {runtime}": lowered}
        return {name: program_forward(program) for name, program in stages.items()}


def prepare(plan: Plan, stage: StageClock) -> Network:
    """Builds a plan's network and takes it as far as all runtimes share.

    Raises:
        WeightsError: The checkpoint cannot be read or is not this model's.
        ModelError: The model cannot be captured at this input shape.
        ParityError: Capturing or a pass changed the network.
    """
    with stage("build"):
        built = plan.source.build(plan.input.shape, plan.kernel_policy)
        only_image(built)
        model = built.model
        weights = set_weights(built, plan)
    with stage("capture"):
        captured = captured_program(built, plan)
    with stage("reference"):
        exact = run_in_float64(model, captured)
        against = reference(
            plan.input,
            output_specs(captured, built.outputs)[0],
            generate(plan.input.shape),
            lambda image: exact(torch.from_numpy(image)).numpy(),
            model_forward(model),
        )
        check_capture(captured, against)
        probes = tuple(torch.from_numpy(case.input) for case in against.cases if case.name in PROBES)
        gate_db = min(case.noise_db for case in against.cases if case.name in PROBES)
    outputs = tuple(torch.from_numpy(case.output) for case in against.cases if case.name in PROBES)
    proven, programs, certificates = Proven(captured, outputs), {"capture": captured}, []
    fuse = Fuse(FuseOptions(only=plan.request.only, exclude=plan.request.no_fuse))
    for name, passes in (("materialise", MATERIALISE), ("fuse", (fuse,))):
        with stage(name):
            for rewrite in passes:
                proven, certificate = apply(rewrite, proven, probes, gate_db)
                programs[rewrite.name] = proven.program
                certificates.append(certificate)
    return Network(
        weights=weights,
        reference=against,
        captured=stats(captured),
        fingerprint=fingerprint(captured),
        certificates=tuple(certificates),
        regions=fuse.certificates,
        proven=proven,
        programs=programs,
        probes=probes,
        gate_db=gate_db,
    )


def lower(network: Network, runtime: str, precision: str) -> tuple[Program, tuple[Certificate, ...]]:
    """A runtime's own copy of the program, written the way it is fast at.

    Raises:
        ParityError: A lowering changed the network.
    """
    proven, certificates = network.proven, []
    done: tuple[Pass, ...] = ()
    for rewrite in LOWERINGS[runtime, precision]:
        done = (*done, rewrite)
        if done not in network.lowered:
            network.lowered[done] = apply(rewrite, proven, network.probes, network.gate_db)
        proven, certificate = network.lowered[done]
        certificates.append(certificate)
    return proven.program, tuple(certificates)


def run_in_float64(model: nn.Module, captured: Program) -> Callable[[Tensor], Tensor]:
    """The model in float64; where its code insists on float32, as `x.float()` does, its captured program instead."""
    double = model_in_float64(model)

    def forward(image: Tensor) -> Tensor:
        try:
            return double(image)
        except RuntimeError as error:
            if "dtype" not in str(error) and "Double" not in str(error):
                raise
            return program_in_float64(captured)(image)

    return forward


def captured_program(built: Built, plan: Plan) -> Program:
    """Captures the network, and says what in the user's code is in the way when that fails.

    Raises:
        ModelError: It cannot be captured, or the program that comes out cannot be exported.
    """
    try:
        # A copy, because a network that keeps what it computes would keep tensors without values.
        program = capture(copy.deepcopy(built.model), plan.input.shape)
    except ModelError as error:
        if error.__cause__ is None:
            raise
        raise ModelError(explain_capture_error(error.__cause__, built.original)) from error.__cause__
    if reason := explain_program(program, built.original):
        raise ModelError(reason)
    return program


def set_weights(built: Built, plan: Plan) -> WeightsSource:
    """Loads the checkpoint of the plan, or draws random weights from its seed, or leaves those of the user's code."""
    if plan.request.weights is not None:
        loaded = load_weights(built.original, weights_file(plan), ema=plan.request.ema)
        settled = settle(plan.card.name, built.original) if plan.source.text in CARDS else ()
        return structs.replace(loaded, notes=(*loaded.notes, *settled))
    if plan.source.weights != "seeded":
        return WeightsSource(kind="model", sha256=hash_state(built.original))
    source = random_weights(built.original, plan.request.seed)
    images = torch.from_numpy(np.concatenate(list(generate(plan.card.input_shape).values())))
    measure_batch_norms(built.model, images, plan.request.seed)
    return source


def weights_file(plan: Plan) -> Path:
    """The checkpoint of the plan; one at an address is fetched beside the cache, once.

    Raises:
        OutputError: There is nowhere to keep it.
        WeightsError: It cannot be fetched, or is another file than its SHA-256 says.
    """
    assert plan.request.weights is not None, "asked only for these"  # noqa: S101
    text = str(plan.request.weights)
    if not is_url(text):
        return Path(text)
    cache = default_folder()
    if cache is None:
        raise OutputError("There is no folder to keep a fetched checkpoint in. Set EDGEKIT_CACHE to one.")
    return fetch_weights(text, plan.weights_sha256, cache.parent / "weights")


def check_capture(captured: Program, against: Reference) -> None:
    """Compares the captured program with the model it came from.

    Raises:
        ParityError: Tracing changed what is computed, for example by fixing a branch the model takes per input.
    """
    forward = program_forward(captured)
    for case in against.cases:
        parity = compare_one(case.output, forward(case.input))
        if parity.snr_db < case.noise_db - 1.0:
            raise ParityError(
                f"Capture changed the network: {parity.snr_db:.1f} dB on input {case.name!r}, where the model itself "
                f"reaches {case.noise_db:.1f} dB. Does the model choose its path by the values of its input?"
            )


def model_forward(model: nn.Module) -> Forward:
    """A model as a float32 function of numpy arrays."""

    def forward(image: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.no_grad():
            result: Tensor = model(torch.from_numpy(image))
        return result.numpy()

    return forward


def program_forward(program: Program) -> Forward:
    """A program as a float32 function of numpy arrays."""
    return lambda image: run(program, torch.from_numpy(image))[0].numpy()
