"""Every error edgekit raises on purpose, split by whose fault it is and what the user does next.

    EdgekitError                    exit code
    |-- MisuseError                 2   an argument, a name, a size or a file the user can correct
    |   |-- UnknownNameError        2   a model, target or format that does not exist; names the closest
    |   |-- WeightsError            2   a checkpoint that is corrupt, carries code, or does not fit the model
    |   |-- ModelError              2   a network that cannot be captured or converted
    |   |-- DataError               2   images or labels that are not there, cannot be read, or do not fit
    |   |-- NoGainError             2   a network whose layers are all faster in float
    |   `-- BundleError             2   a folder that is no bundle, or one that is damaged
    |-- CheckFailedError            1   the check itself failed: the result is not the same model
    |   |-- ParityError             1   outputs differ by more than float arithmetic explains
    |   |-- ArtifactError           1   a file its own runtime does not load, or whose hash is not the manifest's
    |   `-- BudgetError             1   a limit on size that no way of writing the network keeps
    `-- EnvironmentProblemError     3   the machine lacks something
        |-- MissingExtraError       3   a package of an optional extra is not installed
        |-- OutputError             3   the output folder cannot be written
        |-- DeviceError             3   a device that cannot be reached, was lost, or broke off
        |   `-- NoPythonError       3   a board without Python, which can only run programs of the user's
        `-- ConverterError          3   a third-party converter failed on a program it should take

A message names the thing, the reason and the next step. Exit code 130 means the user pressed Ctrl-C.
"""

from collections.abc import Iterable
from difflib import get_close_matches


class EdgekitError(Exception):
    """Base of every error edgekit raises on purpose."""

    exit_code = 2


class MisuseError(EdgekitError):
    """The request cannot be carried out as written."""

    exit_code = 2


class UnknownNameError(MisuseError):
    """A name that is in no table.

    Args:
        kind: What was looked for, such as "model".
        name: The name as given.
        known: Every name of that kind.
        see: The command that lists them.
    """

    def __init__(self, kind: str, name: str, known: Iterable[str], see: str) -> None:
        known = sorted(known)
        close = get_close_matches(name.lower(), known, n=3, cutoff=0.5)
        hint = f"Did you mean {' or '.join(close)}?" if close else f"Known: {', '.join(known)}."
        super().__init__(f"There is no {kind} named {name!r}. {hint} `{see}` lists all of them.")


class WeightsError(MisuseError):
    """A checkpoint that is corrupt, carries code, or does not fit the model."""


class ModelError(MisuseError):
    """A network that cannot be captured or converted."""


class DataError(MisuseError):
    """Images or labels that are not there, cannot be read, or do not fit."""


class NoGainError(MisuseError):
    """A network that int8 would make no faster on what it is for."""


class BundleError(MisuseError):
    """A folder that is not a bundle, or a damaged one."""


class CheckFailedError(EdgekitError):
    """A check was carried out and its answer is no."""

    exit_code = 1


class ParityError(CheckFailedError):
    """Outputs differ by more than float arithmetic explains."""


class ArtifactError(CheckFailedError):
    """A file its own runtime does not load, or whose hash is not the one in the manifest."""


class BudgetError(CheckFailedError):
    """A limit that the user set and nothing keeps."""


class EnvironmentProblemError(EdgekitError):
    """The machine lacks something the request needs."""

    exit_code = 3


class MissingExtraError(EnvironmentProblemError):
    """A package of an optional extra is not installed.

    Args:
        package: Distribution that is missing.
        extra: The edgekit extra that brings it.
        purpose: What needs it, such as "TFLite export".
    """

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(f"{purpose} needs {package}, which is not installed. Run: pip install 'edgekit[{extra}]'")


class OutputError(EnvironmentProblemError):
    """The output folder cannot be written."""


class DeviceError(EnvironmentProblemError):
    """A device cannot be reached, was lost, or broke off."""


class NoPythonError(DeviceError):
    """A board has no Python."""


class ConverterError(EnvironmentProblemError):
    """A third-party converter failed."""


def first_line(error: BaseException) -> str:
    """The first line of an error that says anything, for use inside a one-line message."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def root_cause(error: BaseException) -> BaseException:
    """The error that the others were raised from, which knows what was wrong."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error
