"""The words of a report: what is said, apart from how it looks.

Sections make a `Document` of these; `page` writes it as HTML and `markdown` as Markdown, so both say the same.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

Tone = Literal["", "good", "warn", "bad"]

Spec = dict[str, Any]
"""A Vega-Lite specification."""


@dataclass(frozen=True, slots=True)
class Cell:
    """A table's cell: what is shown, and what it is sorted by where that is a number (None: by its text)."""

    text: str
    value: float | None = None
    tone: Tone = ""
    code: bool = False


@dataclass(frozen=True, slots=True)
class Column:
    """A table's column; figures stand to the right."""

    heading: str
    numeric: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of as many cells as there are columns; the first cell names the row."""

    kind: ClassVar[str] = "table"
    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]


@dataclass(frozen=True, slots=True)
class Chart:
    """A picture of figures that a table of the same section has too.

    Attributes:
        alternative: What it shows, in words, for those who do not see it.
        wide: As it is on a screen of a computer; `narrow` on that of a phone.
    """

    kind: ClassVar[str] = "chart"
    title: str
    alternative: str
    wide: Spec
    narrow: Spec


@dataclass(frozen=True, slots=True)
class Picture:
    """A row of tiles, each a PNG."""

    label: str
    note: str
    tiles: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Pictures:
    """Rows of tiles that belong together."""

    kind: ClassVar[str] = "pictures"
    title: str
    rows: tuple[Picture, ...]


@dataclass(frozen=True, slots=True)
class Text:
    """A paragraph."""

    kind: ClassVar[str] = "text"
    text: str
    tone: Tone = ""


@dataclass(frozen=True, slots=True)
class Missing:
    """Something the bundle does not hold yet, and the command that makes it."""

    kind: ClassVar[str] = "missing"
    text: str
    command: str


@dataclass(frozen=True, slots=True)
class Commands:
    """Command lines, one under the other."""

    kind: ClassVar[str] = "commands"
    title: str
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Fold:
    """Blocks that are shown when they are asked for."""

    kind: ClassVar[str] = "fold"
    title: str
    blocks: tuple["Block", ...]


Block = Table | Chart | Pictures | Text | Missing | Commands | Fold


def flat(blocks: Iterable[Block]) -> Iterator[Block]:
    """Blocks, and those inside of folds."""
    for block in blocks:
        yield block
        if isinstance(block, Fold):
            yield from flat(block.blocks)


@dataclass(frozen=True, slots=True)
class Section:
    """One subject: its name in addresses, its heading, a sentence about what it says, and the evidence."""

    name: str
    title: str
    lead: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True, slots=True)
class Tile:
    """One figure that everybody wants to know first."""

    label: str
    value: str
    note: str = ""
    tone: Tone = ""


@dataclass(frozen=True, slots=True)
class Document:
    """A whole report."""

    title: str
    subtitle: str
    verdict: str
    tone: Tone
    tiles: tuple[Tile, ...]
    sections: tuple[Section, ...]
