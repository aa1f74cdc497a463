"""The command line: parse, call, print. Nothing here knows how anything is done.

Commands are imported when they are used, so that `edgekit --help` loads no framework.
"""

import sys
from collections.abc import Mapping
from contextlib import suppress
from importlib import import_module
from types import MappingProxyType
from typing import Any

import click

from edgekit.cli.process import Terminated, drop_unwritable_output, orderly, settle_environment
from edgekit.errors import ConverterError, EdgekitError, EnvironmentProblemError, MisuseError
from edgekit.version import __version__

settle_environment()

COMMANDS: Mapping[str, str] = MappingProxyType(
    {
        "bench": "edgekit.cli.bench:bench",
        "device": "edgekit.cli.device:device",
        "devices": "edgekit.cli.device:devices",
        "diff": "edgekit.cli.diff:diff",
        "eval": "edgekit.cli.evaluate:evaluate",
        "export": "edgekit.cli.export:export",
        "gate": "edgekit.cli.gate:gate",
        "inspect": "edgekit.cli.inspect:inspect",
        "models": "edgekit.cli.models:models",
        "profile": "edgekit.cli.profile:profile",
        "quantize": "edgekit.cli.quantize:quantize",
        "report": "edgekit.cli.report:report",
        "targets": "edgekit.cli.targets:targets",
        "tune": "edgekit.cli.tune:tune",
        "verify": "edgekit.cli.verify:verify",
    }
)
"""Command to where it is."""

INTERRUPTED = 130
PIPE_CLOSED = 141
"""128 and the signal's number, as shells have it for SIGINT and SIGPIPE."""


class Failure(click.ClickException):
    """An edgekit error at the edge: one message, and the exit code its kind has."""

    def __init__(self, error: EdgekitError, *, as_json: bool) -> None:
        # Only a converter's own words help with what it could not do; elsewhere its chatter hides the message.
        notes = getattr(error, "__notes__", []) if isinstance(error, ConverterError) else []
        text = "\n".join([str(error).strip(), *notes])
        super().__init__(text.encode(errors="backslashreplace").decode())  # file names may be no text
        self.error = error
        self.as_json = as_json

    @property
    def exit_code(self) -> int:  # type: ignore[override]
        """The exit code of the error's kind."""
        return self.error.exit_code

    def show(self, file: Any = None) -> None:  # noqa: ARG002 - click's signature
        """Prints the message, to standard output as JSON where JSON was asked for."""
        from edgekit.cli.output import console, print_json, styled

        if self.as_json:
            with suppress(OSError):  # standard output may be what failed
                print_json({"error": self.as_record()})
                return
        with suppress(OSError):
            console(stderr=True).print(styled("Error: ", "bold red"), self.message, sep="", soft_wrap=True)

    def as_record(self) -> dict[str, Any]:
        """The error for JSON."""
        return {"kind": type(self.error).__name__, "message": self.message, "exit_code": self.exit_code}


class Commands(click.Group):
    """A group that imports a command when it is asked for, and turns what goes wrong into messages and exit codes."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        try:
            with orderly():
                return super().main(*args, **kwargs)
        except Terminated as error:  # before a command had begun, or after it was done
            sys.exit(error.exit_code)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta["edgekit.command"] = ("edgekit", *args)
        # Looked for by hand, so that errors in the other options come as JSON too.
        ctx.meta["edgekit.json"] = "--json" in args
        return super().parse_args(ctx, args)

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
            raise self._failure(ctx, error) from error
        except click.UsageError as error:
            if ctx.meta["edgekit.json"]:
                raise self._failure(ctx, MisuseError(error.format_message())) from error
            raise
        except BrokenPipeError:
            drop_unwritable_output()
            ctx.exit(PIPE_CLOSED)
        except (OSError, MemoryError, ImportError) as error:
            drop_unwritable_output()
            raise self._failure(ctx, EnvironmentProblemError(system_message(error))) from error
        except (KeyboardInterrupt, Terminated) as error:
            with suppress(OSError):  # the terminal may be gone
                click.echo(ctx.meta.get("edgekit.interrupted", "Interrupted; nothing was left behind."), err=True)
            ctx.exit(error.exit_code if isinstance(error, Terminated) else INTERRUPTED)

    def _failure(self, ctx: click.Context, error: EdgekitError) -> Failure:
        return Failure(error, as_json=ctx.meta["edgekit.json"])


def system_message(error: OSError | MemoryError | ImportError) -> str:
    """What the machine lacks, where nothing nearer to the cause has put it into words."""
    if isinstance(error, MemoryError):
        return "There is not enough memory. Choose a smaller size with --input, or a machine with more memory."
    if isinstance(error, ImportError):
        return f"A package that edgekit needs is missing or broken ({error}). Run: pip install edgekit"
    place = f": {error.filename}" if error.filename else ""
    return f"The system refused to go on: {error.strerror or error}{place}."


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="edgekit")
def cli() -> None:
    """Put a trained image model on a small ARM board, and prove that it is still the same model.

    \b
    edgekit export parcnetv2_t --target arm     make a bundle
    edgekit verify edgekit-out/parcnetv2_t-224-arm
    edgekit bench                               how fast the newest one is, and how far to trust that
    edgekit models                              what can be exported
    edgekit targets                             for which boards

    Exit codes: 0 fine, 1 a check failed, 2 the request was wrong, 3 the machine lacks something, 130 interrupted.
    """
