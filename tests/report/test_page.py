"""The page as a file: well-formed, whole in itself, and nobody's words become markup."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from edgekit.report.compose import compose
from edgekit.report.document import Cell, Chart, Commands, Document, Fold, Pictures, Section, Table, Text, Tile, flat
from edgekit.report.drawing import chart
from edgekit.report.gather import gather
from edgekit.report.page import html
from edgekit.report.wording import table

VOID = frozenset({"meta", "img", "br", "hr", "link", "input", "rect"})

EVIL = "<script>alert(1)</script>\"'&"


class Reader(HTMLParser):
    """Reads a page and remembers tags, attributes and text; a tag that closes another one is noted."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.wrong: list[str] = []
        self.seen: list[tuple[str, dict[str, str]]] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def values(self, name: str) -> list[str]:
        """Every value of an attribute."""
        return [attributes[name] for _, attributes in self.seen if name in attributes]


def read(text: str) -> Reader:
    reader = Reader()
    reader.feed(text)
    reader.close()
    return reader


@pytest.fixture(scope="module")
def document(full: Path) -> Document:
    return compose(gather([full]))


@pytest.fixture(scope="module")
def page(page_file: Path) -> str:
    return page_file.read_text()


def test_the_page_is_well_formed_and_no_name_is_given_twice(page: str) -> None:
    reader = read(page)

    assert (reader.wrong, reader.open) == ([], [])
    names = reader.values("id")
    assert len(names) == len(set(names))
    referred = {name for value in re.findall(r"url\(#([^)]+)\)", page) for name in [value]}
    assert referred <= set(names)


def test_the_page_refers_to_nothing_outside(page: str) -> None:
    reader = read(page)

    addresses = [
        value for name in ("src", "href", "xlink:href", "action", "data", "poster") for value in reader.values(name)
    ]
    assert addresses
    assert [each for each in addresses if not each.startswith(("#", "data:image/png;base64,"))] == []
    assert {tag for tag, _ in reader.seen} & {"link", "iframe", "object", "embed", "base", "form"} == set()
    assert re.findall(r"@import|url\((?!#)", page) == []
    policy = next(each["content"] for _, each in reader.seen if each.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-")


def test_every_section_is_there_with_all_it_says(page: str, document: Document) -> None:
    reader = read(page)
    text = "".join(reader.text)

    assert [section.name for section in document.sections if section.name not in reader.values("id")] == []
    blocks = [block for section in document.sections for block in flat(section.blocks)]
    assert {Chart, Commands, Fold, Pictures, Table, Text} <= {type(block) for block in blocks}
    tables = [block for block in blocks if isinstance(block, Table)]
    assert sum(tag == "table" for tag, _ in reader.seen) == len(tables)
    for cell in (cell for each in tables for row in each.rows for cell in row):
        assert cell.text in text
    assert document.verdict in text
    assert all(tile.value in text for tile in document.tiles)


def test_every_picture_has_words_for_those_who_do_not_see_it(page: str, document: Document) -> None:
    reader = read(page)

    charts = [each for section in document.sections for each in flat(section.blocks) if isinstance(each, Chart)]
    assert len(charts) > 4
    labels = [each["aria-label"] for _, each in reader.seen if each.get("role") == "img"]
    for each in charts:
        assert labels.count(f"{each.title}. {each.alternative}") == 2, "wide and narrow"
    assert all(labels)
    assert all("alt" in each for tag, each in reader.seen if tag == "img")
    assert all(each.get("scope") in ("col", "row") for tag, each in reader.seen if tag == "th")
    assert reader.seen[0] == ("html", {"lang": "en"})


def test_the_same_bundle_has_the_same_page(full: Path, page: str) -> None:
    assert html(compose(gather([full]))) == page


def evil() -> Document:
    """A report every word of which wants to be markup."""
    cells = (Cell(EVIL), Cell(EVIL, code=True))
    bar = {"name": EVIL, "value": 1.0, "text": EVIL, "said": EVIL}
    spec = {
        "data": {"values": [bar]},
        "mark": "bar",
        "encoding": {
            "x": {"field": "value", "type": "quantitative"},
            "y": {"field": "name", "type": "nominal"},
            "description": {"field": "said"},
        },
    }
    blocks = (
        table(EVIL, [EVIL, EVIL], [cells]),
        Text(EVIL),
        Fold(EVIL, (Text(EVIL),)),
        chart(EVIL, EVIL, lambda width: {**spec, "height": width // 10}),
    )
    section = Section("evil", EVIL, EVIL, blocks)
    return Document(EVIL, EVIL, EVIL, "", (Tile(EVIL, EVIL, EVIL),), (section,))


def test_nobodys_words_become_markup() -> None:
    text = html(evil())
    reader = read(text)

    assert (reader.wrong, reader.open) == ([], [])
    assert sum(tag == "script" for tag, _ in reader.seen) == 1, "our own"
    assert EVIL not in text
    assert "".join(reader.text).count(EVIL) > 10


def test_a_section_without_a_lead_has_no_empty_paragraph(document: Document) -> None:
    section = replace(document.sections[0], lead="", blocks=())

    assert '<p class="lead">' not in html(replace(document, sections=(section,)))
