"""A network as artifacts of its branches, which processors or boards of their own can run at the same time.

    NAME.fp32.onnx.parts.json     which parts there are, and what goes from one to the next
    NAME.fp32.stem.onnx           a part, an artifact like any other, its values under the names in the description
    NAME.fp32.streams.0.onnx      ...

Together they are verified as the whole is.
"""

from collections.abc import Sequence
from pathlib import Path

import msgspec
from torch.fx import Node

from edgekit.artifact import Artifact, CaseParity, PartFiles, PartsDescription, TensorSpec
from edgekit.bundle import Member
from edgekit.candidates import keep
from edgekit.clock import Clock
from edgekit.errors import ParityError
from edgekit.exporters import Exporter
from edgekit.exporters.base import Candidate, ExportSpec
from edgekit.files import hash_files
from edgekit.network import Network, lower
from edgekit.passes.partition import Part, Partition, certify, partition, results
from edgekit.plan import Plan
from edgekit.program import placeholders, stats
from edgekit.targets.shipped.parts import SUFFIX
from edgekit.verify import failure, verify_file

PART_KEY = "edgekit.part"
"""Where the metadata of an artifact says which part it is."""


def write_parts(plan: Plan, pattern: str, exporter: Exporter, folder: Path, clock: Clock, network: Network) -> Member:
    """Lowers the program for the exporter's runtime, cuts it at the branches of a pattern, and writes the parts.

    Raises:
        MisuseError: The pattern names no branches.
        ParityError: The parts are not the network together.
        BudgetError: No form of the kernels is small enough.
        ConverterError: The format cannot be had of a part.
    """
    with clock.stage(f"cut for {exporter.runtime}"):
        chooser = plan.chooser(exporter, plan.request.max_bytes)
        lowered = lower(network, exporter.runtime, plan.lowering, chooser)
        cut = partition(lowered.program, pattern)
        certificate = certify(lowered.program, cut, pattern, network.probes)
    with clock.stage(f"export {exporter.format} parts"):
        files, cases = _write(plan, exporter, folder, network, cut)
    return Member(
        artifact=Artifact(
            format=exporter.format,
            runtime=exporter.runtime,
            precision=plan.request.precision,
            files=hash_files(files),
            notes=(f"in {len(cut.parts)} parts, cut at {pattern}",),
        ),
        lowering=lowered.certificates,
        kernels=lowered.choices,
        program=stats(lowered.program),
        parity=cases,
        partition=certificate,
    )


def _write(
    plan: Plan, exporter: Exporter, folder: Path, network: Network, cut: Partition
) -> tuple[list[Path], tuple[CaseParity, ...]]:
    """Writes every part and their description, which comes first, in the first candidates that are the network.

    Raises:
        ParityError: None are.
    """
    names = dict(zip(cut.inputs, (spec.name for spec in plan.inputs), strict=True))  # others stay the program's
    written = [_candidates(plan, exporter, folder, part, names) for part in cut.parts]
    place = folder / f"{plan.stem}.{exporter.format}{SUFFIX}"

    def describe(files: Sequence[tuple[Path, ...]]) -> None:
        content = msgspec.json.encode(_description(plan, network, cut, names, files))
        place.write_bytes(msgspec.json.format(content) + b"\n")

    reason = None
    for chosen in zip(*written, strict=False):
        describe([each.files for each in chosen])
        cases = verify_file(exporter.runtime, place, network.reference)
        reason = failure(cases)
        if reason is None:
            break
    else:
        raise ParityError(
            f"In {exporter.format} the parts are not the same network together: {reason}. Nothing was published."
        )
    kept = [
        keep(one, each, folder, f"{plan.stem}.{part.name}", exporter)
        for one, each, part in zip(chosen, written, cut.parts, strict=True)
    ]
    describe(kept)
    return [place, *(file for files in kept for file in files)], cases


def _candidates(
    plan: Plan, exporter: Exporter, folder: Path, part: Part, names: dict[str, str]
) -> tuple[Candidate, ...]:
    """The ways to write one part."""
    program = part.program
    spec = ExportSpec(
        _specs(part.inputs, placeholders(program), names),
        _specs(part.outputs, results(program), names),
        {**plan.metadata, PART_KEY: part.name},
    )
    return exporter.load()(program, spec, folder, f"{plan.stem}.{part.name}")


def _specs(values: Sequence[str], nodes: Sequence[Node], names: dict[str, str]) -> tuple[TensorSpec, ...]:
    """Values that go into a part or come out of it, as its artifact has them."""
    pairs = zip(values, nodes, strict=True)
    return tuple(TensorSpec(name=names.get(name, name), shape=tuple(node.meta["val"].shape)) for name, node in pairs)


def _description(
    plan: Plan, network: Network, cut: Partition, names: dict[str, str], files: Sequence[tuple[Path, ...]]
) -> PartsDescription:
    """What is written about the parts, given the files of each."""
    return PartsDescription(
        inputs=plan.inputs,
        outputs=network.reference.outputs,
        returns=tuple(names.get(name, name) for name in cut.outputs),
        parts=tuple(
            PartFiles(
                name=part.name,
                files=tuple(file.name for file in own),
                inputs=tuple(names.get(name, name) for name in part.inputs),
                outputs=tuple(names.get(name, name) for name in part.outputs),
            )
            for part, own in zip(cut.parts, files, strict=True)
        ),
        metadata=plan.metadata,
    )
