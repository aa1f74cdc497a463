"""What a report comes to: one sentence, the tiles, and bundles side by side."""

from collections.abc import Sequence

from edgekit.report.accuracy import step_name
from edgekit.report.document import Block, Cell, Section, Tile, Tone
from edgekit.report.environment import weights_text
from edgekit.report.gather import BundleFacts, Entry, Facts, Figure
from edgekit.report.memory import LOCAL, held, peak
from edgekit.report.wording import NONE, listed, mebibytes, milliseconds, number, plural, size, table


def verdict(facts: Facts) -> tuple[str, Tone]:
    """The conclusion in a sentence or two, and how good it is."""
    wrong = [entry.label for entry in facts.entries if not passed(entry)]
    if wrong:
        return f"{listed(wrong)} {'is' if len(wrong) == 1 else 'are'} not the same network as the original.", "bad"
    if not facts.entries:
        return "There is no artifact in it.", "bad"
    speed, tone = _speed(facts)
    lost, worse = _lost(facts)
    return f"{_same(facts.entries)}, {speed}{lost}", worse or tone


def _same(entries: Sequence[Entry]) -> str:
    """What parity says: of float artifacts that they are the original; quantized ones are others on purpose."""
    float_ones = sum(not entry.quantized for entry in entries)
    others = len(entries) - float_ones
    kind = "float artifact" if others else "artifact"
    who = {
        0: "No artifact is in float",
        1: f"The one {kind} is the same network as the original",
        2: f"Both {kind}s are the same network as the original",
    }
    same = who.get(float_ones, f"All {float_ones} {kind}s are the same network as the original")
    return f"{same}, {plural(others, 'more is', 'more are')} quantized" if others else same


def _lost(facts: Facts) -> tuple[str, Tone]:
    """What was found about accuracy, where a step is over its budget."""
    trained = [bundle for bundle in facts.bundles if bundle.manifest.weights.kind != "random"]
    blamed = [(each.blamed, bundle) for bundle in trained for each in bundle.evaluations]
    over = (step_name(step, bundle) for step, bundle in blamed if step is not None and step.verdict == "over")
    names = list(dict.fromkeys(over))
    if not names:
        return "", ""
    return f" {listed(names)} {'loses' if len(names) == 1 else 'lose'} more accuracy than the budget allows.", "bad"


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
        _parity_tile([entry for entry in facts.entries if not entry.quantized]),
        _fastest_tile(facts),
        _smallest_tile(facts.entries),
        *_memory_tile(facts),
        _accuracy_tile(facts),
    )


def _sizes(facts: Facts) -> str:
    """Input sizes of the bundles."""
    shapes = ["×".join(map(str, spec.shape)) for bundle in facts.bundles for spec in bundle.manifest.inputs]
    return ", ".join(dict.fromkeys(shapes))


def weights_note(facts: Facts) -> str:
    """Where the weights came from, in two words."""
    kinds = dict.fromkeys(bundle.manifest.weights.kind for bundle in facts.bundles)
    words = {
        "random": "random weights",
        "file": "trained weights",
        "model": "the model's own weights",
        "shipped": "trained weights",
    }
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
    known = [one for one in held(facts) if not one.emulated]
    if not known:
        return ()
    least = min(known, key=lambda one: peak(one.memory))
    where = f" on {least.device}" if least.device != LOCAL else ""
    return (Tile("Least memory", mebibytes(peak(least.memory)), f"{least.entry.label}{where}"),)


def _accuracy_tile(facts: Facts) -> Tile:
    """From the first step's accuracy to that of the one that lost most, by the latest evaluation."""
    found = [(bundle, each) for bundle in facts.bundles for each in bundle.evaluations[:1]]
    if not found:
        return Tile("Accuracy", "–", "not evaluated yet")
    bundle, evaluation = found[0]
    if bundle.manifest.weights.kind == "random":
        return Tile("Accuracy", "–", "meaningless with random weights")
    first, *steps = evaluation.steps
    known = [step for step in reversed(steps) if step.drop is not None]  # of equal ones the last is furthest on the way
    worst = max(known, key=lambda step: step.drop or 0.0, default=None)
    if worst is None or first.top1 is None or worst.top1 is None:
        return Tile("Accuracy", "–", f"no labels in {evaluation.data.name}")
    tone: Tone = "bad" if any(step.verdict == "over" for step in steps) else ""
    note = f"top-1 on {evaluation.data.name}, {first.name} to {step_name(worst, bundle)}"
    return Tile("Accuracy", f"{first.top1:.2f} → {worst.top1:.2f} %", note, tone)


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
        "parity passed": _passed([entry for entry in bundle.entries if not entry.quantized]),
        "quantized": number(sum(entry.quantized for entry in bundle.entries)),
        "fastest trusted": _fastest(fastest),
        "smallest": NONE if smallest is None else size(smallest),
        "exported": Cell(f"{manifest.created}, edgekit {manifest.edgekit_version}"),
    }


def _passed(entries: Sequence[Entry]) -> Cell:
    good = sum(map(passed, entries))
    tone: Tone = "good" if good == len(entries) else "bad"
    return Cell(f"{good} of {plural(len(entries), 'float artifact')}", float(good), tone)


def _fastest(figure: Figure | None) -> Cell:
    if figure is None:
        return NONE
    return Cell(f"{milliseconds(figure.median_ms)}, {figure.entry.label} on {figure.where}", figure.median_ms)
