"""A session on a device that needs nothing there but a POSIX shell and the commonest of its programs.

One connection keeps the session: a script that makes the folder, waits until its input ends or falls silent, then ends
whatever runs in the folder and removes it. Everything else is a connection of its own, which ends within a limit of
time; files go over its standard input.
"""

import hashlib
import itertools
import os
import shlex
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import IO, Protocol, Self

from edgekit.errors import DeviceError
from edgekit.files import sha256
from edgekit.targets.address import Address
from edgekit.targets.link import LAST_WORDS_SECONDS, Content, Progress, end_process, limited, tail
from edgekit.targets.posix import MARK
from edgekit.targets.served import ANSWER_SECONDS, BEATS, SILENCE, SILENCE_SECONDS, SLOWEST_BYTES_PER_S

MOST_BYTES = 4 << 20
"""A program that prints more than this prints no figures."""

SSH_FAILED = 255
"""With this ssh ends where the connection, not the script, is why."""

FULL = ("No space left", "Disk quota exceeded")
"""What a shell's programs say where a file system is full."""

ARTIFACTS = "artifacts"
"""Folder of a session in which programs are started."""

NOT_STARTED = (126, 127)
"""With these a shell ends where a program is there but cannot be started, and where there is none."""

END_IN = """\
end_in() {
    for process in /proc/[0-9]*; do
        case $(cd -P "$process/cwd" 2>/dev/null && pwd -P) in "$1"/*) kill -9 "${process##*/}" ;; esac
    done 2>/dev/null
}
"""
"""Ends what runs below a folder: a program and all that it started are known by where they work."""

LOCK = ".edgekit-shell.lock"
"""Beside the sessions' folders: a link to the number of the keeper whose session has the board to itself."""

TAKE = """\
holder=$(ls -l %(lock)s 2>/dev/null)
holder=${holder##*-> }
[ -z "$holder" ] || kill -0 "$holder" 2>/dev/null || rm -f %(lock)s
if [ "$holder" = %(keeper)s ] || ln -s %(keeper)s %(lock)s 2>/dev/null; then echo taken; else echo queued; fi
"""
"""Takes the board where nobody has it, or whoever had it is gone; making a link succeeds once only."""

TRY_SECONDS = 1.0
"""How often a session that waits for the board tries to take it."""

KEEPER = (
    """\
umask 077
"""
    + END_IN
    + """\
end_all() {
    case $(ls -l "$base/%(lock)s" 2>/dev/null) in *"-> ${folder##*-}") rm -f "$base/%(lock)s" ;; esac
    mv "$folder/work" "$folder/over" 2>/dev/null
    end_in "$folder"
    rm -rf "$folder"
}
watch() {
    heard=
    while (cd "$folder/work" && exec sleep %(seconds)d); do
        now=$(cat "$folder/beat")
        if [ "$now" = "$heard" ]; then
            kill $$
            (cd "$folder/work" && exec sleep 2) || exit
            kill -9 $$
            end_all
            exit
        fi
        heard=$now
    done
}
reason='there is none of its folders'
for base in %(bases)s; do
    [ -d "$base" ] || continue
    base=$(cd -P "$base" && pwd -P) || continue
    for folder in "$base"/.edgekit-shell-*; do
        if [ -d "$folder" ] && ! kill -0 "${folder##*-}" 2>/dev/null; then end_all; fi
    done
    folder=$base/.edgekit-shell-$$
    if reason=$( (rm -rf "$folder" && mkdir "$folder" "$folder/work") 2>&1 ); then
        trap end_all 0
        trap 'exit 1' 1 2 15
        watch >/dev/null 2>&1 </dev/null &
        echo "%(mark)s$folder"
        while read -r beat; do echo "$beat" >"$folder/beat"; done
        exit
    fi
done
echo "%(mark)sno folder can be written: $reason" >&2
exit 1
"""
)
"""Keeps a session. A beat is a line with another number; without one for too long the session is over.

Its end begins by moving the folder that the watch sleeps in, so that no sleep begins there which nobody would end.
"""


class Shell(Protocol):
    """How a script is run on a device, with its standard input and output at this end."""

    address: Address
    bases: tuple[str, ...]

    def script(self, text: str) -> list[str]:
        """What to start here, so that a POSIX shell there runs a script."""
        ...

    def explain(self, complaints: str) -> str:
        """Why a connection ended, from what was written to standard error; the whole message."""
        ...


@dataclass(frozen=True)
class Ended:
    """What a program came to: its exit code, of which those above 128 are signals, and all that it said."""

    code: int
    said: str


@dataclass(frozen=True)
class Guest:
    """An emulated board on the device: the emulator with its options, its `uname -m` and its `/proc/cpuinfo`."""

    emulator: tuple[str, ...]
    machine: str
    cpuinfo: str


class ShellSession:
    """A session on a device; a context manager that leaves nothing behind there.

    Programs run in the guest where there is one.
    """

    def __init__(self, shell: Shell, guest: Guest | None = None) -> None:
        self.address = shell.address
        self.guest = guest
        self._shell = shell
        self._over = threading.Event()
        self._there: set[str] = set()
        self._complaints = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as the session
        patience_s = float(os.environ.get(SILENCE, SILENCE_SECONDS))
        bases = " ".join('"$HOME"' if base == "~" else shlex.quote(base) for base in shell.bases)
        keeper = KEEPER % {"seconds": max(round(patience_s), 1), "bases": bases, "mark": MARK, "lock": LOCK}
        # A session of its own, or Ctrl-C at a terminal would end the connection before the folder is removed.
        self._keeper = subprocess.Popen(
            shell.script(keeper),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._complaints,
            start_new_session=True,
        )
        try:
            self._folder = self._read_folder()
        except BaseException:
            self.close()
            raise
        threading.Thread(target=self._beat, args=(patience_s / BEATS,), daemon=True).start()

    def _read_folder(self) -> str:
        with limited(self._keeper, ANSWER_SECONDS) as expired:
            for line in self._keeper.stdout or ():
                if line.startswith(MARK.encode()):
                    return line.decode().removeprefix(MARK).rstrip("\n")
        if expired.is_set():
            raise DeviceError(f"{self.address.text} did not answer in time and was given up.")
        end_process(self._keeper)
        raise DeviceError(self._shell.explain(tail(self._complaints)))

    @property
    def alive(self) -> bool:
        """Whether it can still be used."""
        return self._keeper.poll() is None

    def take(self, progress: Progress) -> None:
        """Waits until no other session measures there, and has the device to itself from then on.

        Raises:
            DeviceError: It was lost.
        """
        base, _, name = self._folder.rpartition("/")
        script = TAKE % {"lock": shlex.quote(f"{base}/{LOCK}"), "keeper": name.rpartition("-")[2]}
        for attempt in itertools.count():
            if self.ask(script).strip() == b"taken":
                return
            if not attempt:
                progress(f"{self.address.text}: waiting, somebody else is measuring there")
            if self._over.wait(TRY_SECONDS) or not self.alive:
                raise self.lost()

    def push(self, name: str, content: Content) -> None:
        """Writes a file into the session's folder, unless it is there, and compares its hash where the device can.

        Args:
            name: Below the session's folder; a folder and the file in it.
            content: What is in it.

        Raises:
            DeviceError: It has no space, or was lost.
        """
        if name in self._there:
            return
        path = self.path(name)
        size = content.stat().st_size if isinstance(content, Path) else len(content)
        script = (
            f"umask 077; mkdir -p {shlex.quote(str(PurePosixPath(path).parent))} && cat >{shlex.quote(path)} && "
            f"chmod 700 {shlex.quote(path)} && if command -v sha256sum >/dev/null 2>&1; "
            f"then sha256sum <{shlex.quote(path)}; else echo -; fi"
        )
        answer = self._ask(script, ANSWER_SECONDS + size / SLOWEST_BYTES_PER_S, content)
        expected = sha256(content) if isinstance(content, Path) else hashlib.sha256(content).hexdigest()
        found = answer.decode(errors="replace").split()[:1]
        if found not in (["-"], [expected]):
            raise DeviceError(f"{name} arrived damaged on {self.address.text}. Try again.")
        self._there.add(name)

    def fetch(self, name: str) -> bytes:
        """Reads a file of the session's folder.

        Raises:
            DeviceError: There is none, or the device was lost.
        """
        return self._ask(f"cat {shlex.quote(self.path(name))}", ANSWER_SECONDS)

    def ask(self, script: str) -> bytes:
        """What a short script prints.

        Raises:
            DeviceError: It fails, or the device was lost.
        """
        return self._ask(script, ANSWER_SECONDS)

    def run(
        self, folder: str, program: str, arguments: Sequence[str], timeout_s: float, options: Sequence[str] = ()
    ) -> Ended:
        """Runs a program in a folder of the session.

        Args:
            folder: Below the session's `artifacts`.
            program: Its place on the device, or below the session's folder.
            arguments: What it is given.
            timeout_s: Seconds after which it is ended.
            options: What the emulator is given besides, where there is one.

        Raises:
            DeviceError: It took too long, printed without end, or the device was lost.
        """
        emulator = (*self.guest.emulator, *options) if self.guest else ()
        command = shlex.join([*emulator, program if program.startswith("/") else self.path(program), *arguments])
        place = shlex.quote(self.path(f"{ARTIFACTS}/{folder}"))
        script = f'cd {place} && ({command}) </dev/null 2>&1; code=$?; echo; echo "{MARK}$code"'
        process, complaints = self._start(script, None)
        with limited(process, timeout_s, self._end) as expired:  # what it started may hold the pipe that is read
            said = process.stdout.read(MOST_BYTES) if process.stdout else b""
            too_much = len(said) == MOST_BYTES
            if too_much:
                self._end(process)
            process.wait()
        text, mark, code = said.decode(errors="replace").rpartition(f"\n{MARK}")
        if expired.is_set() or too_much:
            how = "printed without end" if too_much else f"did not end within {timeout_s:g} s"
            raise DeviceError(f"{PurePosixPath(program).name} on {self.address.text} {how}, and was ended.")
        end_process(process)
        if not mark or not code.strip().isdecimal():
            raise self.lost(tail(complaints))
        return Ended(int(code), text.strip())

    def _end(self, process: "subprocess.Popen[bytes]") -> None:
        """Ends what runs in the session, and the connection it runs over."""
        with suppress(DeviceError):  # the device may be why
            self._ask(f"{END_IN}end_in {shlex.quote(self.path(ARTIFACTS))}", ANSWER_SECONDS)
        end_process(process)

    def path(self, name: str) -> str:
        """Where a name of the session is on the device."""
        return f"{self._folder}/{name}"

    def _start(self, script: str, content: Content | None) -> "tuple[subprocess.Popen[bytes], IO[bytes]]":
        """A connection of its own on which a script runs, and the file of its complaints."""
        complaints = tempfile.TemporaryFile()  # noqa: SIM115 - it is read when the connection is over
        with _opened(content) as source:
            process = subprocess.Popen(
                self._shell.script(script),
                stdin=source,
                stdout=subprocess.PIPE,
                stderr=complaints,
                start_new_session=True,
            )
        return process, complaints

    def _ask(self, script: str, seconds: float, content: Content | None = None) -> bytes:
        """What a script prints that ends well."""
        process, complaints = self._start(script, content)
        with limited(process, seconds) as expired:
            answer, _ = process.communicate()
        said = tail(complaints)
        if expired.is_set():
            raise DeviceError(f"{self.address.text} did not answer in time and was given up.")
        if process.returncode == 0:
            return answer
        if any(sign in said for sign in FULL):
            raise DeviceError(f"{self.address.text} has no space left. Free some there and try again.")
        if process.returncode == SSH_FAILED or process.returncode < 0 or self._keeper.poll() is not None or not said:
            raise self.lost(said)
        raise DeviceError(f"{self.address.text} refused: {said.splitlines()[-1]}.")

    def lost(self, complaints: str = "") -> DeviceError:
        """Why the session is over, by what its connections complained of."""
        with suppress(subprocess.TimeoutExpired):  # where one was cut, so is the other
            self._keeper.wait(LAST_WORDS_SECONDS if not complaints else 0)
        return DeviceError(self._shell.explain(complaints or tail(self._complaints)))

    def _beat(self, seconds: float) -> None:
        """Tells the keeper now and then that this side lives."""
        number = 0
        while not self._over.wait(seconds):
            number += 1
            try:
                if self._keeper.stdin:
                    self._keeper.stdin.write(f"{number}\n".encode())
                    self._keeper.stdin.flush()
            except (OSError, ValueError):  # whoever asks for something next is told
                return

    def close(self) -> None:
        """Ends the session; the keeper clears up when its input ends."""
        self._over.set()
        with suppress(OSError):
            if self._keeper.stdin:
                self._keeper.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            self._keeper.wait(ANSWER_SECONDS)
        end_process(self._keeper)
        if self._keeper.stdout:
            self._keeper.stdout.close()
        self._complaints.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.close()


@contextmanager
def _opened(content: Content | None) -> Iterator[IO[bytes] | int]:
    """Content as the standard input of a process; of none it is empty."""
    if content is None:
        yield subprocess.DEVNULL
    elif isinstance(content, Path):
        with content.open("rb") as file:
            yield file
    else:
        with tempfile.TemporaryFile() as file:
            file.write(content)
            file.seek(0)
            yield file
