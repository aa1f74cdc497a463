"""How far two sets of outputs are apart, and how far float32 arithmetic alone would take them."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from msgspec import structs
from numpy.typing import NDArray

from edgekit.artifact import Parity

GATE_MARGIN_DB = 10.0
"""An artifact may lose this much SNR against what torch float32 itself reaches on the same input."""

GATE_FLOOR_DB = 80.0
"""No artifact passes below this SNR, however noisy the network is in float32."""

ONE_ROUNDING_DB = 140.0
"""About what one rounding to float32 leaves; no pass has to keep more."""

BEST_NOISE_DB = 120.0
"""In an artifact's gate torch float32 counts as no better than this.

Runtimes add the same numbers up in other orders: where torch adds in pairs and a runtime in one row, a mean over a
large map alone leaves 120 dB, and layers of 6,000 products a sum 112; and of an output of few values torch may be right
by luck. One weight that is off by a hundredth in one channel still leaves less than the gate.
"""

EQUAL_DB = 400.0
"""The SNR of equal outputs, which no real difference in float64 reaches; minus this for NaN or a dead output."""

SAMPLE = 1 << 18
"""How many values of one output are compared, whole columns of channels at a time; a dense map has many more."""

PLASTIC = 1.3247179572447460
"""The real root of x^3 = x + 1."""

Array = NDArray[np.float64]


def gate_db(noise_db: float) -> float:
    """The lowest accepted SNR where torch float32 reaches `noise_db` against float64."""
    return max(min(noise_db, BEST_NOISE_DB) - GATE_MARGIN_DB, GATE_FLOOR_DB)


def snr_db(reference: Array, actual: Array) -> float:
    """10 log10(sum reference^2 / sum difference^2), within plus or minus `EQUAL_DB`."""
    noise = float(np.sum(np.square(actual - reference)))
    signal = float(np.sum(np.square(reference)))
    if noise == 0.0:
        return EQUAL_DB
    if not math.isfinite(noise) or signal == 0.0:
        return -EQUAL_DB
    return max(-EQUAL_DB, min(EQUAL_DB, 10.0 * math.log10(signal / noise)))


def sampled(output: NDArray[Any]) -> NDArray[Any]:
    """An output of up to `SAMPLE` values whole; of a larger one some of them, evenly scattered.

    Of a map (N, C, H, W) all channels at some places, of tokens (N, L, C) or (N, C, L) some places and channels. Every
    weight reaches all places of a channel, so a wrong one shows at these as well. Both sides of a comparison are
    thinned alike: the places follow from the shape.
    """
    if output.size <= SAMPLE or output.ndim < 3:
        return output
    kept = output.shape[:2] if output.ndim > 3 else output.shape[:1]
    maps = output.reshape(*kept, -1, output.shape[-1])
    rows, columns = scattered(maps.shape[-2], maps.shape[-1], max(SAMPLE // math.prod(kept), 2))
    return np.ascontiguousarray(maps[..., rows, columns])


def scattered(height: int, width: int, number: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows and columns of places spread over a map, the first and the last among them.

    They are the sequence R2 of Roberts, "The unreasonable effectiveness of quasirandom sequences", 2018: multiples of
    powers of the plastic number's inverse, which leave no gap in rows, in columns or between them.
    """
    steps = np.arange(number - 1, dtype=np.float64)
    rows, columns = (
        (steps * PLASTIC**-power % 1.0 * side).astype(np.int64) for power, side in ((1, height), (2, width))
    )
    return np.append(rows, height - 1), np.append(columns, width - 1)


def compare_sampled(reference: Array, actual: NDArray[Any]) -> Parity:
    """Compares a whole output with a reference that is `sampled`; NaN and infinity are counted wherever they are."""
    parity = compare_one(reference, sampled(actual))
    nonfinite = int(actual.size - np.count_nonzero(np.isfinite(actual)))
    return structs.replace(parity, nonfinite=nonfinite, snr_db=-EQUAL_DB if nonfinite else parity.snr_db)


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
