"""The proofs: parity of every artifact, what each pass did, what was fused, and how kernels were lowered."""

from collections import Counter
from collections.abc import Iterator, Sequence

from edgekit.artifact import CaseParity, GraphStats, QuantRecord, RegionCertificate
from edgekit.report.document import Block, Cell, Fold, Section, Table, Text
from edgekit.report.gather import BundleFacts, Entry, Facts
from edgekit.report.wording import NONE, code, decibels, grouped, mebibytes, number, plural, table
from edgekit.tuning.words import CandidateCost, KernelChoice


def section(facts: Facts) -> Section:
    """The section."""
    lead = (
        "Every artifact ran in its own runtime against the original model in float64; every pass was compared before "
        "and after in float64. The gates come from what torch's own float32 reaches on the same inputs; what was "
        "quantized only has to come out as it did when it was made, and how good it is, its accuracy says."
    )
    blocks = [block for bundle in facts.bundles for block in _bundle(bundle, several=facts.several)]
    return Section("certificates", "Certificates", lead, (*_parity(facts.entries), *_quantized(facts.entries), *blocks))


def _bundle(bundle: BundleFacts, *, several: bool) -> Iterator[Block]:
    of = f" of {bundle.name}" if several else ""
    manifest = bundle.manifest
    yield table(
        f"Passes{of}",
        ["pass", ">rewrites", ">declined", "what changed", ">SNR in float64", ">required"],
        (
            [
                Cell(one.name),
                number(sum(one.fired.values())),
                number(len(one.declined)),
                Cell(changed(one.before, one.after)),
                decibels(one.parity.snr_db),
                decibels(one.gate_db),
            ]
            for one in manifest.passes
        ),
    )
    if manifest.regions:
        yield Fold(f"Fused regions{of}: {_summed(manifest.regions)}", (_regions(of, manifest.regions),))
    for entry in bundle.entries:
        if entry.member.kernels:
            yield Fold(f"Depthwise kernels in {entry.label}: {_forms(entry.member.kernels)}", (_choices(entry),))


HEADINGS = ("artifact", "input", "output", ">SNR", ">required", ">torch float32", ">max |Δ|", ">cosine", "verdict")


def _parity(entries: Sequence[Entry]) -> tuple[Table, Fold]:
    """Of each artifact the case that comes closest to its gate, and all of them in a fold."""
    closest = [_case(entry, tightest(entry.member.parity)) for entry in entries]
    rows = [_case(entry, case) for entry in entries for case in entry.member.parity]
    title = "Parity with the original model"
    whole = f"{title}, every input and output"
    return (
        table(f"{title}, where it comes closest to its gate", HEADINGS, closest),
        Fold(f"{whole}: {plural(len(rows), 'comparison')}", (table(whole, HEADINGS, rows),)),
    )


def tightest(cases: Sequence[CaseParity]) -> CaseParity:
    """The case with the least to spare, a failed one first."""
    return min(cases, key=lambda case: (case.passed, case.parity.snr_db - case.gate_db))


def _case(entry: Entry, case: CaseParity) -> list[Cell]:
    return [
        Cell(entry.label),
        Cell(case.case),
        code(case.output),
        decibels(case.parity.snr_db),
        decibels(case.gate_db),
        decibels(case.noise_db),
        number(case.parity.max_abs, ".1e"),
        number(case.parity.cosine, ".9f"),
        _verdict(entry, case),
    ]


def _verdict(entry: Entry, case: CaseParity) -> Cell:
    if not case.passed:
        return Cell("differs", tone="bad")
    # A quantized artifact only has to come out as it did when it was made; how good it is, accuracy says.
    return Cell("as quantized") if entry.quantized else Cell("same network", tone="good")


def _quantized(entries: Sequence[Entry]) -> Iterator[Block]:
    """How artifacts were quantized, and which operators stayed float and why."""
    records = [(entry, entry.member.quantization) for entry in entries]
    known = [(entry, record) for entry, record in records if record is not None]
    if not known:
        return
    headings = ["artifact", "recipe", ">operators", "calibrated on", ">SNR held out", ">required"]
    rows = [
        [
            Cell(entry.label),
            code(record.recipe),
            Cell(f"{record.quantized} of {len(record.operators)} {record.precision}", float(record.quantized)),
            Cell(f"{record.calibration.data}, {plural(record.calibration.images, 'image')}"),
            decibels(record.held_out.snr_db),
            decibels(record.floor_db),
        ]
        for entry, record in known
    ]
    yield table("Quantized artifacts", headings, rows)
    for entry, record in known:
        yield from (Text(f"{entry.label}: {warning}", "warn") for warning in record.warnings)
        title = f"Operators of {entry.label} in {record.precision} and float"
        yield Fold(title, (_operators(title, record),))


def _operators(title: str, record: QuantRecord) -> Table:
    headings = ["operator", "module", "kind", ">MACs", "precision", "why float"]
    return table(
        title,
        headings,
        (
            [
                code(each.name),
                Cell(each.module or "–"),
                Cell(each.kind),
                number(each.macs),
                Cell(each.precision),
                Cell(each.reason or "–"),
            ]
            for each in record.operators
        ),
    )


def changed(before: GraphStats, after: GraphStats) -> str:
    """What a pass did to the size of a program."""
    pairs = (
        ("operators", before.operators, after.operators),
        ("parameters", before.parameters, after.parameters),
        ("MACs", before.macs, after.macs),
    )
    return ", ".join(f"{name} {old:,} → {new:,}" for name, old, new in pairs if old != new) or "same size"


def _summed(regions: Sequence[RegionCertificate]) -> str:
    rules = grouped(regions, lambda region: region.rule)
    return ", ".join(f"{len(members)} × {rule}" for rule, members in rules.items())


def _regions(of: str, regions: Sequence[RegionCertificate]) -> Table:
    headings = ["place", "became", ">operators", ">parameters", ">MACs", ">SNR", ">of its bound", "why"]
    return table(
        f"Fused regions{of}",
        headings,
        (
            [
                code(one.site),
                Cell(one.rule),
                _pair(len(one.before.operators), len(one.after.operators)),
                _pair(one.before.parameters, one.after.parameters),
                _pair(one.before.macs, one.after.macs),
                decibels(one.snr_db),
                number(one.used, ".0%"),
                Cell(one.decision),
            ]
            for one in regions
        ),
    )


def _pair(before: int, after: int) -> Cell:
    """Two sizes, sorted by what was saved."""
    return Cell(f"{before:,} → {after:,}" if before != after else f"{after:,}", float(before - after))


def _forms(choices: Sequence[KernelChoice]) -> str:
    places: Counter[str] = Counter()
    for choice in choices:
        places[choice.form] += len(choice.sites)
    return ", ".join(f"{plural(many, 'place')} as {form}" for form, many in places.items())


def _choices(entry: Entry) -> Table:
    rows = [
        [
            Cell(choice.group),
            number(len(choice.sites)),
            Cell(way.form),
            _cost(way, choice.unit),
            Cell(mebibytes(way.bytes), float(way.bytes)),
            Cell(f"taken: {choice.source}", tone="good") if way.form == choice.form else NONE,
        ]
        for choice in entry.member.kernels
        for way in choice.candidates
    ]
    headings = ["group", ">places", "form", ">adds", ">constants", "decision"]
    return table(f"Candidates for the depthwise kernels in {entry.label}", headings, rows)


def _cost(way: CandidateCost, unit: str) -> Cell:
    """What a form adds to an inference, or how it compares with the best one."""
    if way.added is None:
        return NONE if way.ratio is None else number(way.ratio, ".2f", " ×")
    return number(way.added, ".3f", " ms") if unit == "ms" else number(way.added / 1e6, ".3f", " M instructions")
