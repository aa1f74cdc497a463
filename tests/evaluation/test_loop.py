"""The loop over images: every one once, also where it was interrupted."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edgekit.bundle import Progress, Stage
from edgekit.cache import StageCache
from edgekit.evaluation import loop
from edgekit.evaluation.loop import Classify, Images, Task, answers, duration
from tests.evaluation.images import one_hot


class Watcher(Progress):
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.ended: list[Stage] = []
        self.notes: list[str] = []

    def begin(self, stage: str) -> None:
        self.begun.append(stage)

    def end(self, stage: Stage) -> None:
        self.ended.append(stage)

    def note(self, text: str) -> None:
        self.notes.append(text)


class Network:
    """Answers with the number in the image, modulo three; fails at one image where it is told to."""

    def __init__(self, fails_at: int | None = None) -> None:
        self.seen: list[list[int]] = []
        self.opened = 0
        self._fails_at = fails_at

    @contextmanager
    def open(self) -> Iterator[Classify]:
        self.opened += 1
        yield self.classify

    def classify(self, images: Images) -> NDArray[np.float32]:
        numbers = [int(image[0, 0, 0]) for image in images]
        if self._fails_at in numbers:
            raise KeyboardInterrupt
        self.seen.append(numbers)
        return one_hot([number % 3 for number in numbers])


def feed(places: Iterable[int]) -> Iterator[Images]:
    for place in places:
        yield np.full((1, 3, 2, 2), place, np.float32)


def task(network: Network, images: int = 10, batch: int = 1) -> Task:
    return Task("net.onnx", "key", network.open, images, 3, batch)


@pytest.fixture
def cache(tmp_path: Path) -> StageCache:
    return StageCache(tmp_path / "cache")


def test_every_image_once_in_order(cache: StageCache) -> None:
    network, watcher = Network(), Watcher()

    outcomes = answers(task(network), feed, cache, watcher)

    assert network.seen == [[number] for number in range(10)]
    assert outcomes.predicted.tolist() == [number % 3 for number in range(10)]
    assert [(stage.name, stage.cached) for stage in watcher.ended] == [("net.onnx", False)]


def test_a_batch_is_filled_up_and_what_fills_it_is_not_counted(cache: StageCache) -> None:
    network = Network()

    outcomes = answers(task(network, batch=4), feed, cache, Watcher())

    assert network.seen == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 9, 9]]
    assert outcomes.predicted.tolist() == [number % 3 for number in range(10)]


def test_known_answers_open_no_network(cache: StageCache) -> None:
    first = answers(task(Network()), feed, cache, Watcher())
    network, watcher = Network(), Watcher()

    again = answers(task(network), feed, cache, watcher)

    assert network.opened == 0
    assert watcher.ended[0].cached
    np.testing.assert_array_equal(again.ranked, first.ranked)


@pytest.mark.parametrize("batch", [1, 4])
def test_it_goes_on_where_it_was_interrupted(cache: StageCache, batch: int) -> None:
    with pytest.raises(KeyboardInterrupt):
        answers(task(Network(fails_at=6), batch=batch), feed, cache, Watcher())
    network, watcher = Network(), Watcher()

    outcomes = answers(task(network, batch=batch), feed, cache, watcher)

    done = 6 // batch * batch
    assert network.seen[0][0] == done
    assert watcher.notes == [f"net.onnx: {done} of 10 images are done; the rest follows."]
    assert outcomes.predicted.tolist() == [number % 3 for number in range(10)]
    assert not watcher.ended[0].cached


def test_another_key_knows_nothing(cache: StageCache) -> None:
    answers(task(Network()), feed, cache, Watcher())
    network = Network()

    answers(replace(task(network), key="another key"), feed, cache, Watcher())

    assert len(network.seen) == 10


def test_without_a_cache_nothing_is_kept() -> None:
    for _ in range(2):
        network = Network()
        answers(task(network), feed, StageCache(None), Watcher())
        assert len(network.seen) == 10


def test_it_is_kept_on_the_way(cache: StageCache, monkeypatch: pytest.MonkeyPatch) -> None:
    """For a process that is killed, and cannot clean up."""
    monkeypatch.setattr(loop, "SAVE_SECONDS", 0.0)
    held: list[int] = []

    class Curious(Network):
        def classify(self, images: Images) -> NDArray[np.float32]:
            found = loop.recall(task(self, images=4), cache)
            held.append(found.done if found else 0)
            return super().classify(images)

    answers(task(Curious(), images=4), feed, cache, Watcher())

    assert held == [0, 1, 2, 3]


def test_a_cache_that_cannot_be_written_costs_no_result(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file in its place")
    watcher = Watcher()

    outcomes = answers(task(Network()), feed, StageCache(tmp_path / "cache"), watcher)

    assert outcomes.done == 10
    assert watcher.notes
    assert watcher.notes[0].startswith("Not kept: ")


def test_it_tells_how_long_it_takes(cache: StageCache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "SHOW_SECONDS", 0.0)
    monkeypatch.setattr(loop, "QUIET_SECONDS", 0.0)
    watcher = Watcher()

    answers(task(Network(), images=8), feed, cache, watcher)

    assert watcher.begun[0] == "net.onnx"
    assert watcher.begun[1] == "net.onnx: 1 of 8 images, 0 s left"
    assert [note.split(",")[0] for note in watcher.notes] == [f"  net.onnx: {n} of 8 images" for n in (2, 4, 6)]


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (89, "89 s"), (90, "2 min"), (3600, "60 min"), (7200, "2.0 h")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text
