"""Weights as half floats: which layers' fit, and what they become.

Half floats have 11 digits in base two, so that each weight w is stored with an error of at most 2^-11 |w|, as long as
it is between 6.1e-5, below which they run out of digits, and 65504, beyond which there is only infinity. A layer whose
weights W are stored with more than that,

    ||half(W) - W|| > 2^-11 ||W||

stays float. A few weights close to zero are lost without harm; a layer of nothing else is not.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from edgekit.quant.base import Layer

ROUNDING = 2.0**-11
"""The largest error of a half float, relative to the number."""


def half_reasons(
    layers: Sequence[Layer], weights: Iterable[tuple[str, NDArray[np.float32]]], keep: Collection[str] = ()
) -> Mapping[str, str]:
    """Why layers stay float: their names to a code of `OperatorPrecision`; those that do not are left out.

    Args:
        layers: Of a float file.
        weights: The constant that each multiplies with, by the layer's name; layers without one are left out.
        keep: Names of layers that were asked to stay float.
    """
    fitting = {name: fits(values) for name, values in weights}
    found: dict[str, str] = {}
    for layer in layers:
        if layer.name not in fitting:
            found[layer.name] = "product"
        elif layer.name in keep:
            found[layer.name] = "asked"
        elif not fitting[layer.name]:
            found[layer.name] = "range"
    return MappingProxyType(found)


def fits(values: NDArray[np.float32]) -> bool:
    """Whether half floats hold weights as well as they can hold any."""
    exact = values.astype(np.float64)
    error = np.linalg.norm(halved(values).astype(np.float64) - exact)
    return bool(error <= ROUNDING * np.linalg.norm(exact))  # an infinite error, or none at all, is not less


def halved(values: NDArray[np.float32]) -> NDArray[np.float16]:
    """Weights rounded to the nearest half float; infinite beyond their range."""
    with np.errstate(over="ignore"):
        return values.astype(np.float16)
