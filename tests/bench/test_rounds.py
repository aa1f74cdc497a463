"""Rounds time every call once, in order."""

import time

import pytest

from edgekit.bench.rounds import one_round


def test_a_round_calls_all_once_in_order_and_times_each() -> None:
    called: list[str] = []

    def slow() -> None:
        called.append("slow")
        time.sleep(0.02)

    taken = one_round({"slow": slow, "quick": lambda: called.append("quick")})
    assert called == ["slow", "quick"]
    assert list(taken) == ["slow", "quick"]
    assert taken["slow"] >= 20
    assert taken["quick"] < taken["slow"]


def test_what_a_call_raises_is_not_hidden() -> None:
    def broken() -> None:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        one_round({"broken": broken})
