"""Makes a session's folder on a board and starts the guard in it: `python3 -c TEXT SIZE BASE...`.

The runner, SIZE bytes of it, comes first on standard input; what follows is for the guard. The folder is `.edgekit` in
the first BASE that is there and can be written. This text is plain, for it is not known yet which Python the board has.
"""

import fcntl
import os
import shutil
import sys
import tempfile


def make_session(bases: "list[str]") -> "tuple[str, str]":
    """The private folder, and the session's own in it."""
    reason = "there is none of " + ", ".join(bases)
    for base in filter(os.path.isdir, map(os.path.expanduser, bases)):
        root = os.path.join(base, ".edgekit")
        try:
            os.makedirs(os.path.join(root, "sessions"), mode=0o700, exist_ok=True)
            return root, tempfile.mkdtemp(dir=os.path.join(root, "sessions"))
        except OSError as error:
            reason = str(error)
    sys.exit("edgekit: no folder can be written: " + reason)


def receive(size: int) -> bytes:
    """That many bytes from standard input, and not one more."""
    content = b""
    while len(content) < size:
        part = os.read(0, size - len(content))
        if not part:
            raise OSError("the link was cut")
        content += part
    return content


def main(size: int, bases: "list[str]") -> None:
    """Becomes the guard; a session counts as in use while the file `alive` in its folder is locked."""
    if sys.version_info < (3, 7):  # noqa: UP036 - that is what is to be found out
        sys.exit("edgekit: Python 3.7 or newer is needed, and this is " + sys.version.split()[0])
    root, session = make_session(bases)
    try:
        alive = os.open(os.path.join(session, "alive"), os.O_CREAT | os.O_RDWR, 0o600)
        fcntl.flock(alive, fcntl.LOCK_EX)
        os.set_inheritable(alive, True)
        runner = os.path.join(session, "runner.zip")
        with open(runner, "wb") as file:
            file.write(receive(size))
    except OSError as error:
        shutil.rmtree(session, ignore_errors=True)
        sys.exit("edgekit: {} cannot be set up: {}".format(session, error))  # noqa: UP032 - for Pythons without
    paths = [os.path.join(root, "wheels"), os.environ.get("PYTHONPATH", "")]
    os.environ["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    os.execv(sys.executable, [sys.executable, runner, "guard", session])  # noqa: S606 - no shell is wanted


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
