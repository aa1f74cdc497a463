"""What is told about a choice."""

from collections.abc import Iterable

from msgspec import Struct

RATIO = "ratio"
"""The unit of costs that are known as ratios only."""


def cost_text(cost: float, unit: str) -> str:
    """Milliseconds, or millions of executed instructions."""
    return f"{cost:.3f} ms" if unit == "ms" else f"{cost / 1e6:.2f} M instructions"


def rules_of(sources: Iterable[str]) -> list[str]:
    """What decided, each once and without the group or layer that stood for another one."""
    return list(dict.fromkeys(source.partition(", by ")[0] for source in sources))


class CandidateCost(Struct, frozen=True, kw_only=True):
    """A way to write a group: what it adds to an inference where that is known, and the bytes of its constants."""

    form: str
    bytes: int
    added: float | None = None
    ratio: float | None = None


class KernelChoice(Struct, frozen=True, kw_only=True):
    """What was chosen for the places where one group stands.

    Attributes:
        sites: Module paths.
        source: What decided.
        unit: Of the candidates' costs.
    """

    group: str
    sites: tuple[str, ...]
    form: str
    source: str
    unit: str
    candidates: tuple[CandidateCost, ...]
