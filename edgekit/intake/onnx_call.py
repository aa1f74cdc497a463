"""One ONNX node as its implementation sees it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from edgekit.errors import ModelError

Values = NDArray[np.generic]


class UnsupportedError(ModelError):
    """A form of an operator that edgekit does not read; the node's name is added where it is known."""


@dataclass(frozen=True, slots=True)
class Call:
    """A node's inputs, attributes and version.

    Attributes:
        inputs: One tensor per input, None for one that is left out.
        known: The values of the inputs that do not depend on the network's input: shapes, axes, bounds.
    """

    inputs: tuple[Tensor | None, ...]
    known: tuple[Values | None, ...]
    attributes: Mapping[str, Any]
    opset: int
    outputs: int

    def __getitem__(self, index: int) -> Tensor:
        value = self.inputs[index]
        if value is None:
            raise UnsupportedError(f"input {index} is missing")
        return value

    @property
    def tensors(self) -> list[Tensor]:
        """The inputs that are given."""
        return [value for value in self.inputs if value is not None]

    def optional(self, index: int) -> Tensor | None:
        """An input, or None when it is left out."""
        return self.inputs[index] if index < len(self.inputs) else None

    def get(self, name: str, default: Any) -> Any:
        """An attribute."""
        return self.attributes.get(name, default)

    def array(self, index: int) -> Values | None:
        """The values of an input, or None when it is left out.

        Raises:
            UnsupportedError: They depend on the network's input.
        """
        if self.optional(index) is None:
            return None
        values = self.known[index]
        if values is None:
            raise UnsupportedError(
                f"input {index} depends on the values of the network's input, so sizes are not fixed"
            )
        return values

    def ints(self, index: int, name: str = "") -> list[int] | None:
        """Integers of an input, or in older versions of an attribute; None when neither is given."""
        if name in self.attributes:
            return [int(value) for value in np.atleast_1d(self.attributes[name])]
        values = self.array(index)
        return None if values is None else [int(value) for value in values.reshape(-1)]

    def needed_ints(self, index: int, name: str = "") -> list[int]:
        """The same where they must be given."""
        values = self.ints(index, name)
        if values is None:
            raise UnsupportedError(f"{name or f'input {index}'} is missing")
        return values


Operator = Callable[[Call], Tensor | tuple[Tensor, ...]]
"""Computes a node's outputs with torch operators."""


def only(call: Call, name: str, allowed: tuple[Any, ...], default: Any) -> Any:
    """An attribute that must be one of a few values.

    Raises:
        UnsupportedError: It is another.
    """
    value = call.get(name, default)
    if value not in allowed:
        raise UnsupportedError(f"{name}={value!r} is not supported, only {', '.join(map(repr, allowed))}")
    return value
