"""A network as artifacts of its branches, which processors or boards of their own can run at the same time.

    NAME.fp32.onnx.parts.json     which parts there are, and what goes from one to the next
    NAME.fp32.stem.onnx           a part, an artifact like any other, its values under the names in the description
    NAME.fp32.streams.0.onnx      ...

Together they are verified as the whole is.
"""

from collections.abc import Callable, Iterator, Sequence
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


def write_parts(plan: Plan, exporter: Exporter, folder: Path, clock: Clock, network: Network) -> Member:
    """Lowers the program for the exporter's runtime, cuts it at the branches that the plan names, and writes the parts.

    Raises:
        MisuseError: The plan names no branches.
        ParityError: The parts are not the network together.
        BudgetError: No form of the kernels is small enough.
        ConverterError: The format cannot be had of a part.
    """
    pattern = plan.partition
    assert pattern is not None, "asked only then"  # noqa: S101
    with clock.stage(f"cut for {exporter.runtime}"):
        chooser = plan.chooser(exporter, plan.request.max_bytes)
        lowered = lower(network, exporter.runtime, plan.lowering, chooser)
        cut = partition(lowered.program, pattern)
        certificate = certify(lowered.program, cut, pattern, network.probes)
    with clock.stage(f"export {exporter.format} parts"):
        described, files, cases = _write(plan, exporter, folder, network, cut)
    if reason := failure(cases):
        raise ParityError(
            f"In {exporter.format} the parts are not the same network together: {reason}. Nothing was published."
        )
    return Member(
        artifact=Artifact(
            format=exporter.format,
            runtime=exporter.runtime,
            precision=plan.request.precision,
            files=hash_files([described, *files]),
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
) -> tuple[Path, list[Path], tuple[CaseParity, ...]]:
    """Writes every part and their description, with the first candidates that are the network together."""
    names = _value_names(plan.inputs, cut)
    written = [_candidates(plan, exporter, folder, part, names) for part in cut.parts]
    place = folder / f"{plan.stem}.{exporter.format}{SUFFIX}"

    def described(chosen: Sequence[Candidate]) -> Path:
        content = msgspec.json.encode(_describe(plan, network, cut, names, chosen))
        place.write_bytes(msgspec.json.format(content) + b"\n")
        return place

    chosen, cases = next(_verified(exporter, written, described, network))
    kept = [
        keep(one, each, folder, f"{plan.stem}.{part.name}", exporter)
        for one, each, part in zip(chosen, written, cut.parts, strict=True)
    ]
    return described([Candidate(files, "") for files in kept]), [file for files in kept for file in files], cases


def _verified(
    exporter: Exporter,
    written: Sequence[tuple[Candidate, ...]],
    described: Callable[[Sequence[Candidate]], Path],
    network: Network,
) -> Iterator[tuple[list[Candidate], tuple[CaseParity, ...]]]:
    """The first candidates of all parts, or the second ones and so on, that are the network; else the last ones."""
    last = min(map(len, written)) - 1
    for number in range(last + 1):
        chosen = [each[number] for each in written]
        cases = verify_file(exporter.runtime, described(chosen), network.reference)
        if number == last or failure(cases) is None:
            yield chosen, cases


def _value_names(inputs: Sequence[TensorSpec], cut: Partition) -> dict[str, str]:
    """What values are called outside: inputs as the network's, the others as in the program."""
    return dict(zip(cut.inputs, (spec.name for spec in inputs), strict=True))


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


def _describe(
    plan: Plan, network: Network, cut: Partition, names: dict[str, str], chosen: Sequence[Candidate]
) -> PartsDescription:
    """What is written about the parts, given the files of each."""
    return PartsDescription(
        inputs=plan.inputs,
        outputs=network.reference.outputs,
        returns=tuple(names.get(name, name) for name in cut.outputs),
        parts=tuple(
            PartFiles(
                name=part.name,
                files=tuple(file.name for file in candidate.files),
                inputs=tuple(names.get(name, name) for name in part.inputs),
                outputs=tuple(names.get(name, name) for name in part.outputs),
            )
            for part, candidate in zip(cut.parts, chosen, strict=True)
        ),
        metadata=plan.metadata,
    )
