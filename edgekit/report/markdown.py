"""A report as Markdown, for the comment of a pull request."""

import re
from collections.abc import Iterator, Sequence

from edgekit.report.document import Block, Cell, Commands, Document, Fold, Missing, Pictures, Section, Table, Text

LONGEST = 65_536
"""Characters that code hosts take in a comment."""

SHORT, SHORTEST = 12, 4
"""Rows of a table that are left where the whole would be too long."""

MARKS = {"good": "✅ ", "warn": "⚠️ ", "bad": "❌ ", "": ""}


def markdown(document: Document) -> str:
    """The same as the page says, without pictures; long tables are cut where it would not fit into a comment."""
    texts = (_whole(document, rows) for rows in (None, SHORT, SHORTEST))
    return next((text for text in texts if len(text) <= LONGEST), _whole(document, 1))


def _whole(document: Document, rows: int | None) -> str:
    lines = [f"## {escape(document.title)}", "", f"{MARKS[document.tone]}{escape(document.verdict)}", ""]
    lines += ["| | | |", "| --- | --- | --- |"]
    lines += [f"| {escape(tile.label)} | **{escape(tile.value)}** | {escape(tile.note)} |" for tile in document.tiles]
    for section in document.sections:
        lines += ["", *_section(section, rows)]
    return "\n".join(lines) + "\n"


def _section(section: Section, rows: int | None) -> Iterator[str]:
    body = [line for block in section.blocks for line in _block(block, rows)]
    yield f"### {escape(section.title)}"
    if section.lead:
        yield from ("", escape(section.lead))
    yield from body


def _block(block: Block, rows: int | None) -> Iterator[str]:
    """A block's lines, an empty one before them; charts and pictures are in the page alone."""
    match block:
        case Table():
            yield from ("", f"**{escape(block.title)}**", "", *_table(block, rows))
        case Text():
            yield from ("", f"{MARKS[block.tone]}{escape(block.text)}")
        case Missing():
            yield from ("", f"{escape(block.text)} {_code(block.command)}")
        case Commands():
            longest = max((len(run) for line in block.lines for run in re.findall("`+", line)), default=0)
            fence = "`" * max(3, longest + 1)
            yield from ("", f"**{escape(block.title)}**", "", f"{fence}sh", *block.lines, fence)
        case Fold():
            inside = [line for each in block.blocks for line in _block(each, rows)]
            yield from ("", "<details>", f"<summary>{escape(block.title)}</summary>", *inside, "", "</details>")
        case Pictures():
            kinds = dict.fromkeys(row.note for row in block.rows)
            yield from ("", f"{len(block.rows)} kernels are pictured in the HTML report: {escape('; '.join(kinds))}.")
        case _:
            return


def _table(table: Table, rows: int | None) -> Iterator[str]:
    yield _line([escape(column.heading) for column in table.columns])
    yield _line(["--:" if column.numeric else "---" for column in table.columns])
    shown = table.rows[:rows]
    for row in shown:
        yield _line([_cell(cell) for cell in row])
    if len(shown) < len(table.rows):
        yield from ("", f"… {len(table.rows) - len(shown)} more rows are in the HTML report.")


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(cell: Cell) -> str:
    if cell.code:
        return _code(cell.text.replace("|", "\\|"))
    return f"{MARKS[cell.tone] if cell.tone in ('warn', 'bad') else ''}{escape(cell.text)}"


def _code(text: str) -> str:
    """A code span, whatever backticks are in it."""
    fence = "`" * (max((len(run) for run in re.findall("`+", text)), default=0) + 1)
    return f"{fence}{text}{fence}" if len(fence) == 1 else f"{fence} {text} {fence}"


def escape(text: str) -> str:
    """Text that means nothing but itself: no markup of Markdown or HTML, nobody is called by @name."""
    escaped = re.sub(r"([\\`*_\[\]<>|#~])", r"\\\1", " ".join(text.split()))
    return escaped.replace("@", "@\u200b")
