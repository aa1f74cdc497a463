"""Of several ways to write one artifact: how they compare, and what becomes of those that are not kept."""

from collections.abc import Sequence
from pathlib import Path

from edgekit.artifact import CaseParity
from edgekit.exporters import Exporter
from edgekit.exporters.base import Candidate


def compared(candidates: Sequence[Candidate], checked: Sequence[tuple[CaseParity, ...]], kept: int) -> tuple[str, ...]:
    """How the candidates compare, where there was a choice: the SNR of each, and which one was kept."""
    from edgekit.verify import tightest

    if len(candidates) == 1:
        return ()
    figures = (
        f"{each.label} {tightest(cases).parity.snr_db:.1f} dB" for each, cases in zip(candidates, checked, strict=True)
    )
    return (f"{', '.join(figures)}: {candidates[kept].label} kept",)


def keep(
    chosen: Candidate, candidates: Sequence[Candidate], folder: Path, stem: str, exporter: Exporter
) -> tuple[Path, ...]:
    """Gives the chosen candidate's files the artifact's name and removes the others."""
    for candidate in candidates:
        if candidate is not chosen:
            for file in candidate.files:
                file.unlink()
    return tuple(
        file.rename(folder / f"{stem}{suffix}") for file, suffix in zip(chosen.files, exporter.suffixes, strict=True)
    )
