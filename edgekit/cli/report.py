"""`edgekit report`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgekit.cli.options import PATH, json_option

if TYPE_CHECKING:
    from edgekit.report.document import Document, Section

NAME = "report.html"
"""The page's file in a bundle."""


@click.command()
@click.argument("bundles", metavar="[BUNDLE]...", nargs=-1, type=PATH)
@click.option("-o", "--out", type=PATH, help="The file to write, instead of report.html in the bundle.")
@click.option("--markdown", "as_markdown", is_flag=True, help="Markdown instead of HTML, to standard output or --out.")
@json_option
def report(bundles: tuple[Path, ...], out: Path | None, as_markdown: bool, as_json: bool) -> None:
    """Write what is known about BUNDLEs into one page that needs no network: report.html.

    It shows what export, bench, profile and eval have left in them, side by side where there are several, and says
    which command makes what is missing. Alone it takes the newest bundle in ./edgekit-out.

    \b
    edgekit report edgekit-out/parcnetv2_t-224-arm
    edgekit report before after -o comparison.html
    edgekit report --markdown
    """
    from edgekit.cli.contenders import OUT, newest_bundle
    from edgekit.report.compose import compose
    from edgekit.report.gather import gather

    folders = bundles or (newest_bundle(OUT),)
    place = out if as_markdown else out or own_place(folders)
    document = compose(gather(folders))
    if place is None and not as_json:
        click.echo(text_of(document, as_markdown=True), nl=False)
        return
    if place is not None:
        write(text_of(document, as_markdown=as_markdown), place)
    conclude(document, place, as_json=as_json)


def own_place(folders: tuple[Path, ...]) -> Path:
    """Where a bundle's own page is.

    Raises:
        MisuseError: There are several bundles, so it is nobody's own.
    """
    from edgekit.errors import MisuseError

    first, *others = folders
    if others:
        raise MisuseError("A report on several bundles belongs to none of them. Say where to write it with -o FILE.")
    return first / NAME


def text_of(document: "Document", *, as_markdown: bool) -> str:
    """The file's content.

    Raises:
        MissingExtraError: What draws the page is not installed.
    """
    from edgekit.errors import MissingExtraError
    from edgekit.report.markdown import markdown
    from edgekit.report.page import html

    if as_markdown:
        return markdown(document)
    try:
        return html(document)
    except ModuleNotFoundError as error:
        raise MissingExtraError(error.name or "jinja2", "report", "an HTML report") from error


def write(text: str, place: Path) -> None:
    """Writes the file, whole or not at all.

    Raises:
        OutputError: The place cannot be written.
    """
    from edgekit.files import ELSEWHERE, whole_file

    with whole_file(place, ELSEWHERE) as partial:
        partial.write_text(text, encoding="utf-8")


def conclude(document: "Document", place: Path | None, *, as_json: bool) -> None:
    """Says what it came to and where it is."""
    from edgekit.cli.output import console, print_json

    if as_json:
        print_json({"report": str(place) if place else None, **as_record(document)})
        return
    printer = console()
    printer.print(document.verdict, soft_wrap=True)
    printer.print(f"Report: {place}", soft_wrap=True)


def as_record(document: "Document") -> dict[str, Any]:
    """What the report says, for JSON: the verdict, the tiles, and every section's tables."""
    import msgspec

    return {
        "title": document.title,
        "verdict": document.verdict,
        "tone": document.tone,
        "tiles": msgspec.to_builtins(document.tiles),
        "sections": [section_record(section) for section in document.sections],
    }


def section_record(section: "Section") -> dict[str, Any]:
    """A section for JSON: its tables, and what is missing with the command that makes it."""
    import msgspec

    from edgekit.report.document import Missing, Table, flat

    blocks = list(flat(section.blocks))
    return {
        "name": section.name,
        "title": section.title,
        "lead": section.lead,
        "tables": [msgspec.to_builtins(block) for block in blocks if isinstance(block, Table)],
        "missing": [msgspec.to_builtins(block) for block in blocks if isinstance(block, Missing)],
    }
