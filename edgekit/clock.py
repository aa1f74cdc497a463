"""Times the stages of an export and tells whoever watches."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from edgekit.bundle import Progress, Stage
from edgekit.cache import StageCache
from edgekit.errors import EnvironmentProblemError, OutputError
from edgekit.quiet import silenced

T = TypeVar("T")

_MEMORY_WORDS = ("can't allocate memory", "not enough memory", "std::bad_alloc")


class Clock:
    """Times stages and reports them to whoever watches."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.stages: list[Stage] = []

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Times the block as one stage, and keeps what converters print out of sight.

        Raises:
            EnvironmentProblemError: The block ran out of memory.
        """
        self.progress.begin(name)
        started = time.perf_counter()
        try:
            with silenced():
                yield
        except Exception as error:
            if lacks_memory(error):
                raise EnvironmentProblemError(
                    f"There is not enough memory for stage {name!r}. Choose a smaller size with --input, or run on a "
                    "machine with more memory."
                ) from error
            raise
        self._done(name, started, cached=False)

    def recall(self, name: str, cache: StageCache, key: str, into: Path, kind: type[T]) -> T | None:
        """What the cache has for a stage, as a stage of its own; None, with a word about it, where it is damaged."""
        if not cache.holds(key):
            return None
        self.progress.begin(name)
        started = time.perf_counter()
        found = cache.fetch(key, into, kind)
        if found is None:
            self.progress.note(f"What the cache has for stage {name!r} is damaged, so it is made anew.")
        else:
            self._done(name, started, cached=True)
        return found

    def remember(self, cache: StageCache, key: str, result: object, files: tuple[Path, ...]) -> None:
        """Stores a stage; a cache that cannot be written costs time later, not the result now."""
        try:
            cache.store(key, result, files)
        except OutputError as error:
            self.progress.note(f"Not cached: {error}")

    def _done(self, name: str, started: float, *, cached: bool) -> None:
        done = Stage(name=name, seconds=round(time.perf_counter() - started, 3), cached=cached)
        self.stages.append(done)
        self.progress.end(done)


def lacks_memory(error: BaseException | None) -> bool:
    """Whether an allocation failed; torch has no error of its own for it, and converters wrap it into theirs."""
    while error is not None:
        if isinstance(error, MemoryError) or any(words in str(error) for words in _MEMORY_WORDS):
            return True
        error = error.__cause__ or error.__context__
    return False
