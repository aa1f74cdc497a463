"""What memory each artifact takes: the runtime, the weights, and what running adds."""

from collections.abc import Sequence

from edgekit.bench.record import Memory
from edgekit.report import charts
from edgekit.report.document import Block, Cell, Missing, Section
from edgekit.report.drawing import chart
from edgekit.report.gather import Facts, Figure
from edgekit.report.wording import mebibytes, plural, size, table

PARTS = ("runtime", "weights", "activations")


def section(facts: Facts) -> Section:
    """The section, or what to run for it."""
    found = [(figure, figure.side.measurement.memory) for figure in facts.figures]
    known = _once([(figure, memory) for figure, memory in found if memory is not None and not figure.emulated])
    lead = (
        "Resident memory of a process that only loads and runs one artifact, at its peak: the interpreter with the "
        "runtime, what loading adds (the weights as the processor wants them), and what running adds (activations)."
    )
    if not known:
        wanted = [Missing("No memory was measured yet.", f"edgekit bench {bundle.folder}") for bundle in facts.bundles]
        return Section("memory", "Memory", "", tuple(wanted))
    return Section("memory", "Memory", lead, _blocks(known))


def _once(known: Sequence[tuple[Figure, Memory]]) -> list[tuple[Figure, Memory]]:
    """Each artifact once, as it was measured with the fewest threads: more of them add their stacks, no weights."""
    found: dict[str, tuple[Figure, Memory]] = {}
    for figure, memory in sorted(known, key=lambda pair: pair[0].side.measurement.setting.threads):
        found.setdefault(figure.entry.label, (figure, memory))
    return sorted(found.values(), key=lambda pair: peak(pair[1]))


def peak(memory: Memory) -> int:
    """Bytes while it runs."""
    return memory.runtime_bytes + memory.load_bytes + memory.run_bytes


def parts(memory: Memory) -> tuple[int, int, int]:
    """Bytes of each of `PARTS`."""
    return memory.runtime_bytes, memory.load_bytes, memory.run_bytes


def _blocks(known: Sequence[tuple[Figure, Memory]]) -> tuple[Block, ...]:
    rows = [
        {
            "name": figure.entry.label,
            "part": part,
            "order": order,
            "value": value / (1 << 20),
            "said": f"{figure.entry.label}: {part} {mebibytes(value)}",
        }
        for figure, memory in known
        for order, (part, value) in enumerate(zip(PARTS, parts(memory), strict=True))
    ]
    totals = [
        {"name": figure.entry.label, "value": peak(memory) / (1 << 20), "text": mebibytes(peak(memory))}
        for figure, memory in known
    ]
    text = "; ".join(f"{total['name']} {total['text']}" for total in totals)
    drawn = chart(
        "Peak memory while running",
        f"Stacked bars: {text}.",
        lambda width: charts.stacks(rows, totals, PARTS, "MiB", width),
    )
    headings = ["artifact", ">runtime", ">weights", ">activations", ">peak running", ">peak loading", ">PSS"]
    cells = [
        (Cell(figure.entry.label), *map(size, parts(memory)), *map(size, _peaks(memory))) for figure, memory in known
    ]
    return drawn, table(f"Memory of {plural(len(known), 'artifact')}", headings, cells)


def _peaks(memory: Memory) -> tuple[int, int, int]:
    return peak(memory), memory.load_peak_bytes, memory.peak_pss_bytes
