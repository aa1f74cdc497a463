"""What every quantizer is given and gives back."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

from edgekit.dense_layer import DenseLayer
from edgekit.quant.recipe import Ranges, Recipe

if TYPE_CHECKING:  # the table of quantizers is read where help is printed, which is to load no numpy
    import numpy as np
    from numpy.typing import NDArray

Kind = Literal["convolution", "grouped", "linear", "product"]

Feed: TypeAlias = "Mapping[str, NDArray[np.float32]]"
"""The inputs of one run, by name."""


Observed: TypeAlias = "Mapping[str, NDArray[np.float32]]"
"""Tensors of one run, by name."""


@dataclass(frozen=True, slots=True)
class Layer:
    """An operator of a float file that multiplies.

    Attributes:
        name: By which the format's quantizer knows it.
        kind: `convolution` and `linear` have constant weights and use each for every output channel; `grouped` are
            convolutions of fewer channels than they read; a `product` is of two maps, or has a matrix per channel.
        node: Its name in the file's `FileGraph`.
        module: Path of the torch module it came from; None where the file does not tell.
        macs: Multiply-accumulates of one run.
        dense: Of a `convolution` or `linear` what it is, where its shapes are known.
    """

    name: str
    kind: Kind
    node: str
    module: str | None
    macs: int
    dense: DenseLayer | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """What to make of a float file.

    Attributes:
        recipe: How.
        chosen: Names of the layers to quantize; all else stays float.
        calibration: Starts the calibration inputs anew, one run's after another.
        images: How many runs they are.
        ranges: How the ranges of static activations are chosen.
        architectures: Where the file will run; none is anywhere.
        short_sums: Whether kernels there add products in pairs to 16 bits, so that weights get 7 bits instead of 8.
        corrected: Whether biases may be corrected.
        draft: Whether the file only ranks layers, so that what takes long and moves all of them alike may be left out.
    """

    recipe: Recipe
    chosen: frozenset[str]
    calibration: Callable[[], Iterator[Feed]]
    images: int
    ranges: Ranges = "minmax"
    architectures: tuple[str, ...] = ()
    short_sums: bool = False
    corrected: bool = True
    draft: bool = False


class Quantizing(Protocol):
    """What the module of a format can do."""

    def layers(self, path: Path) -> tuple[Layer, ...]:
        """Every operator of a float file that multiplies, in its order."""
        ...

    def weights(self, path: Path) -> "Iterator[tuple[str, NDArray[np.float32]]]":
        """The constant that each layer of a float file multiplies with, after its name; layers without are left out."""
        ...

    def halves(self, path: Path) -> "Iterator[tuple[str, NDArray[np.float16]]]":
        """The same of a quantized file, for the layers whose weights are half floats."""
        ...

    def quantize(self, source: Path, job: Job, target: Path) -> tuple[Path, ...]:
        """Writes `target`, float at its inputs and outputs, the same bytes every time; gives back its files.

        Raises:
            ConverterError: The format's quantizer failed.
        """
        ...

    def quantized(self, path: Path) -> frozenset[str]:
        """Names of the layers whose weights are integers or half floats in a file, read back from it."""
        ...
