"""Parts of a network: in which order they run, on how many threads, and side by side where they can."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest

from edgekit.targets.shipped.parts import Wire, run_parts, threads_of

STREAMS: list[Wire] = [
    (["image"], ["a"]),  # the stem, which nothing can run beside
    (["a"], ["b"]),
    (["a"], ["c", "d"]),
    (["b", "c"], ["e"]),
    (["e", "d"], ["logits"]),
]


def joined(wires: list[Wire]) -> Any:
    """Parts that write down what they were made of."""

    def run(number: int, given: dict[str, str]) -> dict[str, str]:
        assert list(given) == list(wires[number][0])
        return {name: f"{name}({', '.join(given.values())})" for name in wires[number][1]}

    return run


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_every_part_gets_what_the_others_gave(threads: int) -> None:
    values: dict[str, Any] = {"image": "x"}
    with ThreadPoolExecutor(threads) as pool:
        run_parts(STREAMS, values, joined(STREAMS), pool if threads > 1 else None)
    assert values["logits"] == "logits(e(b(a(x)), c(a(x))), d(a(x)))"


def test_parts_that_do_not_wait_for_each_other_run_at_the_same_time() -> None:
    both = Barrier(2, timeout=20)

    def run(number: int, given: dict[str, Any]) -> dict[str, Any]:
        if number in (1, 2):
            both.wait()  # passes only where the other one is running too
        return dict.fromkeys(STREAMS[number][1], number)

    values: dict[str, Any] = {"image": 0}
    with ThreadPoolExecutor(2) as pool:
        run_parts(STREAMS, values, run, pool)
    assert values["logits"] == 4


def test_what_a_part_raises_comes_out_after_the_others_ended() -> None:
    ended = []

    def run(number: int, given: dict[str, Any]) -> dict[str, Any]:
        if number == 1:
            raise ValueError("part 1")
        ended.append(number)
        return dict.fromkeys(STREAMS[number][1], 0)

    with ThreadPoolExecutor(2) as pool, pytest.raises(ValueError, match="part 1"):
        run_parts(STREAMS, {"image": 0}, run, pool)
    assert ended in ([0], [0, 2])


def test_a_part_that_always_runs_alone_gets_all_threads() -> None:
    assert threads_of(STREAMS, 4) == [4, 1, 1, 4, 4]
    assert threads_of(STREAMS[:1], 2) == [2]
    assert threads_of([(["x"], ["a"]), (["x"], ["b"])], 2) == [1, 1]
