"""Which weights half floats hold."""

import numpy as np
import pytest

from edgekit.quant.base import Layer
from edgekit.quant.half import fits, half_reasons, halved

GENERATOR = np.random.default_rng(0)
USUAL = GENERATOR.normal(size=(16, 3, 3, 3)).astype(np.float32)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3], ids=str)
def test_usual_weights_fit(scale: float) -> None:
    assert fits(np.float32(scale) * USUAL)


def test_weights_of_nothing_but_zeros_fit() -> None:
    assert fits(np.zeros(8, np.float32))


def test_the_largest_half_float_fits_and_nothing_beyond() -> None:
    assert fits(np.array([1.0, 65504.0], np.float32))
    assert not fits(np.array([1.0, 65520.0], np.float32))
    assert np.isinf(halved(np.array([65520.0], np.float32))).all()


def test_a_layer_of_small_weights_does_not_fit_and_one_with_a_few_does() -> None:
    assert not fits(np.float32(1e-6) * USUAL)
    mixed = USUAL.copy()
    mixed[:4] *= np.float32(1e-6)
    assert fits(mixed)


def test_not_a_number_does_not_fit() -> None:
    assert not fits(np.array([1.0, np.nan], np.float32))


def test_every_reason_is_told() -> None:
    layers = [Layer(name, "convolution", name, None, 1) for name in ("sound", "large", "kept", "maps")]
    weights = [("sound", USUAL), ("large", USUAL * np.float32(1e6)), ("kept", USUAL)]
    assert half_reasons(layers, weights, {"kept"}) == {"large": "range", "kept": "asked", "maps": "product"}
