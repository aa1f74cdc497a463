"""What memory each artifact takes on each device: the runtime, the weights, and what running adds."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from edgekit.bench.record import Memory, Run
from edgekit.report import charts
from edgekit.report.document import Block, Cell, Missing, Section, Text
from edgekit.report.drawing import chart
from edgekit.report.gather import Entry, Facts
from edgekit.report.wording import mebibytes, plural, size, table

PARTS = ("runtime", "weights", "activations")

LOCAL = "local"

LEAD = (
    "Resident memory of a process that only loads and runs one artifact, at its peak: the interpreter with the "
    "runtime, what loading adds (the weights as the processor wants them), and what running adds (activations)."
)

EMULATED = " EMULATED machines run a board's own programs in as much memory, and say nothing of its time."

UNTOLD = Cell("not told")
"""Where the kernel keeps a figure to itself."""


@dataclass(frozen=True, slots=True)
class Held:
    """What an artifact takes on one device."""

    entry: Entry
    device: str
    emulated: bool
    threads: int
    memory: Memory

    @property
    def where(self) -> str:
        """The device, which says that it is emulated wherever its name is."""
        return f"{self.device} (EMULATED)" if self.emulated else self.device


def section(facts: Facts) -> Section:
    """The section, or what to run for it."""
    known, reasons = held(facts), tuple(map(Text, _reasons(facts)))
    if not known:
        wanted = [Missing("No memory was measured yet.", f"edgekit bench {bundle.folder}") for bundle in facts.bundles]
        return Section("memory", "Memory", "", (*reasons, *wanted))
    lead = LEAD + (EMULATED if any(one.emulated for one in known) else "")
    return Section("memory", "Memory", lead, (*_blocks(known), *reasons))


def held(facts: Facts) -> list[Held]:
    """Each artifact once on each device, as it was measured with the fewest threads: more of them add their stacks."""
    found: dict[tuple[str, str], Held] = {}
    for one in sorted(_all(facts), key=lambda each: each.threads):
        found.setdefault((one.entry.label, one.device), one)
    return sorted(found.values(), key=lambda one: peak(one.memory))


def _all(facts: Facts) -> Iterator[Held]:
    """Everything that was measured, the latest first."""
    for bundle in facts.bundles:
        entries = {entry.sha256: entry for entry in bundle.entries}
        for run in bundle.runs:
            machine = run.machine
            measured = run.executions if machine.emulated else run.measurements
            for one in measured:
                if one.memory is not None:
                    entry, threads = entries[one.subject.sha256], one.setting.threads
                    yield Held(entry, machine.device, machine.emulated, threads, one.memory)


def _reasons(facts: Facts) -> list[str]:
    runs: list[Run] = [run for bundle in facts.bundles for run in bundle.runs if run.no_memory]
    return list(dict.fromkeys(f"{run.machine.device}: {run.no_memory}." for run in runs))


def peak(memory: Memory) -> int:
    """Bytes while it runs."""
    return memory.runtime_bytes + memory.load_bytes + memory.run_bytes


def parts(memory: Memory) -> tuple[int, int, int]:
    """Bytes of each of `PARTS`."""
    return memory.runtime_bytes, memory.load_bytes, memory.run_bytes


def _blocks(known: Sequence[Held]) -> tuple[Block, ...]:
    elsewhere = any(one.device != LOCAL for one in known)
    names = [f"{one.entry.label} on {one.where}" if elsewhere else one.entry.label for one in known]
    rows = [
        {
            "name": name,
            "part": part,
            "order": order,
            "value": value / (1 << 20),
            "said": f"{name}: {part} {mebibytes(value)}",
        }
        for name, one in zip(names, known, strict=True)
        for order, (part, value) in enumerate(zip(PARTS, parts(one.memory), strict=True))
    ]
    totals = [
        {"name": name, "value": peak(one.memory) / (1 << 20), "text": mebibytes(peak(one.memory))}
        for name, one in zip(names, known, strict=True)
    ]
    text = "; ".join(f"{total['name']} {total['text']}" for total in totals)
    drawn = chart(
        "Peak memory while running",
        f"Stacked bars: {text}.",
        lambda width: charts.stacks(rows, totals, PARTS, "MiB", width),
    )
    headings = [">runtime", ">weights", ">activations", ">peak running", ">peak loading", ">PSS"]
    headings = ["artifact", *(["device"] if elsewhere else []), *headings]
    cells = [(Cell(one.entry.label), *([Cell(one.where)] if elsewhere else []), *_figures(one.memory)) for one in known]
    return drawn, table(f"Memory of {plural(len({one.entry.label for one in known}), 'artifact')}", headings, cells)


def _figures(memory: Memory) -> Iterator[Cell]:
    yield from map(size, (*parts(memory), peak(memory), memory.load_peak_bytes))
    yield UNTOLD if memory.peak_pss_bytes is None else size(memory.peak_pss_bytes)
