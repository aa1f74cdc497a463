"""Whether a latency can be trusted: what happened meanwhile, held against limits.

    TRUSTED     nothing that was observed speaks against it
    NOISY       something disturbed it: right for a look, with care for a comparison
    THROTTLED   the clock was below what the processor is made for: the latency of a hot or a saving board
    INVALID     no figure at all: it enters no comparison and no gate

Every reason is a sentence with the figure and the limit.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from edgekit.bench.record import Evidence, Level, Profile, Reason, Setting, Verdict
from edgekit.bench.statistics import spread, trend

SEVERITY: Mapping[Level, int] = MappingProxyType({"TRUSTED": 0, "NOISY": 1, "THROTTLED": 2, "INVALID": 3})
"""Levels, the worst last."""


@dataclass(frozen=True, slots=True)
class Limit:
    """From which figure on a measurement is NOISY and from which INVALID, and why there."""

    noisy: float
    invalid: float
    why: str


LIMITS: Mapping[str, Limit] = MappingProxyType(
    {
        "drift": Limit(0.03, 0.20, "a board that warms up or a neighbour that comes and goes moves it by more"),
        "spread": Limit(0.02, 0.20, "on a quiet RK3288 ncnn's own runs are within 1.74 % of each other"),
        "steal": Limit(0.005, 0.10, "of a processor that is given to others the wall clock tells nothing"),
        "quota": Limit(0.001, 0.05, "a container that has used up its share stands still until the next period"),
        "background": Limit(0.10, 0.25, "a tenth of a processor is what an idle desktop takes"),
        "load": Limit(1.0, float("inf"), "a machine that had more to do than processors is not at rest yet"),
        "swap": Limit(1, 256, "waiting for a disk takes a thousand times what computing takes; 256 pages are 1 MiB"),
    }
)
"""Check to its limits. Background is in processors, and invalid where the rest of the machine has no room for it."""

CLOCK_RESIDENCY = 0.9
"""A processor that was at full clock in a smaller share of the rounds counts as throttled."""

CLOCK_TREND = 0.95
"""A clock that falls by more than this from the first to the last third counts as throttled."""

STEADY_GOVERNORS = frozenset({"performance", "userspace"})
"""Governors whose clock does not follow the load."""

Finding = tuple[Level, str]


@dataclass(frozen=True, slots=True)
class Case:
    """What a verdict is about.

    Attributes:
        medians: Each round's median, in milliseconds.
        runs: Counted inferences.
        steady: Whether the warm-up had come to rest.
        mixed: Whether the processors differ from each other.
        emulated: Whether an emulator ran it.
    """

    medians: Sequence[float]
    runs: int
    steady: bool
    setting: Setting
    profile: Profile
    evidence: Evidence
    mixed: bool = False
    emulated: bool = False


Check = Callable[["Case"], Iterator[Finding]]


def judge(case: Case, more: Sequence[Reason] = (), checks: Sequence[Check] | None = None) -> Verdict:
    """The verdict on one artifact's measurement; `more` is what else speaks against it. All checks are made if None."""
    held = CHECKS if checks is None else checks
    reasons = (*(Reason(level=level, text=text) for check in held for level, text in check(case)), *more)
    worst: Level = "TRUSTED"
    for reason in reasons:
        worst = reason.level if SEVERITY[reason.level] > SEVERITY[worst] else worst
    return Verdict(
        level=worst,
        reasons=reasons,
        unseen=tuple(unseen(case.evidence)),
    )


def unseen(seen: Evidence) -> Iterator[str]:
    """What the machine does not tell, so that it could not speak against the figure."""
    figures = {
        "clock": seen.clock_mhz,
        "temperature": seen.temperature_c,
        "background processes": seen.background_cores,
        "steal": seen.steal,
        "swap": seen.swapped_pages,
    }
    yield from (name for name, figure in figures.items() if figure is None)


def emulation(case: Case) -> Iterator[Finding]:
    """What speaks against any time of an emulator."""
    if case.emulated:
        yield "INVALID", "It ran in an emulator, whose time tells nothing about a board."


def _completeness(case: Case) -> Iterator[Finding]:
    if case.runs < case.profile.runs:
        yield (
            "NOISY",
            f"Only {case.runs} runs were done in {case.profile.limit_seconds:.0f} s; the profile "
            f"{case.profile.name} asks for {case.profile.runs}.",
        )
    if not case.steady:
        yield "NOISY", "It still became faster when the warm-up was over."


def _drift(case: Case) -> Iterator[Finding]:
    moved = abs(trend(case.medians) - 1)
    yield from _limited(
        "drift", moved, f"The median moved by {moved:.1%} between the first and the last third of the rounds"
    )


def _spread(case: Case) -> Iterator[Finding]:
    wide = spread(case.medians)
    yield from _limited("spread", wide, f"The middle half of the rounds lies {wide:.1%} apart")


def _steal(case: Case) -> Iterator[Finding]:
    if (steal := case.evidence.steal) is not None:
        yield from _limited("steal", steal, f"The hypervisor gave {steal:.1%} of the processor time to others")


def _quota(case: Case) -> Iterator[Finding]:
    if (quota := case.evidence.quota) is not None:
        yield from _limited("quota", quota, f"The container was kept waiting for {quota:.1%} of the time")


def _background(case: Case) -> Iterator[Finding]:
    found = crowding(case.evidence, case.setting.threads)
    yield from [found] if found is not None else []


def crowding(seen: Evidence, threads: int) -> Finding | None:
    """What other processes did beside a measurement on so many threads; None where they were quiet, or unseen."""
    taken, limit = seen.background_cores, LIMITS["background"]
    if taken is None or taken < limit.noisy:
        return None
    processes = f"Other processes took {taken:.2f} of {seen.cores} processors"
    if taken - max(seen.cores - threads, 0) >= limit.invalid:
        return (
            "INVALID",
            f"{processes}, where {threads} had to be free to measure on; from {limit.invalid:.2f} too much on it is no "
            "figure.",
        )
    return "NOISY", f"{processes}; up to {limit.noisy:.2f} counts as quiet."


def _load(case: Case) -> Iterator[Finding]:
    if (load := case.evidence.load) is not None:
        each = load / case.evidence.cores
        yield from _limited(
            "load", each, f"The load average was {load:.2f} on {case.evidence.cores} processors when it began", "{:.1f}"
        )


def _swap(case: Case) -> Iterator[Finding]:
    if (pages := case.evidence.swapped_pages) is not None:
        yield from _limited("swap", pages, f"The system swapped {pages} pages", "{:.0f}")


def _clock(case: Case) -> Iterator[Finding]:
    seen = case.evidence
    if seen.clock_residency is not None and seen.clock_residency < CLOCK_RESIDENCY:
        yield (
            "THROTTLED",
            f"The clock was that which the processor is made for in {seen.clock_residency:.0%} of the rounds only, and "
            f"{seen.clock_mhz:.0f} MHz in their middle; {CLOCK_RESIDENCY:.0%} of them count as all.",
        )
    if seen.clock_trend is not None and seen.clock_trend < CLOCK_TREND:
        yield (
            "THROTTLED",
            f"The clock fell to {seen.clock_trend:.0%} of what it was in the first third of the rounds; "
            f"{CLOCK_TREND:.0%} counts as steady.",
        )


def _temperature(case: Case) -> Iterator[Finding]:
    seen = case.evidence
    if seen.trip_margin_c is not None and seen.trip_c is not None and seen.trip_margin_c <= 0:
        yield (
            "THROTTLED",
            f"A thermal zone reached {seen.trip_c - seen.trip_margin_c:.0f} °C; from {seen.trip_c:.0f} °C on the "
            "clock is lowered.",
        )


def _governor(case: Case) -> Iterator[Finding]:
    following = [name for name in case.evidence.governors if name not in STEADY_GOVERNORS]
    full = case.evidence.clock_residency is not None and case.evidence.clock_residency >= CLOCK_RESIDENCY
    if following and not full:  # a clock that was seen at its highest did not follow anything
        yield (
            "NOISY",
            f"The governor is {' and '.join(following)}, whose clock follows the load; performance keeps it.",
        )


def _placement(case: Case) -> Iterator[Finding]:
    if case.mixed and case.setting.affinity is None:
        yield "NOISY", "The processors differ, and the system chose among them; --affinity says which to use."


OF_MACHINE: tuple[Check, ...] = (
    *(_background, _steal, _quota, _load, _swap),
    *(_clock, _temperature, _governor),
)
"""What the machine itself says against a measurement, whether there are single times or not."""

CHECKS: tuple[Check, ...] = (emulation, _completeness, _drift, _spread, *OF_MACHINE, _placement)
"""Everything that can speak against a measurement."""


def _limited(name: str, figure: float, sentence: str, form: str = "{:.1%}") -> Iterator[Finding]:
    """A finding where a figure reaches one of its limits."""
    limit = LIMITS[name]
    if figure >= limit.invalid:
        yield "INVALID", f"{sentence}; from {form.format(limit.invalid)} on it is no figure."
    elif figure >= limit.noisy:
        yield "NOISY", f"{sentence}; up to {form.format(limit.noisy)} counts as quiet."
