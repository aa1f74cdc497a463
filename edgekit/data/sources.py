"""What a user writes as `--data` becomes a dataset; the forms are in the package's docstring.

The form is decided by syntax, in this order: the name of an embedded set, the ending `.npz`, a colon, else a folder. A
folder called `digits` is `./digits`.
"""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

from edgekit.data.arrays import Archive
from edgekit.data.dataset import Dataset, Split
from edgekit.data.digits import Digits
from edgekit.data.folder import ImageFolder
from edgekit.data.patterns import COUNT, Patterns
from edgekit.errors import DataError

EMBEDDED: Mapping[str, Callable[[Split, int | None], Dataset]] = MappingProxyType(
    {
        "digits": Digits,
        "patterns": lambda split, count: Patterns(split, COUNT if count is None else count),
    }
)
"""Name to how a split's first images are made; None asks for the usual number."""

FORMS = (
    "Give digits, digits:N, patterns, patterns:N, a folder of images, an .npz file, module:callable or "
    "file.py:callable."
)


def open_dataset(spec: str, split: Split = "test") -> Dataset:
    """The images that a specification means.

    Args:
        spec: What the user wrote.
        split: `train` for calibration, `test` for evaluation; the same images but for the embedded sets.

    Raises:
        DataError: It has none of the forms, or what it names cannot be read.
        MissingExtraError: `digits` without scikit-learn.
    """
    name, colon, number = spec.partition(":")
    if name in EMBEDDED:
        return EMBEDDED[name](split, image_count(spec, number) if colon else None)
    path = Path(spec)
    if spec.lower().endswith(".npz"):
        return Archive(existing(path))
    if spec and path.is_dir():
        return ImageFolder(path)
    place, colon, attribute = spec.rpartition(":")
    if colon and all(part.isidentifier() for part in attribute.split(".")) and is_place(place):
        from edgekit.data.user import open_user_data

        return open_user_data(spec, place, attribute)
    raise unknown(spec, path)


def is_place(text: str) -> bool:
    """Whether this can be a Python file or the name of a module."""
    return text.endswith(".py") or all(part.isidentifier() for part in text.split("."))


def image_count(spec: str, number: str) -> int:
    """The N of `digits:N`.

    Raises:
        DataError: It is no number of images.
    """
    if re.fullmatch(r"[1-9]\d{0,8}", number, re.ASCII) is None:
        raise DataError(
            f"{spec!r} does not say how many images. Write a whole number, as in {spec.partition(':')[0]}:500."
        )
    return int(number)


def existing(path: Path) -> Path:
    """A file that is there.

    Raises:
        DataError: It is not, or it is a folder.
    """
    if path.is_file():
        return path
    raise DataError(f"{path} is a folder." if path.is_dir() else f"{path} does not exist. Check the path.")


def unknown(spec: str, path: Path) -> DataError:
    """The error for what is no form of data."""
    if path.is_file():
        return DataError(f"{spec} is a file of another kind. {FORMS}")
    return DataError(f"There is no data {spec!r}: no such folder, and no other form. {FORMS}")
