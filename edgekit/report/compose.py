"""The report's order: the one place that knows which sections there are."""

from collections.abc import Callable

from edgekit.report import (
    accuracy,
    certificates,
    environment,
    instructions,
    kernels,
    latency,
    memory,
    summary,
    timings,
    tradeoff,
)
from edgekit.report.document import Document, Section
from edgekit.report.gather import Facts
from edgekit.report.wording import listed

SECTIONS: tuple[Callable[[Facts], Section], ...] = (
    summary.overview,
    latency.section,
    instructions.section,
    accuracy.section,
    tradeoff.section,
    timings.section,
    memory.section,
    kernels.section,
    certificates.section,
    environment.section,
    environment.reproduction,
)


def compose(facts: Facts) -> Document:
    """Everything a report says."""
    text, tone = summary.verdict(facts)
    models = listed(list(dict.fromkeys(bundle.manifest.model.name for bundle in facts.bundles)))
    return Document(
        title=models,
        subtitle=", ".join(f"{bundle.name} for {bundle.manifest.target}" for bundle in facts.bundles),
        verdict=text,
        tone=tone,
        tiles=summary.tiles(facts),
        sections=tuple(make(facts) for make in SECTIONS),
    )
