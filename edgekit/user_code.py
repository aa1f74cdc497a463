"""Running a user's code, and saying in one message what went wrong there.

A traceback through torch is forty frames of which one is the user's. Here the last frame that is neither torch, nor
Python itself, nor edgekit is found and named.
"""

import os
import sys
import sysconfig
import traceback
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from pathlib import Path
from traceback import FrameSummary
from typing import TypeVar

from edgekit.errors import EdgekitError, ModelError

T = TypeVar("T")

_EDGEKIT = Path(__file__).resolve().parent
_STDLIB = Path(sysconfig.get_path("stdlib")).resolve()

LONGEST = 300
"""Characters of a foreign error message that are shown."""


def run_user_code(doing: str, call: Callable[[], T]) -> T:
    """Calls the user's code; what it prints goes to standard error, because standard output belongs to the result.

    Args:
        doing: What it was called for, which begins the message, such as "my.py:build".
        call: The call.

    Raises:
        ModelError: It raised; the message names the user's file and line and the exception.
    """
    try:
        with redirect_stdout(sys.stderr):
            return call()
    except EdgekitError:
        raise
    except (Exception, SystemExit) as error:
        raise ModelError(f"{doing} failed{at_line(error)}: {described(error)}") from error


def at_line(error: BaseException) -> str:
    """` at file:line, in function`, or nothing when the error did not come from a file of the user's."""
    place = user_place(error)
    return f" at {place}" if place else ""


def user_place(error: BaseException) -> str | None:
    """`file:line, in function` of the user's code in an error's traceback."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{shown_path(error.filename)}:{error.lineno}"
    frame = user_frame(traceback.extract_tb(error.__traceback__))
    return frame_text(frame) if frame else None


def frame_text(frame: FrameSummary) -> str:
    """`file:line, in function: the line itself`."""
    code = f" (`{frame.line.strip()}`)" if frame.line else ""
    return f"{shown_path(frame.filename)}:{frame.lineno}, in {frame.name}{code}"


def user_frame(frames: list[FrameSummary] | traceback.StackSummary) -> FrameSummary | None:
    """The last frame of the user's own files, else of a package other than torch."""
    files = [frame for frame in inner_frames(list(frames)) if not frame.filename.startswith("<")]
    foreign = [frame for frame in files if not is_machinery(frame.filename)]
    own = [frame for frame in foreign if not is_installed(frame.filename)]
    chosen = own or foreign
    return chosen[-1] if chosen else None


def inner_frames(frames: list[FrameSummary]) -> list[FrameSummary]:
    """The frames inside the call of edgekit or torch.export that went wrong, without those that led to it."""
    doors = [index for index, frame in enumerate(frames) if is_door(frame.filename)]
    return frames[doors[-1] + 1 :] if doors else frames


def is_door(filename: str) -> bool:
    """Whether a file calls the user's code, and is called by whoever runs edgekit."""
    path = Path(filename).resolve()
    return path.parts[-3:] == ("torch", "export", "__init__.py") or (
        path.is_relative_to(_EDGEKIT) and not path.is_relative_to(_EDGEKIT / "models")
    )


def is_installed(filename: str) -> bool:
    """Whether a file is part of an installed package."""
    return bool({"site-packages", "dist-packages"} & set(Path(filename).parts))


def is_machinery(filename: str) -> bool:
    """Whether a file is Python's, torch's, or edgekit's without its models: nowhere a user would change anything."""
    path = Path(filename).resolve()
    if is_installed(filename):
        parts = path.parts
        return any(parts[index + 1 : index + 2] == ("torch",) for index in installed_roots(parts))
    if path.is_relative_to(_EDGEKIT):
        return not path.is_relative_to(_EDGEKIT / "models")
    return path.is_relative_to(_STDLIB) or filename.startswith(("importlib", "frozen "))


def installed_roots(parts: tuple[str, ...]) -> Iterator[int]:
    """Where in a path the folder of installed packages is."""
    return (index for index, part in enumerate(parts) if part in {"site-packages", "dist-packages"})


def shown_path(filename: str) -> str:
    """A path as the user would write it: relative when it is below the working folder."""
    path, here = Path(filename), Path.cwd()
    return str(path.relative_to(here)) if path.is_absolute() and path.is_relative_to(here) else filename


def described(error: BaseException) -> str:
    """`ValueError: message`, the message on one line and not too long."""
    if isinstance(error, SystemExit):
        return f"it left Python with exit status {error.code}"
    text = first_paragraph(error.msg if isinstance(error, SyntaxError) else str(error))
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def first_paragraph(text: str) -> str:
    """The first lines that say something, joined, and cut when long."""
    lines = [line.strip() for line in text.strip().split("\n\n")[0].splitlines()]
    joined = " ".join(line for line in lines if line)
    return joined if len(joined) <= LONGEST else joined[:LONGEST].rsplit(" ", 1)[0] + " …"


def search_path_text(path: list[str]) -> str:
    """Where Python looks for modules, without what every Python has."""
    stdlib = {os.path.realpath(_STDLIB), os.path.realpath(_STDLIB / "lib-dynload")}
    kept = [folder or "." for folder in path if os.path.realpath(folder) not in stdlib and not folder.endswith(".zip")]
    return ", ".join(dict.fromkeys(kept))
