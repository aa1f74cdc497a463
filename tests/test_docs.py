"""Every command and option explains itself."""

import click
import pytest
from click.testing import CliRunner

from edgekit.cli import COMMANDS, cli


def command(name: str) -> click.Command:
    found = cli.get_command(click.Context(cli), name)
    assert found is not None
    return found


@pytest.mark.parametrize("name", COMMANDS)
def test_command_has_help(name: str) -> None:
    text = command(name).help
    assert text
    assert text.splitlines()[0].endswith("."), "the first line is a sentence"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_has_help(name: str) -> None:
    options = [option for option in command(name).params if isinstance(option, click.Option)]
    assert [option.name for option in options if not (option.help or "").endswith(".")] == []


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_speaks_json(name: str) -> None:
    assert any("--json" in option.opts for option in command(name).params)


@pytest.mark.parametrize("line", ["-h", *(f"{name} -h" for name in COMMANDS)])
def test_short_option_shows_help(line: str) -> None:
    result = CliRunner().invoke(cli, line, prog_name="edgekit", catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert result.output.startswith(f"Usage: edgekit {line.removesuffix('-h')}")
