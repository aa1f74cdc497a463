"""The command line: parse, call, print. Nothing here knows how anything is done.

Commands are imported when they are used, so that `edgekit --help` loads no framework.
"""

import os
from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType
from typing import Any

import click

from edgekit.errors import EdgekitError
from edgekit.version import __version__

# Idle OpenMP threads that spin make a float64 reference several times slower on a machine that is busy with something
# else; torch reads this when it is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

COMMANDS: Mapping[str, str] = MappingProxyType(
    {
        "export": "edgekit.cli.export:export",
        "inspect": "edgekit.cli.inspect:inspect",
        "models": "edgekit.cli.models:models",
        "targets": "edgekit.cli.targets:targets",
        "verify": "edgekit.cli.verify:verify",
    }
)
"""Command to where it is."""

INTERRUPTED = 130


class Failure(click.ClickException):
    """An edgekit error at the edge: one message, and the exit code its kind has."""

    def __init__(self, error: EdgekitError, *, as_json: bool) -> None:
        super().__init__(str(error))
        self.error = error
        self.as_json = as_json

    @property
    def exit_code(self) -> int:  # type: ignore[override]
        """The exit code of the error's kind."""
        return self.error.exit_code

    def show(self, file: Any = None) -> None:  # noqa: ARG002 - click's signature
        """Prints the message, to standard output as JSON where JSON was asked for."""
        if not self.as_json:
            click.echo(click.style("Error: ", fg="red", bold=True) + self.message, err=True)
            return
        from edgekit.cli.output import print_json

        print_json({"error": {"kind": type(self.error).__name__, "message": self.message, "exit_code": self.exit_code}})


class Commands(click.Group):
    """A group that imports a command when it is asked for, and turns edgekit's errors into exit codes."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(import_module(module), name)
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        from difflib import get_close_matches

        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            close = get_close_matches(args[0], COMMANDS, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            ctx.fail(f"No such command {args[0]!r}.{hint}")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except EdgekitError as error:
            raise Failure(error, as_json=ctx.meta.get("edgekit.json", False)) from error
        except KeyboardInterrupt:
            click.echo("Interrupted; nothing was left behind.", err=True)
            ctx.exit(INTERRUPTED)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="edgekit")
def cli() -> None:
    """Put a trained image model on a small ARM board, and prove that it is still the same model.

    \b
    edgekit export parcnetv2_t --target arm     make a bundle
    edgekit verify edgekit-out/parcnetv2_t-224-arm
    edgekit models                              what can be exported
    edgekit targets                             for which boards

    Exit codes: 0 fine, 1 a check failed, 2 the request was wrong, 3 the machine lacks something.
    """
