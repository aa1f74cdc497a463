"""The network of one export: built, given weights, captured, materialised and referenced; then lowered per runtime."""

import copy
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from msgspec import structs
from torch import Tensor, nn

from edgekit.artifact import Certificate, GraphStats, RegionCertificate, Shape, TensorSpec, WeightsSource
from edgekit.cache import default_folder
from edgekit.capture import capture, output_specs
from edgekit.errors import ModelError, OutputError, ParityError, WeightsError
from edgekit.inputs import PROBES, Images, generate
from edgekit.intake.explain import explain_capture_error, explain_program
from edgekit.intake.fetch import fetch_weights, is_url
from edgekit.intake.source import Built
from edgekit.intake.state import hash_state
from edgekit.intake.zoo import INPUT_NAME
from edgekit.memory import check_memory
from edgekit.models.build import fit_backbone, settle
from edgekit.models.cards import CARDS
from edgekit.models.statistics import measure_batch_norms
from edgekit.models.weights import load_weights, random_weights
from edgekit.numerics import ONE_ROUNDING_DB
from edgekit.passes.base import Pass, Proven, apply
from edgekit.passes.fuse import Fuse, FuseOptions
from edgekit.passes.lower import LOWERINGS, Lowering
from edgekit.passes.lower.kernel_forms import KernelForms
from edgekit.passes.lower.kernel_sites import find_groups
from edgekit.passes.materialise import MATERIALISE
from edgekit.plan import Plan
from edgekit.program import Program, as_tuple, constants, fingerprint, stats
from edgekit.reference import Function, model_in_float64, program_in_float64
from edgekit.tuning.choose import Choose, as_trained, together
from edgekit.tuning.words import KernelChoice
from edgekit.verify import Forward, Outputs, Reference, case_parity, failure, reference, tightest

StageClock = Callable[[str], AbstractContextManager[None]]

MAX_STATISTICS_SIDE = 256
"""Batch norms of random weights are measured on images no larger than this."""


@dataclass(frozen=True, slots=True)
class Network:
    """A network ready to be lowered.

    Attributes:
        programs: Name of each stage to the program it left, in order.
        probes: Inputs on which passes are proved.
        gates_db: SNR a pass has to keep in float64, for each output: what torch float32 reaches on the worst probe.
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
    probes: tuple[tuple[Tensor, ...], ...] = field(repr=False)
    gates_db: tuple[float, ...]
    lowered: dict[tuple[Pass, ...], tuple[Proven, Certificate]] = field(default_factory=dict, repr=False)

    def identity(self) -> dict[str, str]:
        """What the network is, for a cache key, where no name or hash of a file can tell."""
        return {"program": self.fingerprint, "outputs": " ".join(spec.name for spec in self.reference.outputs)}

    def through(self, passes: tuple[Pass, ...]) -> tuple[Proven, tuple[Certificate, ...]]:
        """The program after lowering passes, and their certificates; what another runtime had done is done already.

        Raises:
            ParityError: A pass changed the network.
        """
        proven, certificates = self.proven, []
        for count, rewrite in enumerate(passes, start=1):
            done = passes[:count]
            if done not in self.lowered:
                self.lowered[done] = apply(rewrite, proven, self.probes, self.gates_db)
            proven, certificate = self.lowered[done]
            certificates.append(certificate)
        return proven, tuple(certificates)

    def float32_stages(self, lowered: Program, runtime: str) -> dict[str, Forward]:
        """Each stage's program as a float32 function, in order, for finding where an artifact went wrong."""
        stages = {**self.programs, f"lower for {runtime}": lowered}
        return {name: program_forward(program) for name, program in stages.items()}


def prepare(plan: Plan, stage: StageClock, against: Reference | None = None) -> Network:
    """Builds a plan's network and takes it as far as all runtimes share.

    Args:
        plan: Which network.
        stage: Times the stages.
        against: The reference of a bundle that this network is to be found to be; made anew where there is none.

    Raises:
        WeightsError: The checkpoint cannot be read or is not this model's.
        ModelError: The model cannot be captured at this input shape.
        EnvironmentProblemError: It needs more memory than there is.
        ParityError: Capturing or a pass changed the network, or it is another one than the bundle's.
    """
    with stage("build"):
        built = plan.source.build(plan.request.shape, plan.kernel_policy)
        weights = set_weights(built, plan)
    with stage("capture"):
        captured = captured_program(built)
        outputs = output_specs(captured, built.outputs)
        check_memory(captured)
    with stage("reference"):
        if against is None:
            exact = run_in_float64(built.model, captured)
            cases = generate(plan.inputs)
            against = reference(plan.inputs, outputs, cases, numpy_forward(exact), numpy_forward(built.model))
        check_capture(captured, against)
    fuse = Fuse(FuseOptions(only=plan.request.only, exclude=plan.request.no_fuse))
    network = rewrite(captured, weights, against, {"materialise": MATERIALISE, "fuse": (fuse,)}, stage)
    return replace(network, regions=fuse.certificates)


def rewrite(
    captured: Program,
    weights: WeightsSource,
    against: Reference,
    stages: Mapping[str, Sequence[Pass]],
    stage: StageClock,
) -> Network:
    """Takes a captured program through passes, each proved on the reference's probes.

    Raises:
        ParityError: A pass changed the network.
    """
    cases = [case for case in against.cases if case.name in PROBES]
    probes = tuple(tuple(torch.from_numpy(image) for image in case.inputs) for case in cases)
    noise_db = ((case.outputs[index].noise_db for case in cases) for index in range(len(against.outputs)))
    gates_db = tuple(min(*values, ONE_ROUNDING_DB) for values in noise_db)
    proven = Proven(captured, tuple(expected.values for case in cases for expected in case.outputs))
    programs, certificates = {"capture": captured}, []
    for name, passes in stages.items():
        with stage(name):
            for each in passes:
                proven, certificate = apply(each, proven, probes, gates_db)
                programs[each.name] = proven.program
                certificates.append(certificate)
    return Network(
        weights=weights,
        reference=against,
        captured=stats(captured),
        fingerprint=fingerprint(captured),
        certificates=tuple(certificates),
        regions=(),
        proven=proven,
        programs=programs,
        probes=probes,
        gates_db=gates_db,
    )


@dataclass(frozen=True, slots=True)
class Lowered:
    """A runtime's own copy of the program.

    Attributes:
        choices: The form of every group of depthwise kernels, and what decided.
    """

    program: Program
    certificates: tuple[Certificate, ...]
    choices: tuple[KernelChoice, ...]


def lower(network: Network, runtime: str, precision: str, choose: Choose = as_trained) -> Lowered:
    """A runtime's own copy of the program, written the way it is fast at.

    Args:
        network: Captured, materialised and fused.
        runtime: Whose preferences count.
        precision: Of the artifact.
        choose: What decides the forms of depthwise kernels.

    Raises:
        ParityError: A lowering changed the network.
        BudgetError: No form of the kernels is small enough.
    """
    lowering = LOWERINGS[runtime, precision]
    choices = choose_each(network, lowering, choose)
    forms = (KernelForms(tuple(choice.form for choice in choices)),) if choices else ()
    proven, certificates = network.through((*lowering.before, *forms, *lowering.after))
    return Lowered(proven.program, certificates, together(choices))


def choose_kernels(network: Network, runtime: str, precision: str, choose: Choose) -> tuple[KernelChoice, ...]:
    """The forms that depthwise kernels get for a runtime.

    Raises:
        ParityError: A lowering changed the network.
        BudgetError: No form of the kernels is small enough.
    """
    return together(choose_each(network, LOWERINGS[runtime, precision], choose))


def choose_each(network: Network, lowering: Lowering, choose: Choose) -> list[KernelChoice]:
    """The choice for every group, in the order in which `KernelForms` meets them."""
    if not lowering.kernels:
        return []
    program = network.through(lowering.before)[0].program
    groups = [(site.group, site.path) for site in find_groups(program)]
    return choose(groups, sum(value.nbytes for _, value in constants(program)))


def run_in_float64(model: nn.Module, captured: Program) -> Function:
    """The model in float64; where its code insists on float32, as `x.float()` does, its captured program instead."""
    double = model_in_float64(model)

    def forward(*inputs: Tensor) -> tuple[Tensor, ...]:
        try:
            return double(*inputs)
        except RuntimeError as error:
            if "dtype" not in str(error) and "Double" not in str(error):
                raise
            return program_in_float64(captured)(*inputs)

    return forward


def captured_program(built: Built) -> Program:
    """Captures the network, and says what in the user's code is in the way when that fails.

    Raises:
        ModelError: It cannot be captured, or the program that comes out cannot be exported.
    """
    try:
        # A copy, because a network that keeps what it computes would keep tensors without values.
        program = capture(copy.deepcopy(built.model), *(spec.shape for spec in built.inputs))
    except ModelError as error:
        if error.__cause__ is None:
            raise
        raise ModelError(explain_capture_error(error.__cause__, built.original)) from error.__cause__
    if reason := explain_program(program, built.original):
        raise ModelError(reason)
    return program


def set_weights(built: Built, plan: Plan) -> WeightsSource:
    """Loads the user's checkpoint or the package's, draws random weights from a seed, or leaves the network its own.

    Raises:
        WeightsError: The checkpoint cannot be read, is not this model's, or has changed since the plan was made.
    """
    if plan.request.weights is not None or plan.shipped is not None:
        fit = partial(fit_backbone, built.original) if plan.request.features else dict
        loaded = load_weights(built.original, weights_file(plan), ema=plan.request.ema, fit=fit)
        if loaded.sha256 != plan.weights_sha256:
            raise WeightsError(
                f"{plan.request.weights or plan.shipped} was replaced while it was read. Run the command again."
            )
        settled = settle(plan.source.text, built.original) if plan.source.text in CARDS else ()
        return structs.replace(loaded, kind="shipped" if plan.shipped else "file", notes=(*loaded.notes, *settled))
    if plan.source.weights in ("own", "fixed"):
        return WeightsSource(kind="model", sha256=hash_state(built.original))
    seed = plan.request.seed or 0
    source = random_weights(built.original, seed)
    spec = TensorSpec(name=INPUT_NAME, shape=statistics_shape(plan.card.input_shape))
    images = np.concatenate([image for (image,) in generate([spec]).values()])
    measure_batch_norms(built.model, torch.from_numpy(images), seed)
    return source


def statistics_shape(shape: Shape) -> Shape:
    """The input shape for measuring batch norms: the card's, so that weights do not depend on the size asked for."""
    return (*shape[:2], *(min(side, MAX_STATISTICS_SIDE) for side in shape[2:]))


def weights_file(plan: Plan) -> Path:
    """The checkpoint of the plan: the package's, or the user's; one at an address is fetched beside the cache, once.

    Raises:
        OutputError: There is nowhere to keep it.
        WeightsError: It cannot be fetched, or is another file than its SHA-256 says.
    """
    if plan.shipped is not None:
        return plan.shipped
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
        parities = case_parity(against, case, forward(case.inputs))
        if failure(parities):
            worst = tightest(parities)
            raise ParityError(
                f"Capture changed the network: {worst.parity.snr_db:.1f} dB on input {case.name!r}, where the model "
                f"itself reaches {worst.noise_db:.1f} dB. Does the model choose its path by the values of its input?"
            )


def numpy_forward(function: Callable[..., Tensor | Sequence[Tensor]]) -> Forward:
    """A network in torch, whatever its precision, as a function of numpy arrays."""

    def forward(images: Images) -> Outputs:
        with torch.no_grad():
            returned = as_tuple(function(*map(torch.from_numpy, images)))
        return tuple(output.numpy() for output in returned)

    return forward


def program_forward(program: Program) -> Forward:
    """A program as a float32 function of numpy arrays."""
    return numpy_forward(program)
