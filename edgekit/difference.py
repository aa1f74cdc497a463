"""What tells two bundles apart: graph, weights, artifacts, parity, accuracy, latency, memory, tools; and a sentence."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from msgspec import Struct

from edgekit.artifact import GraphStats
from edgekit.bench.history import Pairing, Tally, pairings, tallies
from edgekit.bench.record import Run
from edgekit.bench.store import read_runs
from edgekit.bundle import Manifest, Member, read_manifest
from edgekit.errors import MisuseError
from edgekit.evaluation.paired import PairedDrop, paired_drop
from edgekit.evaluation.record import Evaluation
from edgekit.evaluation.store import read_evaluations
from edgekit.verify import tightest


class Both(Struct, frozen=True, kw_only=True):
    """One fact about two bundles, in words; None where one has none."""

    what: str
    first: str | None
    second: str | None


class ArtifactDifference(Struct, frozen=True, kw_only=True):
    """Two artifacts of the same format and precision, cut at the same modules or both whole.

    Attributes:
        identical: Whether they are the same bytes.
        size_bytes: Of all their files.
        program: The program each was made of.
        snr_db: Parity with the original model, on the case that comes closest to its gate.
        latency: One pairing for each setting that both were measured in.
        executed: One tally for each emulated board that counted both.
        partition: The modules at which both are cut; "" where they are whole.
        accuracy: Top-1 on the same images, where both were evaluated on some.
    """

    format: str
    precision: str
    identical: bool
    size_bytes: tuple[int, int]
    program: tuple[GraphStats, GraphStats]
    snr_db: tuple[float, float]
    latency: tuple[Pairing, ...]
    executed: tuple[Tally, ...] = ()
    partition: str = ""
    accuracy: PairedDrop | None = None

    @property
    def name(self) -> str:
        """Its format, and its precision where that is not the usual one."""
        return _name(self.format, self.precision if self.precision != "fp32" else "", self.partition)


class Difference(Struct, frozen=True, kw_only=True):
    """Two bundles beside each other; `facts` holds what differs only."""

    first: str
    second: str
    facts: tuple[Both, ...]
    artifacts: tuple[ArtifactDifference, ...]
    unmatched: tuple[Both, ...]
    conclusion: str


def difference(first: Path, second: Path) -> Difference:
    """Compares two bundles by what they say and what was measured of them.

    Raises:
        BundleError: One is no bundle, or damaged.
        MisuseError: They have no format in common, so there is nothing to compare.
    """
    manifests = read_manifest(first), read_manifest(second)
    known = [{member.artifact.sha256 for member in manifest.members} for manifest in manifests]
    runs = read_runs(first, known[0]), read_runs(second, known[1])
    evaluations = read_evaluations(first, known[0]), read_evaluations(second, known[1])
    artifacts = tuple(_artifacts(manifests, runs, evaluations))
    if not artifacts:
        formats = [", ".join(member.artifact.format for member in each.members) or "nothing" for each in manifests]
        raise MisuseError(f"{first} holds {formats[0]}, {second} holds {formats[1]}: there is nothing to compare.")
    facts = tuple(both for both in _facts(*manifests) if both.first != both.second)
    return Difference(
        first=str(first),
        second=str(second),
        facts=facts,
        artifacts=artifacts,
        unmatched=tuple(_unmatched(*manifests)),
        conclusion=conclude(facts, artifacts),
    )


Key = tuple[str, str, str]
"""Format, precision, and the modules at which it is cut."""


def _key(member: Member) -> Key:
    return member.artifact.format, member.artifact.precision, member.partition.pattern if member.partition else ""


def _name(format_: str, precision: str, partition: str) -> str:
    return " ".join(filter(None, (format_, precision, f"in parts at {partition}" if partition else "")))


def _artifacts(
    manifests: tuple[Manifest, Manifest],
    runs: tuple[Sequence[Run], Sequence[Run]],
    evaluations: tuple[Sequence[Evaluation], Sequence[Evaluation]],
) -> Iterator[ArtifactDifference]:
    others = {_key(member): member for member in manifests[1].members}
    for one in manifests[0].members:
        if other := others.get(_key(one)):
            sha256 = one.artifact.sha256, other.artifact.sha256
            yield ArtifactDifference(
                format=one.artifact.format,
                precision=one.artifact.precision,
                identical=one.artifact.sha256 == other.artifact.sha256,
                size_bytes=(_size(one), _size(other)),
                program=(one.program, other.program),
                snr_db=(tightest(one.parity).parity.snr_db, tightest(other.parity).parity.snr_db),
                latency=pairings(runs[0], runs[1], sha256),
                executed=tallies(runs[0], runs[1], sha256),
                partition=_key(one)[2],
                accuracy=paired_drop(evaluations[0], evaluations[1], sha256),
            )


def _size(member: Member) -> int:
    return sum(file.size for file in member.artifact.files)


def _unmatched(first: Manifest, second: Manifest) -> Iterator[Both]:
    keys = [{_key(member) for member in each.members} for each in (first, second)]
    for key in sorted(keys[0] ^ keys[1]):
        held, name = key in keys[0], _name(*key)
        yield Both(what="artifact", first=name if held else None, second=None if held else name)


def _facts(first: Manifest, second: Manifest) -> Iterator[Both]:
    """Everything the manifests say that could explain a difference."""
    rows = ((first_row, second_row) for first_row, second_row in zip(_said(first), _said(second), strict=True))
    for (what, one), (_, other) in rows:
        yield Both(what=what, first=one, second=other)
    fired = [
        {f"{one.name}: {rule}": count for one in each.passes for rule, count in one.fired.items()}
        for each in (first, second)
    ]
    for rule in dict.fromkeys([*fired[0], *fired[1]]):
        yield Both(what=rule, first=str(fired[0].get(rule, 0)), second=str(fired[1].get(rule, 0)))
    for tool in sorted({*first.tools, *second.tools}):
        yield Both(what=tool, first=first.tools.get(tool), second=second.tools.get(tool))


def _said(manifest: Manifest) -> tuple[tuple[str, str], ...]:
    weights = manifest.weights
    return (
        ("model", manifest.model.name),
        ("weights", f"random, seed {weights.seed}" if weights.kind == "random" else f"{weights.kind} {weights.sha256}"),
        ("inputs", ", ".join(f"{spec.name} {'x'.join(map(str, spec.shape))}" for spec in manifest.inputs)),
        ("outputs", ", ".join(f"{spec.name} {'x'.join(map(str, spec.shape))}" for spec in manifest.outputs)),
        ("kernels", manifest.kernel_policy or "as they are"),
        ("target", manifest.target),
        ("operators", f"{manifest.captured.operators:,}"),
        ("parameters", f"{manifest.captured.parameters:,}"),
        ("MACs", f"{manifest.captured.macs:,}"),
        ("fused regions", str(len(manifest.regions))),
        ("edgekit", manifest.edgekit_version),
    )


def conclude(facts: Sequence[Both], artifacts: Sequence[ArtifactDifference]) -> str:
    """All of it in one sentence."""
    if all(each.identical for each in artifacts):
        return "The artifacts are the same, byte for byte."
    differing = {each.what for each in facts}
    if "model" in differing:
        what = "The second is another model"
    elif "weights" in differing:
        what = "The second has other weights"
    elif {"inputs", "kernels"} & differing:
        what = "The second is made for another input"
    else:
        what = "The second is the same network, made differently"
    return f"{what}: {'; '.join(f'{each.name} {_judgement(each)}' for each in artifacts)}."


def _judgement(one: ArtifactDifference) -> str:
    if one.identical:
        return "is the same, byte for byte"
    known = [each for each in one.latency if each.comparison.ratio is not None]
    said = [_pace(each, several=len(known) > 1) for each in known]
    said += [_work(each) for each in one.executed if each.ratio is not None]
    if not said:
        said = ["cannot be compared in latency" if one.latency else "was not measured in both"]
    return ", ".join([*said, *([_accuracy(one.accuracy)] if one.accuracy else [])])


def _accuracy(found: PairedDrop) -> str:
    """How the second's top-1 compares, with the interval."""
    low, high = found.interval
    if low <= 0 <= high:
        return f"is not shown to be more or less accurate ({-found.drop:+.2f} [{-high:+.2f}, {-low:+.2f}] points)"
    words = f"{abs(found.drop):.2f} points {'less' if found.drop > 0 else 'more'} accurate"
    return f"is {words} [{min(abs(low), abs(high)):.2f}, {max(abs(low), abs(high)):.2f}]"


def _work(tally: Tally) -> str:
    """How the second's executed instructions compare."""
    added = (tally.ratio or 1.0) - 1
    if not added:
        return f"executes as many instructions on {tally.device}"
    return f"executes {abs(added):.2%} {'fewer' if added < 0 else 'more'} instructions on {tally.device}"


def _pace(pairing: Pairing, *, several: bool) -> str:
    """How the second's latency compares, with the interval, and its peak memory."""
    ratio, interval = pairing.comparison.ratio or 1.0, pairing.comparison.interval
    where = f" with {pairing.setting.threads} threads" if several else ""
    if interval is None:
        return f"takes {ratio:.3f} times as long{where}, by too few rounds for an interval"
    span = f"{pairing.comparison.text} times as long"
    if interval.low <= 1 <= interval.high:
        return f"is not shown to be faster or slower{where} ({span})"
    return f"is {abs(ratio - 1):.1%} {'faster' if ratio < 1 else 'slower'}{where} ({span})"
