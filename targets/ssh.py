"""Boards behind ssh, through the user's own OpenSSH client, with its configuration, keys, agents and jump hosts.

Host keys are checked as the user has it configured; nothing is ever asked, because nobody may be there to answer.
`$EDGEKIT_SSH` names another client, with options, as `$GIT_SSH_COMMAND` does for git.
"""

import os
import shlex
import shutil

from edgekit.errors import EnvironmentProblemError
from edgekit.targets.address import Address
from edgekit.targets.posix import python_script, shell_command, told

VARIABLE = "EDGEKIT_SSH"

OPTIONS = (
    *("-T", "-o", "BatchMode=yes", "-o", "ClearAllForwardings=yes"),
    *("-o", "ConnectTimeout=10", "-o", "ServerAliveInterval=5", "-o", "ServerAliveCountMax=3"),
)
"""A link that is cut without a word is noticed after 15 seconds."""

EXPLANATIONS = (
    (
        "has changed and you have requested strict checking",
        "shows another host key than the known one. If the board was set up anew, forget the old key with "
        "`ssh-keygen -R {host}`; if not, somebody may be in between",
    ),
    (
        "Host key verification failed",
        "has a host key that is not known here. Connect once with `ssh {login}` and compare its fingerprint",
    ),
    (
        "Permission denied",
        "lets nobody in with the keys that ssh offers. Bring yours there with `ssh-copy-id {login}`",
    ),
    ("Could not resolve hostname", "is no name that this machine can resolve. Check the name, or your network"),
    (
        "Connection refused",
        "is there, but nothing listens on that port. Start an ssh server on it, or give another port",
    ),
    ("No route to host", "cannot be reached. Is it switched on and in this network?"),
    ("timed out", "does not answer. Is it switched on and in this network?"),
    ("not responding", "fell silent: the link was cut, or the board hangs or reboots. Nothing of this job is kept"),
)
"""What ssh says to what that means."""


class SshShell:
    """One connection through ssh."""

    bases: tuple[str, ...] = ("~", "/tmp")  # noqa: S108 - for a board whose home cannot be written; the folder in it is private

    def __init__(self, address: Address) -> None:
        self.address = address
        self._client = shlex.split(os.environ.get(VARIABLE, "ssh"))
        if not self._client or shutil.which(self._client[0]) is None:
            raise EnvironmentProblemError(
                f"Reaching {address.text} needs an ssh client. On Debian, as root: apt-get install openssh-client."
            )

    @property
    def _login(self) -> str:
        host = self.address.name.strip("[]")
        return f"{self.address.user}@{host}" if self.address.user else host

    def command(self, arguments: tuple[str, ...]) -> list[str]:
        return self._remote(python_script(arguments))

    def script(self, text: str) -> list[str]:
        return self._remote(shell_command(text))

    def _remote(self, line: str) -> list[str]:
        port = ("-p", str(self.address.port)) if self.address.port else ()
        return [*self._client, *OPTIONS, *port, "--", self._login, line]

    def explain(self, complaints: str) -> str:
        known = {"host": self._known_host, "login": self._login_text}
        for sign, meaning in EXPLANATIONS:
            if sign in complaints:
                return f"{self.address.text} {meaning.format(**known)}."
        return told(self.address, complaints)

    @property
    def _login_text(self) -> str:
        return f"-p {self.address.port} {self._login}" if self.address.port else self._login

    @property
    def _known_host(self) -> str:
        host = self.address.name.strip("[]")
        return f"'[{host}]:{self.address.port}'" if self.address.port else host
