"""What a report comes to: one sentence, the tiles, and bundles side by side."""

from collections.abc import Sequence

from edgekit.report.document import Block, Cell, Section, Tile, Tone
from edgekit.report.environment import weights_text
from edgekit.report.gather import BundleFacts, Entry, Facts, Figure
from edgekit.report.memory import peak
from edgekit.report.wording import NONE, listed, mebibytes, milliseconds, number, plural, size, table


def verdict(facts: Facts) -> tuple[str, Tone]:
    """The conclusion in a sentence or two, and how good it is."""
    wrong = [entry.label for entry in facts.entries if not passed(entry)]
    if wrong:
        return f"{listed(wrong)} {'is' if len(wrong) == 1 else 'are'} not the same network as the original.", "bad"
    if not facts.entries:
        return "There is no artifact in it.", "bad"
    same = f"{_all(len(facts.entries))} the same network as the original"
    speed, tone = _speed(facts)
    return f"{same}, {speed}", tone


def _all(many: int) -> str:
    return "The one artifact is" if many == 1 else "Both artifacts are" if many == 2 else f"All {many} artifacts are"


def _speed(facts: Facts) -> tuple[str, Tone]:
    fastest = facts.fastest
    if fastest is not None:
        return (
            f"and {fastest.entry.label} is the fastest: {milliseconds(fastest.median_ms)} on {fastest.where}.",
            "good",
        )
    if facts.figures:
        return "but no latency can be trusted: each was disturbed, as it says below.", "warn"
    return "and nothing was measured yet.", "warn"


def passed(entry: Entry) -> bool:
    """Whether an artifact is the same network in every case that was compared."""
    return bool(entry.member.parity) and all(case.passed for case in entry.member.parity)


def tiles(facts: Facts) -> tuple[Tile, ...]:
    """The figures everybody wants to know first."""
    models = list(dict.fromkeys(bundle.manifest.model.name for bundle in facts.bundles))
    targets = list(dict.fromkeys(bundle.manifest.target for bundle in facts.bundles))
    formats = list(dict.fromkeys(entry.member.artifact.format for entry in facts.entries))
    return (
        Tile("Model", ", ".join(models), _sizes(facts)),
        Tile("Target", ", ".join(targets), weights_note(facts), ""),
        Tile("Artifacts", str(len(facts.entries)), ", ".join(formats)),
        _parity_tile(facts.entries),
        _fastest_tile(facts),
        _smallest_tile(facts.entries),
        *_memory_tile(facts),
    )


def _sizes(facts: Facts) -> str:
    """Input sizes of the bundles."""
    shapes = ["×".join(map(str, spec.shape)) for bundle in facts.bundles for spec in bundle.manifest.inputs]
    return ", ".join(dict.fromkeys(shapes))


def weights_note(facts: Facts) -> str:
    """Where the weights came from, in two words."""
    kinds = dict.fromkeys(bundle.manifest.weights.kind for bundle in facts.bundles)
    words = {"random": "random weights", "file": "trained weights", "model": "the model's own weights"}
    return ", ".join(words.get(kind, f"{kind} weights") for kind in kinds)


def _parity_tile(entries: Sequence[Entry]) -> Tile:
    good = sum(map(passed, entries))
    margins = [case.parity.snr_db - case.gate_db for entry in entries for case in entry.member.parity]
    note = f"{min(margins):.1f} dB above the closest gate" if margins and min(margins) >= 0 else ""
    return Tile(
        "Parity passed", f"{good} of {len(entries)}", note, "good" if entries and good == len(entries) else "bad"
    )


def _fastest_tile(facts: Facts) -> Tile:
    fastest = facts.fastest
    if fastest is not None:
        return Tile(
            "Fastest trusted", milliseconds(fastest.median_ms), f"{fastest.entry.label} on {fastest.where}", "good"
        )
    if facts.figures:
        return Tile("Fastest trusted", "none", "every figure was disturbed", "warn")
    return Tile("Fastest trusted", "–", "not measured yet", "warn")


def _smallest_tile(entries: Sequence[Entry]) -> Tile:
    smallest = min(entries, key=lambda entry: entry.size, default=None)
    if smallest is None:
        return Tile("Smallest", "–")
    return Tile("Smallest", mebibytes(smallest.size), smallest.label)


def _memory_tile(facts: Facts) -> tuple[Tile, ...]:
    known = [
        (peak(memory), figure)
        for figure in facts.figures
        if (memory := figure.side.measurement.memory) is not None and not figure.emulated
    ]
    if not known:
        return ()
    least, figure = min(known, key=lambda pair: pair[0])
    return (Tile("Least memory", mebibytes(least), figure.entry.label),)


def overview(facts: Facts) -> Section:
    """Bundles side by side, or the one bundle's own sheet."""
    names = [bundle.name for bundle in facts.bundles]
    sheets = [_sheet(facts, bundle) for bundle in facts.bundles]
    rows = [[Cell(fact), *(sheet[fact] for sheet in sheets)] for fact in sheets[0]]
    blocks: list[Block] = [table("Side by side" if facts.several else "The bundle", ["", *names], rows)]
    return Section("overview", "Overview", "", tuple(blocks))


def _sheet(facts: Facts, bundle: BundleFacts) -> dict[str, Cell]:
    """What there is to know about a bundle, by its name."""
    manifest, card = bundle.manifest, bundle.manifest.model
    own = [figure for figure in facts.figures if figure.entry.bundle == bundle.name]
    fastest = min((figure for figure in own if figure.trusted), key=lambda figure: figure.median_ms, default=None)
    smallest = min((entry.size for entry in bundle.entries), default=None)
    after = manifest.passes[-1].after if manifest.passes else manifest.captured
    return {
        "model": Cell(f"{card.name}: {card.summary}"),
        "weights": Cell(weights_text(manifest.weights), tone="warn" if manifest.weights.kind == "random" else ""),
        "input": Cell(", ".join(f"{spec.name} {'×'.join(map(str, spec.shape))}" for spec in manifest.inputs)),
        "target": Cell(manifest.target),
        "parameters": number(card.parameters),
        "MACs, before and after the passes": Cell(f"{manifest.captured.macs:,} → {after.macs:,}"),
        "artifacts": number(len(bundle.entries)),
        "parity passed": _passed(bundle.entries),
        "fastest trusted": _fastest(fastest),
        "smallest": NONE if smallest is None else size(smallest),
        "exported": Cell(f"{manifest.created}, edgekit {manifest.edgekit_version}"),
    }


def _passed(entries: Sequence[Entry]) -> Cell:
    good = sum(map(passed, entries))
    return Cell(f"{good} of {plural(len(entries), 'artifact')}", float(good), "good" if good == len(entries) else "bad")


def _fastest(figure: Figure | None) -> Cell:
    if figure is None:
        return NONE
    return Cell(f"{milliseconds(figure.median_ms)}, {figure.entry.label} on {figure.where}", figure.median_ms)
