"""Pictures of kernels show what is in them: sign, size and place of every tap."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from edgekit.capture import capture
from edgekit.errors import OutputError
from edgekit.files import whole_file
from edgekit.inspection import large_kernels
from edgekit.pictures import (
    CHANNELS_KEPT,
    CHANNELS_SHOWN,
    GAP,
    LABEL_HEIGHT,
    TILE,
    kernel_pictures,
    kernel_rows,
    kernel_sheet,
    separable_partner,
    small,
    tile,
)
from edgekit.program import Program, constants
from tests.conftest import Exported

WHITE, RED, BLUE = (255, 255, 255), (255, 0, 0), (0, 0, 255)


def pixel(picture: Image.Image, row: int, column: int, taps: int) -> tuple[int, ...]:
    """The colour in the middle of a tap."""
    place = [round((index + 0.5) * TILE / taps) for index in (column, row)]
    colour = picture.getpixel((place[0], place[1]))
    assert isinstance(colour, tuple)
    return colour


def test_red_is_positive_blue_negative_white_zero() -> None:
    kernel = torch.zeros(7, 7)
    kernel[0, 0], kernel[6, 3] = 2.0, -2.0

    picture = tile(kernel)

    assert picture.size == (TILE, TILE)
    assert pixel(picture, 0, 0, 7) == RED
    assert pixel(picture, 6, 3, 7) == BLUE
    assert pixel(picture, 3, 3, 7) == WHITE


def test_every_tile_has_its_own_scale_and_halves_are_half_as_strong() -> None:
    for scale in (1e-12, 1.0, 1e12):
        picture = tile(scale * torch.tensor([[1.0, 0.5], [-0.5, 0.0]]))

        assert pixel(picture, 0, 0, 2) == RED
        assert pixel(picture, 0, 1, 2) == (255, 128, 128)
        assert pixel(picture, 1, 0, 2) == (128, 128, 255)


def test_an_empty_kernel_is_white() -> None:
    assert np.asarray(tile(torch.zeros(9, 9))).min() == 255


class Separable(nn.Module):
    """A (K, 1) convolution whose output a (1, K) convolution reads, alone or among others."""

    def __init__(self, *, shared: bool) -> None:
        super().__init__()
        self.tall = nn.Conv2d(4, 4, (9, 1), padding=(4, 0), groups=4, bias=False)
        self.wide = nn.Conv2d(4, 4, (1, 9), padding=(0, 4), groups=4, bias=False)
        self.shared = shared

    def forward(self, image: Tensor) -> Tensor:
        tall = self.tall(image)
        wide: Tensor = self.wide(tall)
        return wide + tall if self.shared else wide


def program(shared: bool) -> Program:
    torch.manual_seed(0)
    return capture(Separable(shared=shared).eval(), (1, 4, 16, 16))


def test_a_separable_pair_is_shown_as_what_it_amounts_to() -> None:
    captured = program(shared=False)
    first, second = large_kernels(captured)
    assert separable_partner(captured, first) is second
    assert separable_partner(captured, second) is None

    ((label, kernels),) = kernel_rows(captured)

    assert label == "tall  9x9 separable, 4 channels"
    weights = dict(constants(captured))
    torch.testing.assert_close(kernels, (weights["tall.weight"] * weights["wide.weight"])[:, 0])
    image = torch.randn(1, 4, 16, 16)
    together = torch.nn.functional.conv2d(image, kernels[:, None], padding=4, groups=4)
    torch.testing.assert_close(together, captured(image), rtol=1e-4, atol=1e-5)


def test_halves_that_others_read_too_are_shown_one_by_one() -> None:
    rows = kernel_rows(program(shared=True))

    assert [label for label, _ in rows] == ["tall  9x1, 4 channels", "wide  1x9, 4 channels"]


def test_a_sheet_has_a_row_per_kernel_and_a_tile_per_channel(tmp_path: Path) -> None:
    rows = kernel_sheet(program(shared=True), tmp_path / "sheet.png")

    assert rows == 2
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.format == "PNG"
        assert sheet.size == (
            GAP + CHANNELS_SHOWN * (TILE + GAP),
            GAP + 2 * (LABEL_HEIGHT + TILE + GAP),
        )
        top = GAP + LABEL_HEIGHT + TILE // 2
        tiles = [sheet.getpixel((GAP + index * (TILE + GAP) - 1, top)) for index in range(CHANNELS_SHOWN)]
    assert tiles == [(153, 153, 153)] * 4 + [WHITE] * (CHANNELS_SHOWN - 4)  # frames of as many tiles as channels


def test_a_network_without_large_kernels_has_an_empty_sheet(tmp_path: Path) -> None:
    captured = capture(nn.Conv2d(3, 4, 3).eval(), (1, 3, 16, 16))

    assert kernel_sheet(captured, tmp_path / "sheet.png") == 0
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert np.asarray(sheet).min() == 255


def test_every_oversized_kernel_of_a_network_is_drawn_once(exported: Exported) -> None:
    labels = [label for label, _ in kernel_rows(exported.network.proven.program)]

    assert len(labels) == len(set(labels))
    assert labels[0] == "stages.0.0.token_mixer.dwconv1  15x15 separable, 48 channels"


def test_a_small_picture_keeps_places_signs_and_each_channels_scale() -> None:
    kernels = torch.zeros(2, 7, 9)
    kernels[0, 1, 2], kernels[0, 5, 8], kernels[1, 3, 4] = 2.0, -1.0, 1e-9

    pixels = small(kernels)

    assert pixels.shape == (2, 7, 9)
    assert pixels.dtype == np.int8
    assert (pixels[0, 1, 2], pixels[0, 5, 8], pixels[1, 3, 4]) == (127, -64, 127)
    assert np.count_nonzero(pixels) == 3


def test_a_kernel_larger_than_a_tile_is_averaged() -> None:
    kernels = torch.zeros(1, 2 * TILE, 2 * TILE)
    kernels[0, :2, :2], kernels[0, 2, 2] = 1.0, -1.0

    pixels = small(kernels)

    assert pixels.shape == (1, TILE, TILE)
    assert (pixels[0, 0, 0], pixels[0, 1, 1]) == (127, -32)


def test_pictures_of_a_network_are_of_its_first_channels() -> None:
    (picture,) = kernel_pictures(program(shared=False))
    ((_, kernels),) = kernel_rows(program(shared=False))

    assert (picture.label.module, picture.label.taps, picture.label.separable) == ("tall", (9, 9), True)
    assert picture.tiles.shape == (min(4, CHANNELS_KEPT), 9, 9)
    strongest = int(kernels[0].abs().argmax())
    assert abs(int(picture.tiles[0].flat[strongest])) == 127


def test_the_same_network_has_the_same_picture(tmp_path: Path) -> None:
    for name in ("first", "second"):
        kernel_sheet(program(shared=False), tmp_path / name)

    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()


def test_a_picture_that_does_not_fit_is_not_left_half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def half(self: Image.Image, path: Path, **options: str) -> None:
        path.write_bytes(b"\x89PNG")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", half)

    with pytest.raises(OutputError, match="No space left for"), whole_file(tmp_path / "sheet.png") as partial:
        kernel_sheet(program(shared=False), partial)

    assert list(tmp_path.iterdir()) == []
