"""The way in, as `edgekit` and as `python -m edgekit`."""

import sys

INTERRUPTED = 130


def main() -> None:
    """Runs the command line; Ctrl-C is quiet from the first moment on, before there is a command to take it."""
    try:
        from edgekit.cli import cli

        cli(prog_name="edgekit")
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    main()
