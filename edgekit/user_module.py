"""Finds the function or class that `package.module:callable` or `file.py:callable` names, in code of the user's."""

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType

from edgekit.errors import ModelError
from edgekit.user_code import run_user_code, search_path_text, user_place


@contextmanager
def importable(file: Path | None) -> Iterator[None]:
    """Makes the working folder, and a file's own folder, importable within the block."""
    added = [str(file.resolve().parent)] if file else []
    saved = list(sys.path)
    sys.path[:0] = [folder for folder in (*added, str(Path.cwd())) if folder not in sys.path]
    try:
        yield
    finally:
        sys.path[:] = saved


def load_module(name: str) -> ModuleType:
    """Imports a module.

    Raises:
        ModelError: There is none of that name, or its code fails.
    """
    try:
        return run_user_code(f"Importing {name}", lambda: importlib.import_module(name))
    except ModelError as error:
        cause = error.__cause__
        if isinstance(cause, ModuleNotFoundError) and cause.name:
            raise missing_module(name, cause) from cause
        raise


def missing_module(wanted: str, error: ModuleNotFoundError) -> ModelError:
    """The message for a module that is not there: the one asked for, or one that it imports."""
    missing = error.name or ""
    if wanted == missing or wanted.startswith(f"{missing}."):
        return ModelError(
            f"There is no module {missing!r}. It was looked for in: {search_path_text(sys.path)}. "
            "Run edgekit in the folder that holds it, or install it."
        )
    place = user_place(error)
    return ModelError(
        f"{wanted} imports {missing!r}{f' at {place}' if place else ''}, which is not installed and not in: "
        f"{search_path_text(sys.path)}."
    )


def load_file(path: Path) -> ModuleType:
    """Runs a Python file as a module of its own.

    Raises:
        ModelError: Its code fails.
    """
    name = f"edgekit_model_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path.resolve())
    if spec is None or spec.loader is None:
        raise ModelError(f"{path} is no Python file.")
    module, loader = importlib.util.module_from_spec(spec), spec.loader
    sys.modules[name] = module  # dataclasses and pickling look a class's module up there
    try:
        run_user_code(f"Loading {path}", lambda: loader.exec_module(module))
    except ModelError as error:
        del sys.modules[name]
        if isinstance(error.__cause__, ModuleNotFoundError):
            raise missing_module(str(path), error.__cause__) from error.__cause__
        raise
    return module


def find(module: ModuleType, attribute: str, text: str) -> object:
    """The attribute of a module, dots included.

    Raises:
        ModelError: It has none of that name; the message names the closest.
    """
    found: object = module
    for name in attribute.split("."):
        if not hasattr(found, name):
            public = [
                other for other in dir(found) if not other.startswith("_") and callable(getattr(found, other, None))
            ]
            close = get_close_matches(name, public, n=3, cutoff=0.5)
            hint = f"Did you mean {' or '.join(close)}?" if close else f"It has: {', '.join(public) or 'nothing'}."
            raise ModelError(f"{text}: there is no {name!r} in it. {hint}")
        found = getattr(found, name)
    return found


def arguments_needed(found: object) -> list[str]:
    """Names of the arguments a callable cannot do without."""
    assert callable(found)  # noqa: S101 - asked only for callables
    try:
        parameters = inspect.signature(found).parameters.values()
    except (TypeError, ValueError):
        return []
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [each.name for each in parameters if each.default is each.empty and each.kind not in variable]
