"""Runs of several devices as rows of one table, for the terminal and for Markdown alike.

What an emulated device gives is marked as such in its row, and stands as executed instructions: it is never a time.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import astuple, dataclass

from edgekit.bench.compare import Side, setting_text
from edgekit.bench.markdown import digits, latency_text, line_of, machine_text, memory_text, ratio_text, remark_lines
from edgekit.bench.record import Execution, Measurement, Printed, Reason, Run

EMULATED = "EMULATED"

NO_TIME = (
    "EMULATED: a program stood in for the board. Its outputs are a board's, and executed instructions are exact, but "
    "they know nothing of clock, caches and memory: they are no time."
)

PEAK = "Memory is the peak of a process that only loads and runs the artifact, as runtime + load + run."


UNCOMPARED = "outputs NOT compared"
"""Stands in place of a comparison where a program showed no outputs."""


@dataclass(frozen=True, slots=True)
class Row:
    """One artifact on one device, in one setting."""

    device: str
    artifact: str
    runtime: str
    threads: str
    figure: str
    ratio: str
    memory: str
    snr: str
    verdict: str


HEADINGS = ("device", "artifact", "runtime", "threads", "figure", "ratio", "memory", "SNR", "verdict")
"""Those of a row; a ratio is over the first row of the same device."""

FIGURES = frozenset({"figure", "ratio", "memory", "SNR"})
"""Headings whose cells stand to the right."""


def fleet_rows(runs: Sequence[Run]) -> list[Row]:
    """All artifacts on all devices."""
    return [
        row
        for same in by_measuring(runs)
        for row in (*_timed(same, runs), *_executed(same, runs), *_printed(same, runs))
    ]


def tabulated(rows: Sequence[Row], without: Collection[str] = ()) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Headings and cells of a table, without a column for memory where nobody has one, nor others that do not fit."""
    left = {*without, *(() if any(row.memory for row in rows) else ("memory",))}
    shown = [index for index, name in enumerate(HEADINGS) if name not in left]
    cells = [astuple(row) for row in rows]
    return tuple(HEADINGS[index] for index in shown), [tuple(row[index] for index in shown) for row in cells]


def by_measuring(runs: Sequence[Run]) -> list[list[Run]]:
    """The runs of each device, those of all its bundles together."""
    together: dict[str, list[Run]] = {}
    for run in runs:
        together.setdefault(run.run, []).append(run)
    return list(together.values())


def _timed(same: Sequence[Run], runs: Sequence[Run]) -> Iterator[Row]:
    sides = [Side(run, one) for run in same for one in run.measurements]
    for side in sides:
        one = side.measurement
        yield _row(runs, side.run, one, (latency_text(one), ratio_text(side, sides[0]), one.verdict.level))


def _executed(same: Sequence[Run], runs: Sequence[Run]) -> Iterator[Row]:
    found = [(run, one) for run in same for one in run.executions]
    for run, one in found:
        yield _row(runs, run, one, (executed_text(one), _quotient(found[0][1], one), EMULATED))


def _printed(same: Sequence[Run], runs: Sequence[Run]) -> Iterator[Row]:
    """What programs of the user's said; it is compared with nothing."""
    for run in same:
        for one in run.printed:
            verdict = EMULATED if one.emulated else one.verdict.level
            yield _row(runs, run, one, (printed_text(one), "no ratio", verdict))


def printed_text(one: Printed) -> str:
    """12.34 ms on the mean, and the fastest and the slowest: `mean 12.34 ms (12.20 to 13.01)`."""
    if one.mean_ms is None or one.minimum_ms is None or one.maximum_ms is None:
        return "no time" if one.instructions is None else f"{one.instructions:,} instructions"
    places = digits(one.mean_ms)
    return f"mean {one.mean_ms:.{places}f} ms ({one.minimum_ms:.{places}f} to {one.maximum_ms:.{places}f})"


def _quotient(first: Execution, one: Execution) -> str:
    if one is first:
        return "1"
    return f"{one.instructions / first.instructions:.3f}" if first.instructions and one.instructions else ""


def _row(runs: Sequence[Run], run: Run, one: Measurement | Execution | Printed, figures: tuple[str, str, str]) -> Row:
    """A row with its figure, ratio and verdict."""
    several = len({each.bundle for each in runs}) > 1
    subject, (figure, ratio, verdict) = one.subject, figures
    return Row(
        device=run.machine.device,
        artifact=f"{run.bundle}/{subject.artifact}" if several else subject.artifact,
        runtime=f"{subject.distribution or subject.runtime} {subject.runtime_version}".rstrip(),
        threads=setting_text(one),
        figure=figure,
        ratio=ratio,
        memory="" if isinstance(one, Printed) else memory_text(one.memory),
        snr=UNCOMPARED if one.parity is None else f"{one.parity.parity.snr_db:.1f} dB",
        verdict=verdict,
    )


def executed_text(one: Execution) -> str:
    """15,351,274 instructions."""
    return "not counted" if one.instructions is None else f"{one.instructions:,} instructions"


def footnotes(runs: Sequence[Run]) -> Iterator[str]:
    """Why figures are not trusted, what emulation means, and what each device is."""
    for same in by_measuring(runs):
        sides = [Side(run, one) for run in same for one in run.measurements]
        yield from (f"{same[0].machine.device}: {text}" for text in remark_lines(sides))
        for run in same:
            yield from printed_lines(run)
        if same[0].no_memory:
            yield f"{same[0].machine.device}: {same[0].no_memory}."
    if any(run.executions or any(one.emulated for one in run.printed) for run in runs):
        yield NO_TIME
    if any(row.memory for row in fleet_rows(runs)):
        yield PEAK
    for same in by_measuring(runs):
        yield f"{machine_text(same[0])}; profile {same[0].profile.name}: {same[0].profile.summary}"


def printed_lines(run: Run) -> Iterator[str]:
    """Why figures that programs printed are not trusted: a line for each reason, with the artifacts it is of."""
    about: dict[Reason, list[str]] = {}
    for one in run.printed:
        for reason in one.verdict.reasons:
            about.setdefault(reason, []).append(f"`{one.subject.artifact}` in {one.subject.distribution}")
    for reason, names in about.items():
        yield f"{run.machine.device}: {reason.level}: {', '.join(dict.fromkeys(names))}: {reason.text}"


def fleet_markdown(runs: Sequence[Run]) -> str:
    """One table over all devices and bundles, and what has to be known about its figures."""
    rows = fleet_rows(runs)
    if not rows:
        return "Nothing was measured.\n"
    headings, cells = tabulated(rows)
    sides = ["--:" if name in FIGURES else "---" for name in headings]
    lines = [line_of(headings), line_of(sides), *(line_of(_marked(row)) for row in cells)]
    notes = [f"- {text}" for text in footnotes(runs)]
    return "\n".join([*lines, "", *notes, "", f"{runs[0].created}, edgekit {runs[0].edgekit_version}.", ""])


def _marked(cells: Sequence[str]) -> tuple[str, ...]:
    device, artifact, *rest, verdict = cells
    return (device, f"`{artifact}`", *rest, verdict if verdict == "TRUSTED" else f"**{verdict}**")
