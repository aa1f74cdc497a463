"""What an inference executes on each emulated board: the latest count of each artifact, and never a time."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from edgekit.bench.record import Execution
from edgekit.report import charts
from edgekit.report.document import Cell, Chart, Missing, Section
from edgekit.report.drawing import chart
from edgekit.report.gather import Entry, Facts
from edgekit.report.latency import opened
from edgekit.report.wording import NONE, decibels, grouped, table

LEAD = (
    "EMULATED: executed instructions of one inference with one thread. They rank kernels and tell regressions, and say "
    "nothing of clocks, caches and memory."
)


@dataclass(frozen=True, slots=True)
class Count:
    """An artifact's latest execution on one device."""

    entry: Entry
    device: str
    execution: Execution


def section(facts: Facts) -> Section:
    """The section, or what to run for it."""
    found = list(latest(facts))
    if not found:
        commands = [f"edgekit bench {bundle.folder} --device qemu://armv7" for bundle in facts.bundles]
        missing = tuple(Missing("No instructions were counted yet.", each) for each in commands)
        return Section("instructions", "Instructions", "", missing)
    by_device = grouped(found, lambda each: each.device)
    pictures = {device: tuple(_charts(device, counts)) for device, counts in by_device.items()}
    headings = ["artifact", "device", "runtime", ">instructions", ">of them vector", ">SNR there"]
    rows = [_row(each) for counts in by_device.values() for each in _ranked(counts)]
    title = "Executed instructions of each artifact, emulated"
    return Section(
        "instructions", "Instructions", LEAD, (*opened(pictures, "Instructions on"), table(title, headings, rows))
    )


def latest(facts: Facts) -> Iterator[Count]:
    """The latest execution of each artifact on each device; runs come the latest first."""
    seen = set()
    for bundle in facts.bundles:
        entries = {entry.sha256: entry for entry in bundle.entries}
        for run in bundle.runs:
            for one in run.executions:
                entry, device = entries[one.subject.sha256], run.machine.device
                if (entry.label, device, one.subject.distribution) not in seen:
                    seen.add((entry.label, device, one.subject.distribution))
                    yield Count(entry, device, one)


def _ranked(counts: Sequence[Count]) -> list[Count]:
    """The fewest instructions first, those that could not be counted last."""
    return sorted(counts, key=lambda each: (each.execution.instructions is None, each.execution.instructions or 0))


def _charts(device: str, counts: Sequence[Count]) -> Iterator[Chart]:
    known = ((each.entry.label, each.execution.instructions) for each in _ranked(counts))
    bars = [_bar(label, executed / 1e6) for label, executed in known if executed]
    if bars:
        text = "; ".join(f"{bar['said']}" for bar in bars)
        yield chart(
            f"Executed instructions on {device}, emulated",
            f"Bars: {text}.",
            lambda width: charts.bars(bars, "million instructions", width),
        )


def _bar(label: str, millions: float) -> dict[str, Any]:
    text = f"{millions:,.1f} M"
    place = {"value": millions, "low": millions, "high": millions, "end": millions}
    return {"name": label, **place, "text": text, "colour": "var(--series-1)", "said": f"{label} {text}"}


def _row(count: Count) -> list[Cell]:
    one = count.execution
    executed = [Cell("not counted"), NONE]
    if one.instructions is not None and one.simd is not None:
        share = one.simd / one.instructions
        executed = [Cell(f"{one.instructions:,}", float(one.instructions)), Cell(f"{share:.0%}", share)]
    return [
        Cell(count.entry.label),
        Cell(count.device),
        Cell(f"{one.subject.distribution} {one.subject.runtime_version}"),
        *executed,
        decibels(one.parity.parity.snr_db),
    ]
