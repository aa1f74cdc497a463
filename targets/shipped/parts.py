"""A network that was cut into parts: what its description says, and each part run as soon as what it takes is there."""

from __future__ import annotations

import json
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from typing import Any, Callable, Mapping, Sequence, Tuple

SUFFIX = ".parts.json"
"""Of the description, which lies beside the files of the parts."""

Wire = Tuple[Sequence[str], Sequence[str]]
"""The values that one part takes, and those that it gives."""


def read_parts(path: str) -> dict[str, Any]:
    """The description as it was written, its parts in an order in which they can run one after another."""
    with open(path, encoding="utf-8") as file:
        found: dict[str, Any] = json.load(file)
    return found


def threads_of(wires: Sequence[Wire], threads: int) -> list[int]:
    """Threads for each part: all of them where no other part can run beside it, else one."""
    makers = {name: number for number, (_, given) in enumerate(wires) for name in given}
    before: list[set[int]] = []
    for taken, _ in wires:
        direct = {makers[name] for name in taken if name in makers}
        before.append(direct.union(*(before[number] for number in direct)))

    def alone(one: int) -> bool:
        return all(one in before[other] or other in before[one] for other in range(len(wires)) if other != one)

    return [threads if alone(number) else 1 for number in range(len(wires))]


def run_parts(
    wires: Sequence[Wire],
    values: dict[str, Any],
    run: Callable[[int, dict[str, Any]], Mapping[str, Any]],
    pool: Executor | None,
) -> None:
    """Runs every part once and adds what it gives to `values`; on the pool's threads where there is one."""
    waiting = list(range(len(wires)))
    if pool is None:
        for number in waiting:
            values.update(run(number, {name: values[name] for name in wires[number][0]}))
        return
    running: set[Future[Mapping[str, Any]]] = set()
    try:
        while waiting or running:
            for number in [each for each in waiting if all(name in values for name in wires[each][0])]:
                waiting.remove(number)
                running.add(pool.submit(run, number, {name: values[name] for name in wires[number][0]}))
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for each in done:
                values.update(each.result())
    finally:
        wait(running)
