"""How far two sets of outputs are apart, and how far float32 arithmetic alone would take them."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edgekit.artifact import Parity

GATE_MARGIN_DB = 10.0
"""An artifact may lose this much SNR against what torch float32 itself reaches on the same input."""

GATE_FLOOR_DB = 80.0
"""No artifact passes below this SNR, however noisy the network is in float32."""

EQUAL_DB = 400.0
"""The SNR of equal outputs, which no real difference in float64 reaches; minus this for NaN or a dead output."""

Array = NDArray[np.float64]


def gate_db(noise_db: float) -> float:
    """The lowest accepted SNR where torch float32 reaches `noise_db` against float64."""
    return max(noise_db - GATE_MARGIN_DB, GATE_FLOOR_DB)


def snr_db(reference: Array, actual: Array) -> float:
    """10 log10(sum reference^2 / sum difference^2), within plus or minus `EQUAL_DB`."""
    noise = float(np.sum(np.square(actual - reference)))
    signal = float(np.sum(np.square(reference)))
    if noise == 0.0:
        return EQUAL_DB
    if not math.isfinite(noise) or signal == 0.0:
        return -EQUAL_DB
    return max(-EQUAL_DB, min(EQUAL_DB, 10.0 * math.log10(signal / noise)))


def compare_one(reference: object, actual: object) -> Parity:
    """Compares one output with its reference; both are converted to float64.

    Raises:
        ValueError: The shapes differ, or there is nothing to compare.
    """
    expected, got = np.asarray(reference, dtype=np.float64), np.asarray(actual, dtype=np.float64)
    if expected.shape != got.shape:
        raise ValueError(f"shape {got.shape} instead of {expected.shape}")
    if expected.size == 0:
        raise ValueError("nothing to compare: the output is empty")
    finite = np.isfinite(got)
    nonfinite = int(got.size - np.count_nonzero(finite))
    decisions = np.argmax(got, axis=-1 if got.ndim < 2 else 1) == np.argmax(expected, axis=-1 if got.ndim < 2 else 1)
    difference = np.abs(np.where(finite, got - expected, 0.0))
    largest, max_abs = float(np.max(np.abs(expected))), float(np.max(difference))
    lengths = float(np.linalg.norm(expected) * np.linalg.norm(got))
    return Parity(
        max_abs=max_abs,
        relative=max_abs / largest if largest else max_abs,
        snr_db=-EQUAL_DB if nonfinite else snr_db(expected, got),
        cosine=float(np.vdot(expected, got)) / lengths if lengths and not nonfinite else float(max_abs == 0.0),
        top1_agreement=float(np.mean(decisions)),
        nonfinite=nonfinite,
    )


def worst(cases: Sequence[Parity]) -> Parity:
    """The worst figure of each metric over several comparisons.

    Raises:
        ValueError: There is none: comparing nothing proves nothing.
    """
    if not cases:
        raise ValueError("nothing was compared")
    return Parity(
        max_abs=max(case.max_abs for case in cases),
        relative=max(case.relative for case in cases),
        snr_db=min(case.snr_db for case in cases),
        cosine=min(case.cosine for case in cases),
        top1_agreement=min(case.top1_agreement for case in cases),
        nonfinite=sum(case.nonfinite for case in cases),
    )


def compare(references: Sequence[object], actuals: Sequence[object]) -> Parity:
    """The worst figures over pairs of outputs."""
    return worst([compare_one(expected, got) for expected, got in zip(references, actuals, strict=True)])
