"""A gate for changes: a bundle against a baseline, each limit a check that passes or fails.

A latency fails where the best estimate of its ratio is beyond the limit and the whole interval is beyond no change at
all: it is slower for certain, and by more than is allowed as far as anyone can tell. An estimate beyond the limit whose
interval reaches down to no change passes as undecided, with the advice to measure longer. A figure that is INVALID, or
of another machine, decides nothing: the gate refuses.

An accuracy is compared image by image, by the latest evaluations of both bundles on the same images, and fails where
the whole interval of its drop is beyond the limit.

Executed instructions of an emulated board are exact, so that the limit alone decides; where a runtime's own threads
scatter them, an excess within the scatter passes as undecided.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from xml.etree import ElementTree as ET

from msgspec import Struct

from edgekit.bench.history import Pairing, Tally
from edgekit.difference import ArtifactDifference, Difference
from edgekit.errors import CheckFailedError, EnvironmentProblemError, MisuseError
from edgekit.evaluation.statistics import decide
from edgekit.files import whole_file


class Limits(Struct, frozen=True, kw_only=True):
    """How much may be added, as a share: 0.03 is +3 %; None where it is not looked at. `drop` is in points of top-1."""

    latency: float | None = None
    memory: float | None = None
    instructions: float | None = None
    drop: float | None = None


SCATTER: Mapping[str, float] = MappingProxyType({"openvino": 0.02})
"""Runtime to how far its counts of one artifact lie apart: OpenVINO's worker threads wait in loops."""


class Check(Struct, frozen=True, kw_only=True):
    """One limit held against one artifact."""

    name: str
    passed: bool
    decided: bool
    text: str


def check_all(found: Difference, limits: Limits) -> tuple[Check, ...]:
    """Every check of a bundle (second) against its baseline (first).

    Raises:
        MisuseError: An artifact was not measured, or not evaluated, in both.
        EnvironmentProblemError: The figures decide nothing.
    """
    checks = tuple(check for one in found.artifacts for check in _artifact(one, limits))
    missing = (
        Check(
            name=f"{both.first} is there", passed=False, decided=True, text="The baseline has it, the bundle has not."
        )
        for both in found.unmatched
        if both.first is not None
    )
    return (*checks, *missing)


def _artifact(one: ArtifactDifference, limits: Limits) -> Iterator[Check]:
    if not one.latency and not one.executed:
        raise MisuseError(
            f"The {one.name} artifact was not measured in both bundles in one setting. Pass --measure, or run "
            "`edgekit bench BASELINE BUNDLE` first."
        )
    for pairing in one.latency:
        if limits.latency is not None:
            yield latency_check(one.name, pairing, limits.latency)
        if limits.memory is not None:
            yield memory_check(one.name, pairing, limits.memory)
    for tally in one.executed:
        if limits.instructions is not None:
            yield instruction_check(one.name, tally, limits.instructions)
    if limits.drop is not None and not one.partition:  # parts are not evaluated: they answer as the whole
        yield accuracy_check(one, limits.drop)


def latency_check(name: str, pairing: Pairing, limit: float) -> Check:
    """Whether a latency keeps to its limit.

    Raises:
        EnvironmentProblemError: There is no ratio.
    """
    comparison = pairing.comparison
    if comparison.ratio is None or comparison.interval is None:
        reason = " ".join(comparison.obstacles) or "There were too few rounds for an interval."
        raise EnvironmentProblemError(
            f"The {name} artifacts cannot be compared. {reason} Measure both again with --measure, on a machine that "
            "is quiet."
        )
    low, high = comparison.interval.low, comparison.interval.high
    beyond, certain = comparison.ratio > 1 + limit, low > min(1.0, 1 + limit)
    span = f"{comparison.ratio - 1:+.1%} [{low - 1:+.1%}, {high - 1:+.1%}], at most {limit:+.1%}"
    return Check(
        name=f"latency of {name}, {pairing.setting.threads} thread{'s' if pairing.setting.threads > 1 else ''}",
        passed=not (beyond and certain),
        decided=certain or not beyond,
        text=span if certain or not beyond else f"{span}: undecided; measure longer with --profile normal",
    )


def memory_check(name: str, pairing: Pairing, limit: float) -> Check:
    """Whether a peak of memory keeps to its limit.

    Raises:
        MisuseError: It was not measured.
        EnvironmentProblemError: They are of two devices.
    """
    if not pairing.together:
        raise EnvironmentProblemError(
            f"The memory of {name} was measured on {pairing.devices[0]} and on {pairing.devices[1]}. Measure both on "
            f"one device: edgekit bench BASELINE BUNDLE --device {pairing.devices[1]}"
        )
    if pairing.first.memory is None or pairing.second.memory is None:
        raise MisuseError(f"The memory of {name} was left out in one run. Measure both again, without --no-memory.")
    one, other = pairing.first.memory.peak_rss_bytes, pairing.second.memory.peak_rss_bytes
    added = other / one - 1
    text = f"{one / (1 << 20):.0f} to {other / (1 << 20):.0f} MiB, {added:+.1%}, at most {limit:+.1%}"
    name = f"memory of {name}, {pairing.setting.threads} thread{'s' if pairing.setting.threads > 1 else ''}"
    return Check(name=name, passed=added <= limit, decided=True, text=text)


def accuracy_check(one: ArtifactDifference, max_drop: float) -> Check:
    """Whether one artifact is as accurate as it was, within so many points of top-1.

    Raises:
        MisuseError: It was not evaluated in both on the same images with labels.
    """
    found = one.accuracy
    if found is None:
        raise MisuseError(
            f"The {one.name} artifact was not evaluated in both bundles on the same images with labels. Run "
            "`edgekit eval` on both first, with the same --data."
        )
    decision = decide(found.interval, max_drop)
    low, high = found.interval
    text = f"{found.drop:.2f} [{low:.2f}, {high:.2f}] points lost on {found.data}, at most {max_drop:g}"
    return Check(
        name=f"accuracy of {one.name}",
        passed=decision != "over",
        decided=decision != "undecided",
        text=text + (": undecided; take more images" if decision == "undecided" else ""),
    )


def instruction_check(name: str, tally: Tally, limit: float) -> Check:
    """Whether the executed instructions keep to their limit.

    Raises:
        EnvironmentProblemError: They are of two builds of a runtime.
    """
    if tally.ratio is None:
        raise EnvironmentProblemError(
            f"The {name} artifacts cannot be compared on {tally.device}. {' '.join(tally.obstacles)} Count both again: "
            f"edgekit bench BASELINE BUNDLE --device {tally.device}"
        )
    runtime, added = tally.first.subject.runtime, tally.ratio - 1
    beyond, scatter = added > limit, SCATTER.get(runtime, 0.0)
    decided = not beyond or added > scatter
    text = f"{tally.first.instructions:,} to {tally.second.instructions:,}, {added:+.2%}, at most {limit:+.2%}"
    return Check(
        name=f"instructions of {name} on {tally.device}, emulated",
        passed=not beyond or not decided,
        decided=decided,
        text=text if decided else f"{text}: undecided; {runtime}'s own threads scatter it by up to {scatter:.0%}",
    )


def conclude(checks: Sequence[Check]) -> None:
    """Ends well when every check passed.

    Raises:
        CheckFailedError: One did not, or there was none.
    """
    if not checks:
        raise CheckFailedError("Nothing was compared, so nothing passed. Give a limit, such as --max-latency +3%.")
    if failed := [f"{check.name}: {check.text}" for check in checks if not check.passed]:
        raise CheckFailedError(f"{len(failed)} of {len(checks)} checks failed. {'; '.join(failed)}.")


def write_junit(checks: Sequence[Check], path: Path) -> None:
    """Writes the checks as JUnit XML, which continuous integration shows beside its tests.

    Raises:
        OutputError: The file cannot be written.
    """
    failed = sum(not check.passed for check in checks)
    suite = ET.Element("testsuite", name="edgekit gate", tests=str(len(checks)), failures=str(failed), errors="0")
    for check in checks:
        case = ET.SubElement(suite, "testcase", classname="edgekit.gate", name=check.name)
        if check.passed:
            ET.SubElement(case, "system-out").text = check.text
        else:
            ET.SubElement(case, "failure", message=check.text)
    with whole_file(path) as partial:
        ET.ElementTree(suite).write(partial, encoding="utf-8", xml_declaration=True)
