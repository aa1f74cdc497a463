"""Reading a report: its sections, tables, tiles and charts."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from msgspec import structs

from edgekit.bundle import Manifest, read_manifest, write_manifest
from edgekit.report.compose import compose
from edgekit.report.document import Block, Chart, Document, Section, Table, flat
from edgekit.report.gather import gather


def report(*folders: Path) -> Document:
    return compose(gather(folders))


def section(document: Document, name: str) -> Section:
    (found,) = [each for each in document.sections if each.name == name]
    return found


def every(found: Section, kind: type[Any]) -> list[Any]:
    return [block for block in flat(found.blocks) if isinstance(block, kind)]


def column(table: Table, heading: str) -> list[str]:
    index = [each.heading for each in table.columns].index(heading)
    return [row[index].text for row in table.rows]


def tile(document: Document, label: str) -> tuple[str, str, str]:
    (found,) = [each for each in document.tiles if each.label == label]
    return found.value, found.note, found.tone


def drawn(blocks: Iterator[Block]) -> str:
    """All that charts are made of, as text."""
    return msgspec.json.encode([each.wide for each in blocks if isinstance(each, Chart)]).decode()


def changed(folder: Path, **changes: Any) -> Manifest:
    """Writes the bundle's manifest with changes."""
    made = structs.replace(read_manifest(folder), **changes)
    write_manifest(made, folder)
    return made
