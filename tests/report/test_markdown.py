"""The same as Markdown: every table and word of the page, whole lines, and never too long for a comment."""

import re
from pathlib import Path

import pytest

from edgekit.report.compose import compose
from edgekit.report.document import Cell, Document, Fold, Missing, Section, Table, Text, flat
from edgekit.report.gather import gather
from edgekit.report.markdown import LONGEST, escape, markdown
from edgekit.report.wording import table


@pytest.fixture(scope="module")
def document(full: Path) -> Document:
    return compose(gather([full]))


def plain(text: str) -> str:
    """Text without what Markdown needs to leave it alone."""
    return re.sub(r"\\(.)", r"\1", text).replace("@\u200b", "@")


def report_of(*blocks: Table | Text | Fold | Missing) -> Document:
    return Document("net", "", "Fine.", "good", (), (Section("one", "One", "", blocks),))


def test_it_says_what_the_page_says(document: Document) -> None:
    text = plain(markdown(document))

    assert text.startswith(f"## {document.title}\n\n❌ {document.verdict}\n")
    for section in document.sections:
        assert f"### {section.title}\n" in text
        assert section.lead in text
        for block in flat(section.blocks):
            if isinstance(block, Table):
                assert f"**{block.title}**" in text
                assert all(cell.text in text for row in block.rows[:12] for cell in row)


def test_every_row_has_as_many_cells_as_its_heading(document: Document) -> None:
    lines = markdown(document).splitlines()

    width = 0
    for line in lines:
        if not line.startswith("|"):
            width = 0
            continue
        cells = len(re.findall(r"(?<!\\)\|", line))
        width = width or cells
        assert cells == width, line
        assert line.endswith(" |")
    assert any(re.fullmatch(r"\| (--:|---)( \| (--:|---))* \|", line) for line in lines)


def test_folds_are_folds_and_closed(document: Document) -> None:
    text = markdown(document)

    assert text.count("<details>") == text.count("</details>") == text.count("<summary>") > 2


@pytest.mark.parametrize(
    "words", ["a | b", "<b>", "`x`", "# no heading", "**x**", "[x](y)", "under_score", "a\nb", "back\\slash", "@name"]
)
def test_words_mean_nothing_but_themselves(words: str) -> None:
    text = markdown(report_of(table(words, [words], [[Cell(words)], [Cell(words, code=True)]]), Text(words)))

    escaped = escape(words)
    assert plain(escaped) == " ".join(words.split())
    assert f"| {escaped} |" in text
    assert f"\n{escaped}\n" in text
    assert "@n" not in escaped
    assert not re.search(r"(?<!\\)[<#|*_\[]", escaped)


def test_a_code_span_holds_its_backticks() -> None:
    text = markdown(report_of(table("t", ["a"], [[Cell("a`b", code=True)]])))

    assert "| `` a`b `` |" in text


def test_what_is_missing_comes_with_its_command() -> None:
    assert "\nNo latency yet. `edgekit bench out`\n" in markdown(
        report_of(Missing("No latency yet.", "edgekit bench out"))
    )


@pytest.mark.parametrize(("rows", "left"), [(100, 100), (2000, 12), (1, 1)])
def test_long_tables_are_cut_where_the_whole_is_too_long_for_a_comment(rows: int, left: int) -> None:
    text = markdown(report_of(table("t", ["word"], [[Cell(f"row{number} " + "x" * 40)] for number in range(rows)])))

    assert len(text) <= LONGEST
    assert text.count("| row") == left
    assert (f"… {rows - left} more rows are in the HTML report." in text) == (rows > left)


def test_many_long_tables_still_fit() -> None:
    tables = [table(f"t{number}", ["w"], [[Cell("x" * 500)]] * 20) for number in range(60)]

    text = markdown(report_of(*tables))

    assert len(text) <= LONGEST
    assert text.count("| xxx") == 60, "a row of each"
