"""The arrays of ncnn's `.bin` files: where each is, what becomes of it, and what is refused."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edgekit.errors import ConverterError
from edgekit.filegraph.ncnn import read_lines
from edgekit.quant.base import Feed, Job
from edgekit.quant.ncnn import arrays_of, holders, quantize, quantized, weights
from edgekit.quant.recipe import RECIPES

LAYERS = """7767517
6 7
Input                    in0       0 1 image
MemoryData               banded    0 1 m 0=3 1=1
Split                    copies    1 2 m m1 m2
MatMul                   product   2 1 image m1 p
Convolution              conv      1 1 p c 0=1 1=1 5=1 6=5
PReLU                    slope     1 1 c out 0=1
# edgekit {}
"""
ARRAYS = {"banded": 3, "conv": 5, "bias": 1, "slope": 1}


@pytest.fixture
def net(tmp_path: Path) -> Path:
    """A file of two arrays that may be half floats, each of an odd number, and two that may not."""
    values = {name: np.full(count, index + 0.1, np.float32) for index, (name, count) in enumerate(ARRAYS.items())}
    path = tmp_path / "net.param"
    path.write_text(LAYERS)
    banded, *others = (each.tobytes() for each in values.values())
    path.with_suffix(".bin").write_bytes(b"".join((banded, b"\0\0\0\0", *others)))
    return path


def job(*chosen: str) -> Job:
    def nothing() -> Iterator[Feed]:
        yield from ()

    return Job(RECIPES["fp16"], frozenset(chosen), nothing, 0)


def test_the_operand_of_a_product_is_found_behind_its_copies(net: Path) -> None:
    assert holders(read_lines(net)) == {"product": "banded", "conv": "conv"}
    assert {name: len(values) for name, values in weights(net)} == {"product": 3, "conv": 5}


@pytest.mark.parametrize("chosen", [("product", "conv"), ("product",), ("conv",)], ids="+".join)
def test_what_is_chosen_becomes_half_floats_and_all_else_stays(
    chosen: tuple[str, ...], net: Path, tmp_path: Path
) -> None:
    target = tmp_path / "half.param"

    assert quantize(net, job(*chosen), target) == (target, target.with_suffix(".bin"))

    assert quantized(target) == frozenset(chosen)
    before, after = net.with_suffix(".bin").read_bytes(), target.with_suffix(".bin").read_bytes()
    assert after[-8:] == before[-8:]
    stored = arrays_of(read_lines(target), after, "half")
    assert [each.half for each in stored] == ["product" in chosen, "conv" in chosen, False, False]
    assert len(after) == len(before) + ("product" in chosen) * (4 + 8 - 12) + ("conv" in chosen) * (12 - 20)
    assert ("21=0" in target.read_text()) == ("product" in chosen)
    assert target.read_text().splitlines()[-1] == "# edgekit {}"
    left = {name for name, _ in weights(target)}
    assert left == {"product", "conv"} - set(chosen)


def test_a_layer_that_stores_more_than_is_known_is_refused(net: Path, tmp_path: Path) -> None:
    net.write_text(LAYERS.replace("PReLU ", "Embed "))
    with pytest.raises(ConverterError, match=r"net\.param cannot be told apart: of one of its layers .*Embed"):
        quantize(net, job("conv"), tmp_path / "half.param")
    assert not (tmp_path / "half.param").exists()


def test_weights_that_are_neither_kind_of_float_are_refused(net: Path) -> None:
    content = bytearray(net.with_suffix(".bin").read_bytes())
    content[12:16] = 0x000D4B38.to_bytes(4, "little")
    with pytest.raises(ConverterError, match=r"weights of layer conv that are neither floats nor half floats"):
        arrays_of(read_lines(net), bytes(content), "net.param")
