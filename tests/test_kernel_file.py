"""Pictures of kernels on disk: they come back as they were, and damage is told."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import save_file

from edgekit.errors import BundleError
from edgekit.kernel_file import KEY, KernelLabel, KernelPicture, read_pictures, write_pictures


def picture(module: str, seed: int) -> KernelPicture:
    tiles = np.random.default_rng(seed).integers(-127, 128, (3, 5, 7)).astype(np.int8)
    return KernelPicture(KernelLabel(module=module, taps=(5, 7), channels=48, separable=False), tiles)


def test_pictures_come_back_as_they_were_and_in_order(tmp_path: Path) -> None:
    written = [picture(f"stages.{number}", number) for number in (2, 0, 1)]

    (path,) = write_pictures(written, tmp_path)
    found = read_pictures(path)

    assert [each.label for each in found] == [each.label for each in written]
    for one, other in zip(found, written, strict=True):
        np.testing.assert_array_equal(one.tiles, other.tiles)


def test_the_same_pictures_are_the_same_bytes(tmp_path: Path) -> None:
    first, second = (write_pictures([picture("x", 1)], tmp_path)[0].read_bytes() for _ in range(2))

    assert first == second


def test_without_pictures_there_is_no_file(tmp_path: Path) -> None:
    assert write_pictures([], tmp_path) == ()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"x" * 100], ids=["empty", "noise"])
def test_a_damaged_file_is_told(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "k").write_bytes(content)

    with pytest.raises(BundleError, match=r"k holds no pictures of kernels .* Export the model again\."):
        read_pictures(tmp_path / "k")


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="holds no pictures"):
        read_pictures(tmp_path / "k")


@pytest.mark.parametrize(
    "tensor", [np.zeros((3, 5), np.int8), np.zeros((1, 3, 5), np.float32)], ids=["two axes", "float"]
)
def test_other_tensors_are_refused(tmp_path: Path, tensor: NDArray[Any]) -> None:
    label = '[{"module": "a", "taps": [3, 5], "channels": 1, "separable": false}]'
    save_file({"0000": tensor}, tmp_path / "k", {KEY: label})

    with pytest.raises(BundleError, match="no int8 images"):
        read_pictures(tmp_path / "k")
