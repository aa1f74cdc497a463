"""The words for layers that int8 may serve: dense convolutions and linear layers, the way a file has them.

A layer's name says all of it, in this grammar:

    layer      = "convolution" channels "at" size ":" taps [ "/" stride ] [ "dilated" pair ] [ "padded" edges ] [ clip ]
               | "linear" channels [ "at" rows ]
    channels   = inputs ">" outputs
    edges      = top "x" left "x" bottom "x" right
    clip       = ", relu" | ", relu6"                    the activation that a runtime takes into the layer

    convolution 64>128 at 14x14: 3x3 /2x2 padded 1x1x1x1, relu
    linear 320>1280 at 196          of so many vectors
    linear 64>10                    of one
"""

import re
from collections.abc import Iterable
from math import prod
from typing import Annotated, Literal

from msgspec import Meta, Struct, convert

from edgekit.errors import MisuseError

_Side = Annotated[int, Meta(ge=1)]
_Edge = Annotated[int, Meta(ge=0)]

Pair = tuple[_Side, _Side]
Edges = tuple[_Edge, _Edge, _Edge, _Edge]
DenseKind = Literal["convolution", "linear"]
Clip = Literal["", "relu", "relu6"]

_PAIR = r"\d+x\d+"
_NAME = re.compile(
    r"(?P<kind>convolution(?=.*: )|linear(?!.*:)) (?P<inputs>\d+)>(?P<outputs>\d+)(?: at (?P<size>\d+(?:x\d+)*))?"
    rf"(?:: (?P<taps>{_PAIR})(?: /(?P<stride>{_PAIR}))?(?: dilated (?P<dilation>{_PAIR}))?"
    rf"(?: padded (?P<padding>{_PAIR}x{_PAIR}))?(?:, (?P<clip>relu6?))?)?"
)


class DenseLayer(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A layer that uses each of its constant weights for every output channel.

    Attributes:
        inputs, outputs: Channels.
        size: Of the map it reads, (height, width); of a linear layer how many vectors it reads, nothing for one.
        taps, stride, dilation: Pairs (height, width).
        padding: Rows above, columns left, rows below and columns right, of zeros.
        clip: The activation behind it that only clips, and that runtimes compute with it.
    """

    kind: DenseKind
    inputs: _Side
    outputs: _Side
    size: tuple[_Side, ...] = ()
    taps: Pair = (1, 1)
    stride: Pair = (1, 1)
    dilation: Pair = (1, 1)
    padding: Edges = (0, 0, 0, 0)
    clip: Clip = ""

    @property
    def result(self) -> tuple[int, ...]:
        """The size of the map it gives."""
        if self.kind == "linear":
            return self.size
        padded = (self.padding[0] + self.padding[2], self.padding[1] + self.padding[3])
        sides = zip(self.size, padded, self.taps, self.dilation, self.stride, strict=True)
        return tuple((side + edge - dilated * (taps - 1) - 1) // step + 1 for side, edge, taps, dilated, step in sides)

    @property
    def macs(self) -> int:
        """Multiply-accumulates, padding taps counted."""
        return prod(self.result) * prod(self.taps) * self.inputs * self.outputs

    @property
    def read(self) -> int:
        """Elements of the map it reads."""
        return self.inputs * prod(self.size)

    @property
    def given(self) -> int:
        """Elements of the map it gives."""
        return self.outputs * prod(self.result)

    def __str__(self) -> str:
        """Its name."""
        words = [f"{self.kind} {self.inputs}>{self.outputs}", *([f"at {_text(self.size)}"] if self.size else [])]
        if self.kind == "linear":
            return " ".join(words)
        words[-1] += f": {_text(self.taps)}"
        plain = DenseLayer(kind=self.kind, inputs=1, outputs=1)
        said = {"/": "stride", "dilated ": "dilation", "padded ": "padding"}
        words += [
            f"{word}{_text(getattr(self, name))}"
            for word, name in said.items()
            if getattr(self, name) != getattr(plain, name)
        ]
        return " ".join(words) + (f", {self.clip}" if self.clip else "")


def parse(name: str) -> DenseLayer:
    """The layer of a name.

    Raises:
        MisuseError: The name is none.
    """
    found = _NAME.fullmatch(name)
    if found is None:
        raise MisuseError(f"{name!r} is no layer. One is called 'convolution 64>128 at 14x14: 3x3' or 'linear 64>10'.")
    given = {key: value for key, value in found.groupdict().items() if value is not None}
    fields: dict[str, object] = {**given}
    for key, value in given.items():
        if key in ("inputs", "outputs"):
            fields[key] = int(value)
        elif key not in ("kind", "clip"):
            fields[key] = tuple(map(int, value.split("x")))
    return convert(fields, DenseLayer)


def _text(sides: Iterable[int]) -> str:
    return "x".join(map(str, sides))
