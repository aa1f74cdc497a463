"""A verdict turns where a figure reaches its limit, and says so."""

import re
from typing import Any

import pytest
from msgspec import structs

from edgekit.bench.record import Evidence, Level, Setting, Verdict
from edgekit.bench.trust import CHECKS, CLOCK_RESIDENCY, LIMITS, SEVERITY, Case, judge
from tests.bench.figures import BRIEF, ONE, QUIET

STEADY_MEDIANS = (10.0,) * 12


def verdict(*, medians: tuple[float, ...] = STEADY_MEDIANS, **changes: Any) -> Verdict:
    """The verdict on a quiet measurement with changes: fields of the case, or of its evidence."""
    of_case = {name: value for name, value in changes.items() if name in Case.__dataclass_fields__}
    of_evidence = {name: value for name, value in changes.items() if name not in of_case}
    evidence = structs.replace(QUIET, **of_evidence)
    fields: dict[str, Any] = {"runs": 36, "steady": True, "setting": ONE, "profile": BRIEF, **of_case}
    return judge(Case(medians=medians, evidence=evidence, **fields))


def test_a_quiet_machine_is_trusted() -> None:
    assert verdict() == Verdict(level="TRUSTED", reasons=(), unseen=())


def drifting(share: float) -> tuple[float, ...]:
    return (10.0,) * 4 + (10.0 * (1 + share / 2),) * 4 + (10.0 * (1 + share),) * 4


def scattered(share: float) -> tuple[float, ...]:
    """Rounds that alternate, so that thirds agree and quartiles do not."""
    return (10.0, 10.0 * (1 + share)) * 6


@pytest.mark.parametrize(
    ("changes", "level", "sentence"),
    [
        ({"medians": drifting(0.04)}, "NOISY", "moved by 4.0% between the first and the last third of the rounds; up"),
        ({"medians": drifting(0.25)}, "INVALID", "moved by 25.0% between .* from 20.0% on it is no figure"),
        ({"medians": scattered(0.05)}, "NOISY", "middle half of the rounds lies 4.9% apart; up to 2.0% counts"),
        ({"medians": scattered(0.30)}, "INVALID", "middle half of the rounds lies 26.1% apart; from 20.0% on"),
        ({"steal": 0.01}, "NOISY", "hypervisor gave 1.0% of the processor time to others; up to 0.5%"),
        ({"steal": 0.2}, "INVALID", "hypervisor gave 20.0% .* from 10.0% on it is no figure"),
        ({"background_cores": 0.5}, "NOISY", r"Other processes took 0\.50 of 4 processors; up to 0\.10 counts"),
        ({"load": 6.0}, "NOISY", r"load average was 6\.00 on 4 processors when it began; up to 1\.0"),
        ({"swapped_pages": 7}, "NOISY", "system swapped 7 pages; up to 1 counts"),
        ({"swapped_pages": 4000}, "INVALID", "system swapped 4000 pages; from 256 on"),
        (
            {"clock_mhz": 1200.0, "clock_residency": 0.4},
            "THROTTLED",
            "made for in 40% of the rounds only, and 1200 MHz in their middle; 90% of them count as all",
        ),
        ({"quota": 0.01}, "NOISY", "container was kept waiting for 1.0% of the time; up to 0.1%"),
        ({"quota": 0.3}, "INVALID", "container was kept waiting for 30.0%"),
        ({"clock_trend": 0.8}, "THROTTLED", "clock fell to 80% of what it was in the first third"),
        ({"trip_margin_c": -1.5}, "THROTTLED", "thermal zone reached 82 °C; from 80 °C on the clock is lowered"),
        ({"trip_margin_c": 0.0}, "THROTTLED", "thermal zone reached 80 °C"),
        ({"governors": ("ondemand",), "clock_residency": None}, "NOISY", "governor is ondemand, whose clock follows"),
        ({"mixed": True}, "NOISY", "processors differ, .* --affinity says which to use"),
        ({"steady": False}, "NOISY", "still became faster when the warm-up was over"),
        ({"runs": 5}, "NOISY", "Only 5 runs were done in 60 s; the profile brief asks for 6"),
        ({"emulated": True}, "INVALID", "It ran in an emulator, whose time tells nothing about a board"),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, dict) else None,
)
def test_each_disturbance_turns_the_verdict_and_is_told(changes: dict[str, Any], level: Level, sentence: str) -> None:
    found = verdict(**changes)

    assert found.level == level
    assert {reason.level for reason in found.reasons} == {level}
    assert re.search(sentence, found.reasons[0].text), found.reasons
    assert len(found.reasons) == 1 or "medians" in changes  # what drifts also spreads
    assert all(reason.text.endswith(".") for reason in found.reasons)


@pytest.mark.parametrize(
    "changes",
    [
        {"medians": drifting(0.02)},
        {"medians": scattered(0.015)},
        {"steal": 0.004},
        {"background_cores": 0.09},
        {"load": 3.9},
        {"clock_residency": CLOCK_RESIDENCY, "clock_trend": 0.96},
        {"trip_margin_c": 0.5},
        {"governors": ("schedutil",)},  # a clock that was seen at its highest
        {"governors": ("userspace",), "clock_residency": None},
        {"mixed": True, "setting": Setting(threads=1, affinity=(4,))},
    ],
    ids=lambda value: ",".join(value),
)
def test_what_is_below_its_limit_is_quiet(changes: dict[str, Any]) -> None:
    assert verdict(**changes).level == "TRUSTED"


@pytest.mark.parametrize(
    ("threads", "background", "level"),
    [(1, 1.0, "NOISY"), (3, 1.0, "NOISY"), (3, 1.3, "INVALID"), (4, 0.2, "NOISY"), (4, 0.3, "INVALID")],
)
def test_other_processes_invalidate_where_there_is_no_room_for_them(
    threads: int, background: float, level: Level
) -> None:
    assert verdict(background_cores=background, setting=Setting(threads=threads)).level == level


def test_the_worst_reason_decides_and_all_are_told() -> None:
    found = verdict(steal=0.01, clock_trend=0.5, swapped_pages=1000)

    assert found.level == "INVALID"
    assert [reason.level for reason in found.reasons] == ["NOISY", "INVALID", "THROTTLED"]


def test_what_the_machine_does_not_tell_is_named_and_not_held_against_it() -> None:
    silent = structs.replace(Evidence(seconds=10.0, cores=4))
    case = Case(medians=STEADY_MEDIANS, runs=36, steady=True, setting=ONE, profile=BRIEF, evidence=silent)

    assert judge(case) == Verdict(
        level="TRUSTED", reasons=(), unseen=("clock", "temperature", "background processes", "steal", "swap")
    )


def test_limits_have_reasons_and_the_worse_one_is_further() -> None:
    assert all(limit.noisy < limit.invalid and limit.why for limit in LIMITS.values())
    assert list(SEVERITY.values()) == [0, 1, 2, 3]
    assert len(set(CHECKS)) == len(CHECKS)
