"""Where edgekit keeps what it made for devices: userlands, counters, locks."""

import os
from pathlib import Path

from edgekit.errors import EnvironmentProblemError


def cache_folder(part: str) -> Path:
    """A folder of the user's cache: beside the stages, in `$EDGEKIT_CACHE` where that is set.

    Raises:
        EnvironmentProblemError: The user has no home, and no variable names a folder.
    """
    if chosen := os.environ.get("EDGEKIT_CACHE"):
        return Path(chosen).absolute() / part
    try:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError as error:
        raise EnvironmentProblemError("This user has no home folder. Set $EDGEKIT_CACHE to a folder.") from error
    return base.absolute() / "edgekit" / part
