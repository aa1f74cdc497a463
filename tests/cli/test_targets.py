"""`edgekit targets`."""

import json

import pytest

from edgekit.targets.board import board_names, load_board
from tests.cli.conftest import Run


def test_every_target_has_a_row(run: Run) -> None:
    result = run("targets")

    assert result.exit_code == 0
    assert [line.split()[0] for line in result.stdout.splitlines()[2:]] == list(board_names())


@pytest.mark.parametrize("name", board_names())
def test_a_target_says_what_installs_there(run: Run, name: str) -> None:
    board = load_board(name)

    result = run("targets", name)

    assert result.exit_code == 0
    assert result.stdout.startswith(f"{name}: {board.summary}"[:100])
    assert all(
        f"\n  {support.install}  # {', '.join(support.architectures)}\n" in result.stdout for support in board.runtimes
    )
    words = " ".join(result.stdout.split())
    assert all(" ".join(note.split()) in words for note in board.notes)


def test_json_has_the_boards_as_they_are(run: Run) -> None:
    every, one = (json.loads(run("targets", *name, "--json").stdout) for name in ((), ("rk3288",)))

    assert every["schema_version"] == one["schema_version"] == 2
    assert [board["name"] for board in every["targets"]] == list(board_names())
    assert one["targets"] == [board for board in every["targets"] if board["name"] == "rk3288"]
    assert one["targets"][0]["architectures"] == ["armv7l"]
