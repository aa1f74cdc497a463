"""What benchmark programs of the user's printed, in a table of its own: it is compared with nothing."""

from collections.abc import Iterator

from edgekit.bench.compare import setting_text
from edgekit.bench.fleet_rows import EMULATED, UNCOMPARED, printed_text
from edgekit.bench.record import Printed, Run
from edgekit.report.document import Cell, Table
from edgekit.report.gather import Entry, Facts
from edgekit.report.wording import decibels, table

TITLE = "Printed by programs that are not edgekit's: no single times, no interval, compared with nothing"


def tables(facts: Facts) -> Iterator[Table]:
    """The latest figure of each artifact in each program, device and setting; no table where there is none."""
    rows: dict[tuple[object, ...], list[Cell]] = {}
    for bundle in facts.bundles:
        entries = {entry.sha256: entry for entry in bundle.entries}
        for run in bundle.runs:
            for one in run.printed:
                where = (one.subject.sha256, run.machine.device, one.subject.distribution, one.setting)
                rows.setdefault(where, _row(entries[one.subject.sha256], run, one))
    if rows:
        headings = ("artifact", "device", "program", "threads", "figure", "SNR there", "verdict")
        yield table(TITLE, headings, list(rows.values()))


def _row(entry: Entry, run: Run, one: Printed) -> list[Cell]:
    return [
        Cell(entry.label),
        Cell(run.machine.device),
        Cell(one.subject.distribution),
        Cell(setting_text(one)),
        Cell(printed_text(one)),
        Cell(UNCOMPARED) if one.parity is None else decibels(one.parity.parity.snr_db),
        Cell(EMULATED if one.emulated else one.verdict.level),
    ]
