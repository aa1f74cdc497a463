"""Printing: tables for people, JSON for programs, one line per stage while something runs."""

from collections import Counter
from typing import Any, Literal

import click
import msgspec
from msgspec import structs
from rich.console import Console
from rich.table import Table
from rich.text import Text

from edgekit.artifact import Certificate, GraphStats, QuantRecord, RegionSize, WeightsSource
from edgekit.bundle import Member, Stage
from edgekit.quiet import own_stderr

JSON_SCHEMA_VERSION = 2

FILE_WIDTH = 160
"""Columns of a table that goes to no terminal."""

WIDE = 130
"""Columns a terminal must have for all figures of a comparison; on a narrower one the tables keep to the essential."""


def print_json(content: dict[str, Any]) -> None:
    """Prints one JSON object with its schema version, in UTF-8 whatever the terminal speaks."""
    encoded = msgspec.json.encode({"schema_version": JSON_SCHEMA_VERSION, **content})
    click.echo(msgspec.json.format(encoded, indent=2))


class Printer(Console):
    """rich's console for text that is meant as it stands: names and paths may hold square brackets and colons."""

    def __init__(self, **options: Any) -> None:
        super().__init__(highlight=False, markup=False, emoji=False, **options)

    def on_broken_pipe(self) -> None:
        """Leaves a closed pipe to the command line; rich would end the process, with the code of a failed check."""
        raise BrokenPipeError


def console(*, stderr: bool = False) -> Console:
    """Where tables and messages go."""
    made = Printer(stderr=stderr)
    if not made.is_terminal:
        made.width = FILE_WIDTH
    return made


def styled(text: str, style: str) -> Text:
    """Text with a colour, where the terminal has colours and the user wants them."""
    return Text(text, style=style)


def verdict_text(problem: str | None) -> Text:
    """What a comparison came to."""
    return styled(problem, "red") if problem else styled("same network", "green")


def table(title: str, *columns: str) -> Table:
    """A table whose columns after the first are right-aligned when their heading starts with `>`."""
    made = Table(title=title, title_justify="left", title_style="bold", header_style="bold", box=None, pad_edge=False)
    for index, column in enumerate(columns):
        side: Literal["left", "right"] = "right" if column.startswith(">") else "left"
        made.add_column(column.lstrip(">"), justify=side, overflow="fold", no_wrap=index == 0)
    return made


def decibels(value: float) -> str:
    """An SNR; equal outputs have none."""
    return "equal" if value >= 400.0 else f"{value:.1f} dB"


def count(value: int) -> str:
    """1234567 as 1,234,567."""
    return f"{value:,}"


def mebibytes(size: int) -> str:
    """Bytes as MiB."""
    return f"{size / (1 << 20):.1f} MiB"


def weights_text(weights: WeightsSource) -> str:
    """Where weights came from, in words that cannot be overlooked when they are random."""
    if weights.kind == "random":
        return (
            f"RANDOM weights (seed {weights.seed}): right for latency, memory and parity, meaningless for accuracy. "
            "Give trained ones with --weights."
        )
    if weights.kind == "model":
        return f"those the model came with (sha256 {(weights.sha256 or '')[:12]}…)"
    section = f", section {weights.section}" if weights.section else ""
    notes = "".join(f"; {note}" for note in weights.notes)
    shipped = "trained ones that come with edgekit: " if weights.kind == "shipped" else ""
    return f"{shipped}{weights.file_name} (sha256 {(weights.sha256 or '')[:12]}…{section}){notes}"


def stats_text(before: GraphStats, after: GraphStats) -> str:
    """What a pass did to the size of a program."""
    pairs = (
        ("operators", before.operators, after.operators),
        ("parameters", before.parameters, after.parameters),
        ("MACs", before.macs, after.macs),
    )
    changed = [f"{name} {count(old)} → {count(new)}" for name, old, new in pairs if old != new]
    return ", ".join(changed) or "same size"


def parity_table(members: tuple[Member, ...], *, wide: bool) -> Table:
    """One row per artifact: its size, and the case that comes closest to its gate.

    A quantized one is shown as what it is: compared with its float file on held-out images.
    """
    from edgekit.verify import overall, tightest

    more = ("runtime", ">torch fp32", ">relative", ">cosine", ">top-1") if wide else ()
    listing = table(
        "Parity with the original model in float64",
        *("artifact", ">size", ">SNR", ">required", ">max |Δ|", *more, "verdict"),
    )
    for member in members:
        case, worst = tightest(member.parity), overall(member.parity)
        quantized = member.quantization
        if quantized is not None:
            worst = quantized.held_out
            case = structs.replace(case, parity=worst, gate_db=quantized.floor_db)
        files = member.artifact.files
        details = (
            member.artifact.runtime,
            decibels(case.noise_db),
            f"{worst.relative:.1e}",
            f"{worst.cosine:.9f}",
            f"{worst.top1_agreement:.0%}",
        )
        listing.add_row(
            files[0].name,
            mebibytes(sum(file.size for file in files)),
            decibels(case.parity.snr_db),
            decibels(case.gate_db),
            f"{worst.max_abs:.1e}",
            *(details if wide else ()),
            verdict_text(None if case.passed else "differs") if quantized is None else quantized_text(quantized),
        )
    return listing


def reasons_table(record: QuantRecord) -> Table:
    """The layers of a quantized file by kind and by why they stayed float, with their share of the work."""
    listing = table("Layers", "kind", "precision", "reason", ">layers", ">MACs")
    total = max(sum(each.macs for each in record.operators), 1)
    groups = dict.fromkeys((each.kind, each.precision, each.reason) for each in record.operators)
    for group in groups:
        found = [each.macs for each in record.operators if (each.kind, each.precision, each.reason) == group]
        listing.add_row(*group, str(len(found)), f"{sum(found) / total:.1%}")
    return listing


def quantized_text(record: QuantRecord) -> str:
    """How many operators are int8 or fp16, by which recipe."""
    recipe = "" if record.recipe == record.precision else f", {record.recipe}"
    return f"{record.quantized} of {len(record.operators)} layers {record.precision}{recipe}"


def certificate_table(title: str, certificates: tuple[Certificate, ...]) -> Table:
    """One row per pass: what it did, and the proof."""
    listing = table(title, "pass", ">rewrites", ">declined", "what changed", ">SNR in float64", ">required")
    for one in certificates:
        listing.add_row(
            one.name,
            str(sum(one.fired.values())),
            str(len(one.declined)),
            stats_text(one.before, one.after),
            decibels(one.parity.snr_db),
            decibels(one.gate_db),
        )
    return listing


def sizes_text(size: RegionSize) -> str:
    """Operators, parameters and MACs of a region."""
    names = Counter(size.operators)
    operators = " ".join(f"{number}x {name}" if number > 1 else name for name, number in names.items())
    return f"{operators or 'nothing'}; {count(size.parameters)} parameters, {count(size.macs)} MACs"


class StageLines:
    """Progress on standard error: a spinner with the stage's name on a terminal, a line per finished stage always.

    `ticks` is how often the spinner moves in a second; each time takes processor time, which a measurement notices.
    """

    def __init__(self, *, shown: bool, ticks: float = 10.0) -> None:
        self._stream = own_stderr()
        self._console = Printer(file=self._stream, quiet=not shown)
        self._status = self._console.status("", refresh_per_second=ticks)
        self._spinning = False

    def begin(self, stage: str) -> None:
        if self._console.is_terminal and not self._console.quiet:
            self._status.update(f"{stage} …")
            self._status.start()
            self._spinning = True

    def end(self, stage: Stage) -> None:
        self._stop()
        how = "from cache" if stage.cached else f"{stage.seconds:6.1f} s"
        self._console.print(f"  {stage.name:<24} {how}")

    def note(self, text: str) -> None:
        self._console.print(text, soft_wrap=True)

    def _stop(self) -> None:
        if self._spinning:
            self._status.stop()
            self._spinning = False

    def __enter__(self) -> "StageLines":
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()
        self._stream.close()
