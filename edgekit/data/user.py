"""Images that code of the user's gives: `package.module:callable` or `file.py:callable`.

It is called without arguments and returns one of:

    a Dataset                          as `edgekit.data.dataset` describes it
    something with len() and []        whose items are (image, label) pairs or images, as torch's datasets are
    an iterator of such items          such as a generator; it is counted once, and called again to start over

An image is a uint8 array, H x W, H x W x 1 or H x W x 3 in RGB, or a Pillow image; a label is a whole number from 0
upwards, or None. Names of classes are in an attribute `classes`; without one they are numbers.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from PIL import Image

from edgekit.data.arrays import as_rgb
from edgekit.data.dataset import Dataset, Pixels
from edgekit.errors import DataError, ModelError
from edgekit.user_code import run_user_code
from edgekit.user_module import arguments_needed, find, importable, load_file, load_module

T = TypeVar("T")

Item = tuple[Pixels, int | None]

DATASET = ("name", "classes", "digest", "image", "label", "title", "__len__")
"""What tells a Dataset from other objects."""

SAMPLED = 16
"""Items that the digest of a set with len() reads."""

WHAT = "Give uint8 arrays, H x W x 3 in RGB, or Pillow images, as they are before any transform."


def open_user_data(text: str, place: str, attribute: str) -> Dataset:
    """What a callable returns, as a dataset.

    Args:
        text: What the user wrote.
        place: The module or file in it.
        attribute: The callable in that.

    Raises:
        DataError: It is not there, fails, or returns something else.
    """
    file = Path(place) if place.endswith(".py") else None
    if file and not file.is_file():
        raise DataError(f"{place} does not exist. Check the path.")
    try:
        with importable(file):
            found = find(load_file(file) if file else load_module(place), attribute, text)
            return as_dataset(text, found)
    except ModelError as error:
        raise DataError(str(error)) from error


def guarded(text: str, call: Callable[[], T]) -> T:
    """Calls the user's code.

    Raises:
        DataError: It raised; the message names the line.
    """
    try:
        return run_user_code(text, call)
    except ModelError as error:
        raise DataError(str(error)) from error


def as_dataset(text: str, found: object) -> Dataset:
    """Calls a callable and decides by what comes back.

    Raises:
        DataError: It takes arguments, or nothing that holds images comes back.
    """
    if not callable(found):
        raise DataError(f"{text} is {type(found).__name__}. Give a function or class that returns images.")
    if needed := arguments_needed(found):
        raise DataError(f"{text} needs arguments: {', '.join(needed)}. Write a function that fills them in.")
    made: Any = guarded(text, found)
    if all(hasattr(made, name) for name in DATASET):
        return UserSet(text, made)
    if hasattr(made, "__len__") and hasattr(made, "__getitem__"):
        return UserItems(text, made)
    if isinstance(made, Iterable):
        return UserStream(text, found, made)
    raise DataError(f"{text} returned {type(made).__name__}. Return a sequence or generator of (image, label) pairs.")


def as_item(text: str, given: object) -> Item:
    """An item of the user's as an image and a label.

    Raises:
        DataError: It is something else.
    """
    image, label = given if isinstance(given, (tuple, list)) and len(given) == 2 else (given, None)
    pixels = np.asarray(image.convert("RGB")) if isinstance(image, Image.Image) else image
    if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8:
        kind = f"an array of {pixels.dtype}" if isinstance(pixels, np.ndarray) else type(pixels).__name__
        raise DataError(f"{text} gave {kind} as an image. {WHAT}")
    if pixels.ndim not in (2, 3) or 0 in pixels.shape or (pixels.ndim == 3 and pixels.shape[2] not in (1, 3)):
        raise DataError(f"{text} gave an image of shape {'x'.join(map(str, pixels.shape))}. {WHAT}")
    if label is None:
        return as_rgb(pixels), None
    if not isinstance(label, (int, np.integer)) or label < 0:
        raise DataError(f"{text} gave {label!r} as a label. Give a whole number from 0 upwards, or None.")
    return as_rgb(pixels), int(label)


def named_classes(text: str, made: object, highest: Callable[[], int]) -> tuple[str, ...]:
    """The names in an attribute `classes`, else the numbers up to the highest label."""
    names = getattr(made, "classes", None)
    if names is None:
        return tuple(map(str, range(highest() + 1)))
    return guarded(f"{text}, asked for its classes,", lambda: tuple(map(str, names)))


class UserSet:
    """A Dataset of the user's, whose errors name the user's line."""

    def __init__(self, text: str, made: Dataset) -> None:
        self._text, self._made = text, made
        self.name, self.digest = str(made.name), str(made.digest)
        self.classes = named_classes(text, made, lambda: -1)

    def __len__(self) -> int:
        return guarded(self._text, lambda: len(self._made))

    def image(self, index: int) -> Pixels:
        return as_item(self._text, guarded(f"{self._text}, image {index},", lambda: self._made.image(index)))[0]

    def label(self, index: int) -> int | None:
        return guarded(f"{self._text}, label {index},", lambda: self._made.label(index))

    def title(self, index: int) -> str:
        return str(guarded(f"{self._text}, title {index},", lambda: self._made.title(index)))


class UserItems:
    """Items by index. Their labels are read once where there is no `classes`, which takes as long as reading all."""

    def __init__(self, text: str, made: Sequence[object]) -> None:
        self._text, self._made, self.name = text, made, text
        self._last: tuple[int, Item] | None = None
        count = len(self)
        self.classes = named_classes(text, made, lambda: max((self.label(at) or 0 for at in range(count)), default=-1))
        digest = hashlib.sha256(f"{count}".encode())
        for index in sorted({count * part // SAMPLED for part in range(SAMPLED)}) if count else ():
            add(digest, self._item(index))
        self.digest = digest.hexdigest()

    def _item(self, index: int) -> Item:
        if self._last is None or self._last[0] != index:
            given = guarded(f"{self._text}, item {index},", lambda: self._made[index])
            self._last = index, as_item(f"{self._text}, item {index},", given)
        return self._last[1]

    def __len__(self) -> int:
        return guarded(self._text, lambda: len(self._made))

    def image(self, index: int) -> Pixels:
        return self._item(index)[0]

    def label(self, index: int) -> int | None:
        return self._item(index)[1]

    def title(self, index: int) -> str:
        return f"{self.name}/{index}"


class UserStream:
    """Items in order. One pass counts and hashes them and keeps the labels; images come from another, one at a time.

    Asking for an image before the last one starts over, so ask in order.
    """

    def __init__(self, text: str, call: Callable[[], object], made: Iterable[object]) -> None:
        self._text, self._call, self.name = text, call, text
        digest = hashlib.sha256()
        self._labels = [add(digest, item) for item in self._items(made)]
        self.digest = digest.hexdigest()
        self.classes = named_classes(text, made, lambda: max((label or 0 for label in self._labels), default=-1))
        self._at, self._image = -1, np.empty(0, np.uint8)
        self._rest: Iterator[Item] = iter(())

    def _items(self, made: object) -> Iterator[Item]:
        """Checked items of one pass."""
        if not isinstance(made, Iterable):
            raise DataError(f"{self._text} returned {type(made).__name__} when it was called again.")
        end, source, index = object(), iter(made), 0
        while (given := guarded(f"{self._text}, item {index},", lambda: next(source, end))) is not end:
            yield as_item(f"{self._text}, item {index},", given)
            index += 1

    def __len__(self) -> int:
        return len(self._labels)

    def image(self, index: int) -> Pixels:
        if index < self._at or self._at < 0:
            self._at, self._rest = -1, self._items(guarded(self._text, self._call))
        while self._at < index:
            found = next(self._rest, None)
            if found is None:
                raise DataError(
                    f"{self._text} gave {len(self)} items when it was first called and {self._at + 1} now. Make it "
                    "give the same ones each time."
                )
            self._at, self._image = self._at + 1, found[0]
        return self._image

    def label(self, index: int) -> int | None:
        return self._labels[index]

    def title(self, index: int) -> str:
        return f"{self.name}/{index}"


def add(digest: "hashlib._Hash", item: Item) -> int | None:
    """Hashes an item and gives back its label."""
    image, label = item
    digest.update(f"{image.shape} {label}\n".encode() + image.tobytes())
    return label
