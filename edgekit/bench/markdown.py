"""The figures of runs as Markdown, for a comment or a page."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat

from edgekit.bench.compare import Side, compare, names, setting_text
from edgekit.bench.fastest import fastest_lines
from edgekit.bench.record import Interval, Level, Measurement, Memory, Run

HEADINGS = ("artifact", "threads", "median", "p90", "ratio", "load", "first", "memory", "verdict")
_MEBI = 1 << 20


def markdown(runs: Sequence[Run]) -> str:
    """One table over all bundles of one measuring, the reasons of every verdict, and what it was measured on."""
    sides = [Side(run, each) for run in runs for each in run.measurements]
    if not sides:
        return "Nothing was measured.\n"
    rows = [
        HEADINGS,
        ("---", *("--:" for _ in HEADINGS[1:-1]), "---"),
        *map(_row, names(sides), sides, repeat(sides[0])),
    ]
    lines = [line_of(row) for row in rows]
    fastest = [line for each in fastest_lines(sides) for line in (each, "")]
    return "\n".join([*lines, "", *fastest, *_reasons(sides), _circumstances(sides[0].run), ""])


def line_of(cells: Sequence[str]) -> str:
    """A row of a table."""
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _row(name: str, side: Side, first: Side) -> tuple[str, ...]:
    one = side.measurement
    return (
        f"`{name}` in {one.subject.runtime} {one.subject.runtime_version}",
        setting_text(one),
        latency_text(one),
        percentile_text(one, "p90"),
        ratio_text(side, first),
        f"{one.load_ms:.0f} ms",
        f"{one.first_ms:.1f} ms",
        memory_text(one.memory),
        f"**{one.verdict.level}**" if one.verdict.level != "TRUSTED" else "trusted",
    )


def latency_text(one: Measurement) -> str:
    """12.34 ± 0.05 ms: half the width of the interval, the larger half where they differ."""
    median, interval = one.latency.median_ms, one.latency.interval
    places = digits(median)
    return f"{median:.{places}f}{around(median, interval, places)} ms"


def digits(milliseconds: float) -> int:
    """Decimal places that leave about four digits."""
    return 3 if milliseconds < 1 else 2 if milliseconds < 100 else 1


def around(middle: float, interval: Interval | None, places: int) -> str:
    """An interval as what is added to its middle, or nothing where there is none."""
    if interval is None:
        return ""
    return f" ± {max(middle - interval.low, interval.high - middle):.{places}f}"


def ratio_text(side: Side, first: Side) -> str:
    """A latency over that of the first one, with its interval."""
    if side is first:
        return "1"
    return compare(first, side).text or "no ratio"


def verdict_mark(one: Measurement) -> str:
    """The verdict behind a figure, where it is not trusted."""
    return "" if one.verdict.level == "TRUSTED" else f" {one.verdict.level}"


def percentile_text(one: Measurement, name: str) -> str:
    """A percentile, or nothing where there were too few runs for it."""
    value = one.latency.percentiles.get(name)
    return "" if value is None else f"{value:.{digits(value)}f} ms"


def memory_text(memory: Memory | None) -> str:
    """Peak memory while it runs and what it is made of, in MiB."""
    if memory is None:
        return ""
    parts = (memory.runtime_bytes, memory.load_bytes, memory.run_bytes)
    return f"{peak_text(memory)} = {' + '.join(f'{part / _MEBI:.0f}' for part in parts)}"


def peak_text(memory: Memory | None) -> str:
    """Peak memory while it runs, in MiB."""
    if memory is None:
        return ""
    return f"{(memory.runtime_bytes + memory.load_bytes + memory.run_bytes) / _MEBI:.0f} MiB"


@dataclass(frozen=True, slots=True)
class Remark:
    """What speaks against the figures of some artifacts, and how much; no names are all of them."""

    level: Level
    names: tuple[str, ...]
    text: str


def remarks(sides: Sequence[Side]) -> list[Remark]:
    """Why figures are not trusted: what holds for all of them first, then the rest by artifact."""
    verdicts = [side.measurement.verdict for side in sides]
    shared = [reason for reason in verdicts[0].reasons if all(reason in verdict.reasons for verdict in verdicts)]
    found = [Remark(reason.level, (), reason.text) for reason in shared]
    settings = len({side.measurement.setting for side in sides}) > 1
    for called, side in zip(names(sides), sides, strict=True):
        own = [reason for reason in side.measurement.verdict.reasons if reason not in shared]
        name = (called, *((setting_text(side.measurement),) if settings else ()))
        found += [Remark(reason.level, name, reason.text) for reason in own]
    return found


def _reasons(sides: Sequence[Side]) -> Iterator[str]:
    found = [f"- {text}" for text in remark_lines(sides)]
    yield from [*found, ""] if found else []


def remark_lines(sides: Sequence[Side]) -> Iterator[str]:
    """Why figures are not trusted, a line for each reason."""
    for remark in remarks(sides) if sides else ():
        named = f"`{remark.names[0]}`{', '.join(('', *remark.names[1:]))}: " if remark.names else ""
        yield f"{remark.level}: {named}{remark.text}"


def _circumstances(run: Run) -> str:
    return (
        f"Profile {run.profile.name} ({run.profile.summary}), {run.created}, edgekit {run.edgekit_version}, on "
        f"{machine_text(run)}. Latency is the median of the rounds' medians with its 95 % interval; a ratio is over "
        "the first row, in pairs of rounds; memory is the peak, as runtime + load + run."
    )


def machine_text(run: Run) -> str:
    """The machine of a run, in a line."""
    machine = run.machine
    cores = " and ".join(f"{core.count} x {core.name}" for core in machine.cores)
    clock = max((core.highest_mhz for core in machine.cores), default=0)
    kind = " (virtual)" if machine.virtual else " (EMULATED)" if machine.emulated else ""
    speed = f" at {clock} MHz" if clock else ""
    return f"{machine.device}: {cores}{speed}{kind}, {machine.system} {machine.kernel}"
