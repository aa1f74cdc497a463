"""Figures as text, and as cells that sort by what they are."""

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from edgekit.report.document import Cell, Column, Table, Tone

T = TypeVar("T")

NONE = Cell("–")
"""Nothing to say; sorted last."""

_MEBI = 1 << 20


def table(title: str, headings: Sequence[str], rows: Iterable[Sequence[Cell]]) -> Table:
    """A table; columns whose heading starts with `>` hold figures."""
    columns = tuple(Column(heading.lstrip(">"), numeric=heading.startswith(">")) for heading in headings)
    return Table(title, columns, tuple(tuple(row) for row in rows))


def number(value: float, form: str = ",", unit: str = "", tone: Tone = "") -> Cell:
    """A figure in this form, with its unit."""
    return Cell(f"{value:{form}}{unit}", float(value), tone)


def code(text: str) -> Cell:
    """A name, as it is written in files and commands."""
    return Cell(text, code=True)


def milliseconds(value: float) -> str:
    """About four digits."""
    return f"{value:.{3 if value < 1 else 2 if value < 100 else 1}f} ms"


def mebibytes(size: float) -> str:
    """Bytes as MiB."""
    return f"{size / _MEBI:.1f} MiB"


def size(value: int) -> Cell:
    """Bytes as MiB, sorted by the byte."""
    return Cell(mebibytes(value), float(value))


def decibels(value: float) -> Cell:
    """An SNR; equal outputs have none, and come after all others."""
    return Cell("equal" if value >= 400.0 else f"{value:.1f} dB", value)


def plural(many: int, one: str, more: str = "") -> str:
    """1 artifact, 2 artifacts."""
    return f"{many:,} {one if many == 1 else more or one + 's'}"


def listed(names: Sequence[str]) -> str:
    """a, b and c."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def grouped(items: Iterable[T], key: Callable[[T], str]) -> dict[str, list[T]]:
    """Items by a word, in the order in which the words come first."""
    found: dict[str, list[T]] = {}
    for item in items:
        found.setdefault(key(item), []).append(item)
    return found


def commands(command: Sequence[str]) -> str:
    """A command line as it is typed."""
    from shlex import join

    return join(command)
