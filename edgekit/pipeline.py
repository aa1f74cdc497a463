"""The order of the stages. This is the only module that knows it.

    plan -> build, weights -> capture -> materialise -> fuse -> [ lower -> export -> verify ] per format -> bundle
                                                             -> [ ... -> cut -> export -> verify ] where asked
                                                             -> [ ... -> quantize -> verify ] where asked

A stage that is in the cache is skipped, and with it everything only it needs: when all of them are, no framework is
loaded at all.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from msgspec import structs

from edgekit.artifact import Certificate, GraphStats, RegionCertificate, TensorSpec, WeightsSource
from edgekit.bench.store import carry_over as carry_runs_over
from edgekit.bundle import (
    REFERENCE,
    SCHEMA_VERSION,
    Manifest,
    Member,
    Progress,
    check_place,
    write_manifest,
)
from edgekit.cache import StageCache, stage_key, tool_versions
from edgekit.candidates import make_artifact
from edgekit.clock import Clock
from edgekit.data.preprocess import golden
from edgekit.errors import (
    ConverterError,
    MisuseError,
    NoGainError,
)
from edgekit.evaluation.store import carry_over as carry_evaluations_over
from edgekit.exporters import Exporter
from edgekit.files import hash_files, staging, whole_file
from edgekit.kernel_file import PICTURES, write_pictures
from edgekit.plan import Plan
from edgekit.version import __version__

if TYPE_CHECKING:
    from edgekit.inspection import Inspection
    from edgekit.material import Material
    from edgekit.network import Network
    from edgekit.quant import Quantizer
    from edgekit.quant.recipe import Recipe
    from edgekit.tuning.words import KernelChoice


class NetworkRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept of a network once its artifacts are made."""

    weights: WeightsSource
    outputs: tuple[TensorSpec, ...]
    captured: GraphStats
    passes: tuple[Certificate, ...]
    regions: tuple[RegionCertificate, ...]


class LazyNetwork:
    """The network, built when the first stage asks for it."""

    def __init__(self, plan: Plan, clock: Clock) -> None:
        self._plan = plan
        self._clock = clock
        self._network: Network | None = None

    def get(self) -> "Network":
        """The network, captured and materialised."""
        if self._network is None:
            from edgekit.network import prepare

            self._network = prepare(self._plan, self._clock.stage)
        return self._network


def export(plan: Plan, command: Sequence[str], cache: StageCache, progress: Progress) -> Manifest:
    """Carries out a plan and leaves a bundle in `plan.out`.

    Args:
        plan: What to do.
        command: The command line, for the manifest.
        cache: Where finished stages are kept.
        progress: Who watches.

    Raises:
        OutputError: The bundle cannot be written.
        ParityError: A pass or an artifact is not the same network; nothing is published.
        ModelError, WeightsError, ConverterError, ArtifactError: A stage failed.
    """
    check_place(plan.out)
    clock = Clock(progress)
    network = LazyNetwork(plan, clock)
    material = gather_images(plan, clock)
    with staging(plan.out) as folder:
        if plan.network_key is None:
            plan = plan.keyed(network.get().identity())
        record = network_stage(plan, folder, cache, clock, network)
        if plan.partition is not None:
            check_branches(plan, plan.partition, cache, network)
        members = artifacts(plan, folder, cache, clock, network)
        if plan.partition is not None:
            made = {member.artifact.format for member in members}
            able = [entry for entry in plan.exporters if entry.format in made]
            members += [parts_stage(plan, plan.partition, entry, folder, cache, clock, network) for entry in able]
        if material is not None:
            rounded, declined = quantized_artifacts(plan, material, folder, cache, clock, network)
            members = [*(with_note(member, declined) for member in members), *rounded]
        manifest = Manifest(
            schema_version=SCHEMA_VERSION,
            edgekit_version=__version__,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            command=tuple(command),
            model=plan.card,
            weights=record.weights,
            inputs=plan.inputs,
            outputs=record.outputs,
            golden=golden_hash(plan),
            kernel_policy=plan.kernel_policy,
            target=plan.request.target,
            captured=record.captured,
            passes=record.passes,
            regions=record.regions,
            members=tuple(members),
            reference=hash_files([folder / REFERENCE])[0],
            pictures=next(iter(hash_files(folder.glob(PICTURES))), None),
            tools=plan.tools,
            stages=tuple(clock.stages),
            origin=plan.origin,
        )
        write_manifest(manifest, folder)
        for carry_over in (carry_runs_over, carry_evaluations_over):
            carry_over(plan.out, folder, {member.artifact.sha256 for member in members})
    return manifest


def golden_hash(plan: Plan) -> str | None:
    """What shows whether other code prepares images as the card says, for a network that takes one RGB image."""
    shapes = [spec.shape for spec in plan.inputs]
    if len(shapes) != 1 or len(shapes[0]) != 4 or shapes[0][1] != 3:
        return None
    return golden(plan.card.preprocessing, (shapes[0][2], shapes[0][3]))


def inspect(plan: Plan, depth: int, picture: Path | None, progress: Progress) -> "Inspection":
    """Describes a plan's network as all runtimes share it, and draws its large kernels where a path is given.

    Raises:
        OutputError: The picture cannot be written.
        ParityError, ModelError, WeightsError: A stage failed.
    """
    from edgekit.inspection import describe
    from edgekit.pictures import kernel_sheet

    # The picture's place is taken first: that it cannot be written should not show after minutes of work.
    with nullcontext() if picture is None else whole_file(picture) as partial:
        network = LazyNetwork(plan, Clock(progress)).get()
        if partial is not None:
            rows = kernel_sheet(network.proven.program, partial)
            progress.note(f"{rows} kernels drawn into {picture}")
    return describe(network.proven.program, network.certificates, network.regions, depth)


def kernel_choices(plan: Plan, progress: Progress) -> "dict[str, tuple[KernelChoice, ...]]":
    """For each runtime of a plan, the form of every group of depthwise kernels and what decides; nothing is written.

    Raises:
        ParityError, ModelError, WeightsError: A stage failed.
        BudgetError: No form of the kernels is small enough.
    """
    from edgekit.network import choose_kernels

    network = LazyNetwork(plan, Clock(progress)).get()
    most = plan.request.max_bytes
    return {
        entry.runtime: choose_kernels(network, entry.runtime, plan.lowering, plan.chooser(entry, most))
        for entry in plan.exporters
    }


def network_stage(plan: Plan, folder: Path, cache: StageCache, clock: Clock, network: LazyNetwork) -> NetworkRecord:
    """The network's record, and its reference outputs and pictures of its kernels, which go into the bundle."""
    assert plan.network_key is not None, "export settles it first"  # noqa: S101
    found = clock.recall("network", cache, plan.network_key, folder, NetworkRecord)
    if found is not None:
        return found
    made = network.get()  # before what draws it loads torch: a network that cannot be made need not wait for that
    from edgekit.pictures import kernel_pictures
    from edgekit.reference_file import write_reference

    write_reference(made.reference, folder / REFERENCE)
    pictures = write_pictures(kernel_pictures(made.proven.program), folder)
    record = NetworkRecord(
        weights=made.weights,
        outputs=made.reference.outputs,
        captured=made.captured,
        passes=made.certificates,
        regions=made.regions,
    )
    clock.remember(cache, plan.network_key, record, (folder / REFERENCE, *pictures))
    return record


def artifacts(plan: Plan, folder: Path, cache: StageCache, clock: Clock, network: LazyNetwork) -> list[Member]:
    """Every artifact of a plan; a format that only the target asks for is left out where its converter cannot make it.

    Raises:
        ConverterError, MisuseError: A format cannot be made that was asked for by name, or none of them can.
        ParityError, BudgetError: A stage failed.
    """
    members = []
    for entry in plan.exporters:
        try:
            members.append(artifact_stage(plan, entry, folder, cache, clock, network))
        except (ConverterError, MisuseError) as error:
            if plan.request.formats or (not members and entry is plan.exporters[-1]):
                raise
            clock.progress.note(f"Left out: {entry.format}, which {plan.request.target} runs. {error}")
    return members


def gather_images(plan: Plan, clock: Clock) -> "Material | None":
    """The images to quantize with, before anything takes its time; None where nothing is quantized.

    Raises:
        DataError, MisuseError: There are none, or the network takes no images.
    """
    request = plan.request
    if request.data is None:
        return None
    from edgekit.material import gather

    with clock.stage("data"):
        material = gather(request.data, plan.card.preprocessing, plan.inputs, request.calibration)
    for warning in material.warnings:
        clock.progress.note(warning)
    return material


def quantized_artifacts(
    plan: Plan, material: "Material", folder: Path, cache: StageCache, clock: Clock, network: LazyNetwork
) -> tuple[list[Member], dict[str, str]]:
    """Every artifact of a plan once more, quantized, or taken from the cache; and by format why there is none.

    Raises:
        ConverterError, MisuseError: It cannot be made.
        ParityError: It is not the network any more.
    """
    from edgekit.precision_text import speed_note
    from edgekit.quant import float_only

    members: list[Member] = []
    declined: dict[str, str] = {}
    able = {exporter.format for exporter, _, _ in plan.quantizers}
    if floats := [entry.format for entry in plan.exporters if entry.format not in able]:
        clock.progress.note(f"{float_only(floats)}.")
    for exporter, quantizer, recipe in plan.quantizers:
        key = stage_key(
            *("quantized", plan.artifact_keys[exporter.format], recipe.name, plan.request.recipe, material.identity),
            *(plan.request.keep_float, plan.request.max_drop, plan.request.smallest),
            *(plan.request.ranges or quantizer.ranges, tool_versions(quantizer.packages)),
        )
        make = partial(quantized, plan.quantized(), exporter, quantizer, recipe, material, folder, clock, network)
        name = f"{exporter.format} {plan.request.recipe}"
        try:
            members.append(recalled(name, key, folder, cache, clock, make))
        except NoGainError as error:
            declined[exporter.format] = str(error)
            clock.progress.note(f"Left out: {name}. {error}")
            continue
        if (record := members[-1].quantization) is not None and (slow := speed_note(record)):
            clock.progress.note(f"{name}: {slow}.")
        if plan.partition is not None:
            cut = partial(
                quantized_in_parts, plan.quantized(), exporter, quantizer, material, members[-1], folder, clock, network
            )
            members.append(
                recalled(f"{name} parts", stage_key("parts", key, plan.partition), folder, cache, clock, cut)
            )
    return members, declined


def with_note(member: Member, notes: Mapping[str, str]) -> Member:
    """A float artifact with what is to be said about its format."""
    if member.partition is not None or member.artifact.format not in notes:
        return member
    artifact = structs.replace(member.artifact, notes=(*member.artifact.notes, notes[member.artifact.format]))
    return structs.replace(member, artifact=artifact)


def quantized(
    plan: Plan,
    exporter: Exporter,
    quantizer: "Quantizer",
    recipe: "Recipe",
    material: "Material",
    folder: Path,
    clock: Clock,
    network: LazyNetwork,
) -> Member:
    """One quantized artifact; loads frameworks, which one from the cache does not need."""
    from edgekit.quantized import quantize_artifact

    return quantize_artifact(plan, exporter, quantizer, recipe, material, folder, clock, network.get())


def quantized_in_parts(
    plan: Plan,
    exporter: Exporter,
    quantizer: "Quantizer",
    material: "Material",
    whole: Member,
    folder: Path,
    clock: Clock,
    network: LazyNetwork,
) -> Member:
    """A quantized artifact once more, in parts; likewise."""
    from edgekit.quantized_parts import quantize_parts

    return quantize_parts(plan, exporter, quantizer, material, whole, folder, clock, network.get())


def artifact_stage(
    plan: Plan, exporter: Exporter, folder: Path, cache: StageCache, clock: Clock, network: LazyNetwork
) -> Member:
    """One artifact: lowered, exported and verified, or taken from the cache."""

    def make() -> Member:
        return make_artifact(plan, exporter, folder, clock, network.get())

    return recalled(exporter.format, plan.artifact_keys[exporter.format], folder, cache, clock, make)


def recalled(name: str, key: str, folder: Path, cache: StageCache, clock: Clock, make: Callable[[], Member]) -> Member:
    """An artifact from the cache, or made and kept there."""
    found = clock.recall(name, cache, key, folder, Member)
    if found is None:
        found = make()
        clock.remember(cache, key, found, tuple(folder / file.name for file in found.artifact.files))
    return found


def check_branches(plan: Plan, pattern: str, cache: StageCache, network: LazyNetwork) -> None:
    """Refuses modules that are no branches before anything takes its time.

    Raises:
        MisuseError: They are none.
    """
    if not all(cache.holds(plan.parts_key(entry.format)) for entry in plan.exporters):
        from edgekit.passes.partition import partition

        partition(network.get().proven.program, pattern)


def parts_stage(
    plan: Plan, pattern: str, exporter: Exporter, folder: Path, cache: StageCache, clock: Clock, network: LazyNetwork
) -> Member:
    """One artifact once more, in parts, or taken from the cache."""

    def make() -> Member:
        from edgekit.partitioned import write_parts

        return write_parts(plan, pattern, exporter, folder, clock, network.get())

    return recalled(f"{exporter.format} parts", plan.parts_key(exporter.format), folder, cache, clock, make)
