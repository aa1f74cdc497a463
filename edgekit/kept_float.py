"""Why operators of a quantized artifact are still float, and what they take: reasons of its record, times of a profile.

A profile is tied to the operators by the names of the file's nodes, which quantizing keeps where it leaves an operator
alone, and by modules where it does not. Times are those of the runtime's own profiler, measured once on a machine that
may be busy: they rank operators, and are no latency.
"""

from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct

from edgekit.artifact import OperatorPrecision, QuantRecord
from edgekit.bench.ceiling import measure_ceiling
from edgekit.bench.profile import assess, measure_artifact
from edgekit.bench.profile_bundle import checked
from edgekit.bench.profile_record import OperatorRow
from edgekit.bundle import Manifest, Member, check_file
from edgekit.errors import EnvironmentProblemError
from edgekit.quiet import silenced
from edgekit.reference_file import read_reference

RUNS = 20

FLOAT = "fp32"


class KeptFloat(Struct, frozen=True, kw_only=True):
    """One operator that stayed float.

    Attributes:
        reason: The code of `edgekit.artifact.OperatorPrecision`.
        macs_share: Of the work of all operators that could be quantized.
        ms: What it takes in a run; None where nothing was timed, or the runtime does not tell it apart.
        ms_share: Of what all operators of the artifact take.
        added: What an inference would cost more with it in int8, in `unit`; None where that was not measured.
    """

    name: str
    kind: str
    module: str | None
    reason: str
    macs_share: float
    ms: float | None = None
    ms_share: float | None = None
    added: float | None = None
    unit: str = ""


class Kept(Struct, frozen=True, kw_only=True):
    """What became of the operators of one quantized artifact.

    Attributes:
        timed: Whether there are times.
        kept: Those that stayed float, the longest first, or those with most work.
        ranking: Those that were quantized alone to see what that costs, the lowest SNR first; empty where none was.
    """

    artifact: str
    quantized: int
    operators: int
    timed: bool
    kept: tuple[KeptFloat, ...]
    ranking: tuple[OperatorPrecision, ...]


def kept_float(folder: Path, manifest: Manifest, formats: Sequence[str], threads: int, *, timed: bool) -> list[Kept]:
    """What stayed float in each quantized artifact of these formats, or of all.

    Raises:
        ArtifactError: A file is missing, damaged, or does not load.
        MissingExtraError: A runtime is not installed.
    """
    chosen = [member for member in manifest.whole if not formats or member.artifact.format in formats]
    found = []
    for member in chosen:
        if (record := member.quantization) is not None:
            some = record.quantized < len(record.operators)
            rows = profile_rows(folder, manifest, member, threads) if timed and some else ()
            found.append(kept_of(member.artifact.files[0].name, record, rows))
    return found


def profile_rows(folder: Path, manifest: Manifest, member: Member, threads: int) -> tuple[OperatorRow, ...]:
    """The operators of an artifact with their times; none where the runtime has no profiler that can be read."""
    case = read_reference(check_file(folder, manifest.reference)).cases[0]
    inputs = dict(zip((spec.name for spec in manifest.inputs), case.inputs, strict=True))
    path = checked(folder, member)
    with silenced():
        try:
            measured = measure_artifact(path, member.artifact.runtime, inputs, RUNS, threads)
        except EnvironmentProblemError:
            return ()
        return assess(measured, measure_ceiling(threads)).operators


def kept_of(artifact: str, record: QuantRecord, rows: Sequence[OperatorRow]) -> Kept:
    """What stayed float in one artifact, with the times of a profile where there is one."""
    work = max(sum(each.macs for each in record.operators), 1)
    kept = [timed(each, work, rows) for each in record.operators if each.precision == FLOAT]
    alone = [(each.alone_db, index) for index, each in enumerate(record.operators) if each.alone_db is not None]
    return Kept(
        artifact=artifact,
        quantized=record.quantized,
        operators=len(record.operators),
        timed=bool(rows),
        kept=tuple(sorted(kept, key=lambda each: (-(each.ms or 0.0), -each.macs_share))),
        ranking=tuple(record.operators[index] for _, index in sorted(alone)),
    )


def timed(operator: OperatorPrecision, work: int, rows: Sequence[OperatorRow]) -> KeptFloat:
    """One operator with its time."""
    own = [row for row in rows if operator.name in row.nodes]
    if not own and operator.module:
        own = [row for row in rows if row.module == operator.module and row.macs]
    total = sum(row.ms for row in rows)
    ms = sum(row.ms for row in own) if own else None
    return KeptFloat(
        name=operator.name,
        kind=operator.kind,
        module=operator.module,
        reason=operator.reason,
        macs_share=operator.macs / work,
        ms=ms,
        ms_share=None if ms is None or not total else ms / total,
        added=None if operator.saved is None else 0.0 - operator.saved,
        unit=operator.unit,
    )
