"""Which artifact and setting to take: of each bundle the fastest, and by how much it beats the next."""

from collections.abc import Iterator, Sequence
from itertools import groupby

from edgekit.bench.compare import Side, compare, setting_text


def fastest_lines(sides: Sequence[Side]) -> Iterator[str]:
    """A sentence for each bundle of which several artifacts or settings were measured; INVALID figures do not count."""
    able = [side for side in sides if side.measurement.verdict.level != "INVALID"]
    for bundle, held in groupby(sorted(able, key=_bundle), _bundle):
        ranked = sorted(held, key=lambda side: side.measurement.latency.median_ms)
        if len(ranked) > 1:
            median = f"{ranked[0].measurement.latency.median_ms:.4g} ms"
            yield f"Fastest of {bundle}: {_named(ranked[0])}, {median}. {_next(*ranked[:2])}"


def _bundle(side: Side) -> str:
    return side.run.bundle


def _named(side: Side) -> str:
    subject = side.measurement.subject
    return f"{subject.artifact} in {subject.runtime} with {setting_text(side.measurement)}"


def _next(first: Side, second: Side) -> str:
    """How the next compares, as far as that is certain."""
    found = compare(first, second)
    if found.ratio is None or found.interval is None:
        return f"Next comes {_named(second)}; by how much is not known."
    if found.interval.low <= 1:
        return f"{_named(second)} is not shown to be slower ({found.text} times as long)."
    return f"{_named(second)} takes {found.text} times as long."
