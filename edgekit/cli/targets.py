"""`edgekit targets`."""

from typing import TYPE_CHECKING

import click

from edgekit.cli.options import complete_targets, json_option

if TYPE_CHECKING:
    from edgekit.targets.board import Board


@click.command()
@click.argument("name", required=False, shell_complete=complete_targets)
@json_option
def targets(name: str | None, as_json: bool) -> None:
    """List the kinds of board, or show one: its processor, and which runtimes install there."""
    from edgekit.cli.output import print_json
    from edgekit.targets.board import board_names, load_board

    boards = [load_board(name)] if name else [load_board(each) for each in board_names()]
    if as_json:
        print_json({"targets": boards})
    elif name:
        show_board(boards[0])
    else:
        show_list(boards)


def cores_text(board: "Board") -> str:
    """The clusters of a board in a few words."""
    return " + ".join(
        f"{cluster.count}x {cluster.core}" + (f" {cluster.clock_mhz} MHz" if cluster.clock_mhz else "")
        for cluster in board.clusters
    )


def show_list(boards: "list[Board]") -> None:
    """Prints one row per board."""
    from edgekit.cli.output import console, table

    listing = table("Targets", "name", "processor", ">memory", "architectures", "formats")
    for board in boards:
        listing.add_row(
            board.name,
            cores_text(board),
            f"{board.memory_mb} MB" if board.memory_mb else "unknown",
            ", ".join(board.architectures),
            ", ".join(board.formats) or "none",
        )
    console().print(listing)


def show_board(board: "Board") -> None:
    """Prints a board and the runtimes that install on it."""
    from edgekit.cli.output import console, styled, table

    printer = console()
    printer.print(styled(f"{board.name}: ", "bold") + board.summary)
    printer.print(f"{cores_text(board)}, {board.memory_mb} MB, {', '.join(board.architectures)}")
    printer.print(f"SIMD: {', '.join(board.simd)}\n")
    listing = table("Runtimes", "runtime", "version", "format", "architectures", "note")
    for entry in board.runtimes:
        listing.add_row(entry.runtime, entry.version, entry.format, ", ".join(entry.architectures), entry.note)
    printer.print(listing)
    printer.print("\nOn the board:", style="bold")
    for entry in board.runtimes:
        # In one line, to be copied; the shell takes the rest for a comment.
        printer.print(f"  {entry.install}  # {', '.join(entry.architectures)}", soft_wrap=True)
    printer.print()
    for note in (*board.notes, *(f"source: {source}" for source in board.sources)):
        printer.print(f"- {note}")
