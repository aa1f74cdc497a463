"""The small network as float files and quantized ones, each written when first asked for."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from edgekit.quiet import silenced
from tests.quant import small
from tests.quant.quantizing import Make, write


@pytest.fixture(scope="module")
def floats(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Format to the small network's float file, written when first asked for."""

    @cache
    def written(name: str) -> Path:
        with silenced():
            return small.write(name, tmp_path_factory.mktemp(name))

    return written


@pytest.fixture(scope="module")
def made(floats: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Make:
    """(format, recipe) to the quantized file, written when first asked for."""
    folder = tmp_path_factory.mktemp("quantized")

    @cache
    def written(name: str, recipe: str) -> Path:
        source = floats(name)
        return write(name, recipe, source, folder / f"{name}-{recipe}{source.suffix}")

    return written
