"""Help and shell completion."""

import click
import pytest
from click.shell_completion import BashComplete

from edgekit.cli import COMMANDS, cli
from tests.cli.conftest import Run, Spawn, finish


@pytest.mark.parametrize("name", [None, *COMMANDS])
@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help(run: Run, name: str | None, option: str) -> None:
    result = run(*([name] if name else []), option)

    assert result.exit_code == 0
    assert result.stdout.startswith("Usage: edgekit")
    assert result.stderr == ""


def test_nothing_at_all_shows_the_help(run: Run) -> None:
    result = run()

    assert result.exit_code == 2
    assert all(f"\n  {name} " in result.output for name in COMMANDS)


@pytest.mark.parametrize(
    ("line", "incomplete", "offered"),
    [
        ([], "ex", ["export"]),
        (["export"], "parcnetv2_x", ["parcnetv2_xt"]),
        (["export", "parcnetv2_t", "--target"], "rk32", ["rk3288"]),
        (["export", "parcnetv2_t", "--format"], "o", ["onnx", "openvino"]),
        (["export", "parcnetv2_t", "--kernel"], "", ["interpolate", "keep"]),
        (["models"], "parcnetv2_b", ["parcnetv2_b"]),
        (["targets"], "rpi", ["rpi3", "rpi4", "rpi5"]),
        (["inspect"], "parcnetv2_b", ["parcnetv2_b", "file"]),
        (["verify"], "edgekit-out/", ["file"]),
        (["export", "parcnetv2_t"], "--dry", ["--dry-run"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_the_shell_completes(line: list[str], incomplete: str, offered: list[str]) -> None:
    found = BashComplete(cli, {}, "edgekit", "_EDGEKIT_COMPLETE").get_completions(line, incomplete)

    names = [item.value if item.type == "plain" else item.type for item in found]
    assert set(offered) <= set(names)
    assert all(name.startswith(incomplete) or name == "file" for name in names)


def test_completion_speaks_the_shells_protocol(spawn: Spawn) -> None:
    variables = {"_EDGEKIT_COMPLETE": "bash_complete", "COMP_WORDS": "edgekit export parcnetv2_x", "COMP_CWORD": "2"}

    code, output, errors = finish(spawn(env=variables))

    assert "plain,parcnetv2_xt" in output.splitlines()
    assert (code, errors) == (0, "")


def test_a_command_that_is_imported_late_is_still_a_command() -> None:
    context = click.Context(cli)

    assert all(isinstance(cli.get_command(context, name), click.Command) for name in cli.list_commands(context))
    assert cli.get_command(context, "no-such") is None
