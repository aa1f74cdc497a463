"""Scripts for the shell of a board, which may be any POSIX shell, and what comes back from it."""

import shlex

from edgekit.targets.address import Address

PYTHONS = ("python3", *(f"python3.{minor}" for minor in range(15, 6, -1)))
"""Names that Python has on boards, the usual one first."""

MARK = "edgekit: "
"""Begins a line by which edgekit's own programs say why they end."""

PYTHON_MISSING = "there is no python3 on its PATH"


def python_script(arguments: tuple[str, ...]) -> str:
    """A script that runs the board's Python with these arguments."""
    given = shlex.join(arguments)
    names = " ".join(PYTHONS)
    return (
        f'for python in {names}; do if command -v "$python" >/dev/null 2>&1; then exec "$python" {given}; fi; done; '
        f"echo '{MARK}{PYTHON_MISSING}' >&2; exit 127"
    )


def shell_command(script: str, shell: str = "/bin/sh") -> str:
    """A command line by which a script runs in a POSIX shell, whichever shell the user has there."""
    return f"{shell} -c {shlex.quote(script)}"


def told(address: Address, complaints: str) -> str:
    """Why a connection ended, where the way to the board had nothing to say: what the board's programs said."""
    own = [line.partition(MARK)[2] for line in complaints.splitlines() if line.startswith(MARK)]
    if own and own[-1] == PYTHON_MISSING:
        return f"{address.text}: {PYTHON_MISSING}. {without_python(address)}"
    if own:
        return f"{address.text}: {own[-1]}."
    said = f" The last that was said:\n{complaints}" if complaints else " Nothing was said about why."
    return f"The connection to {address.text} ended before the job did.{said}"


def without_python(address: Address) -> str:
    """What can be done with a board that has no Python."""
    return (
        "The runtimes' own benchmark programs need none; bring one that was built for it: "
        f"edgekit bench BUNDLE --device {address.text} --native ncnn=./benchncnn"
    )
