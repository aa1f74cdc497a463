"""The inputs: the same values every time, and each of them what it says it is."""

import numpy as np
import pytest

from edgekit.artifact import Shape
from edgekit.inputs import CASES, PROBES, edges, flat, generate, natural, noise

SHAPES: list[Shape] = [(1, 3, 32, 48), (2, 3, 7, 5), (1, 1, 1, 1), (1, 3, 1, 9)]
SHAPE_IDS = ["x".join(map(str, shape)) for shape in SHAPES]


@pytest.mark.parametrize("shape", SHAPES, ids=SHAPE_IDS)
@pytest.mark.parametrize("case", CASES)
def test_an_input_is_finite_float32_of_the_shape_asked_for_and_the_same_every_time(case: str, shape: Shape) -> None:
    first, second = CASES[case](shape), CASES[case](shape)
    assert first.shape == shape
    assert first.dtype == np.float32
    assert np.all(np.isfinite(first))
    assert first.flags.c_contiguous
    assert np.array_equal(first, second)


def test_random_inputs_are_the_same_as_ever() -> None:
    """A bundle's reference holds them; they must not change with the machine, the library or this code."""
    shape = (1, 3, 16, 16)
    assert noise(shape).flatten()[:3].tolist() == pytest.approx([-0.741827, -0.205351, -1.014082], abs=1e-6)
    assert natural(shape).flatten()[:3].tolist() == pytest.approx([-0.260986, 0.049138, 0.473010], abs=1e-6)


def test_all_cases_come_in_order_and_the_table_cannot_be_written() -> None:
    made = generate((1, 3, 8, 8))
    assert list(made) == ["noise", "natural", "edges", "flat"] == list(CASES)
    assert all(np.array_equal(image, CASES[name]((1, 3, 8, 8))) for name, image in made.items())
    with pytest.raises(TypeError):
        CASES["more"] = flat  # type: ignore[index]


def test_passes_are_probed_on_cases_that_artifacts_see_too() -> None:
    assert set(PROBES) <= set(CASES)
    assert "flat" not in PROBES


def test_cases_are_unlike_each_other() -> None:
    made = [image.ravel() for name, image in generate((1, 3, 64, 64)).items() if name != "flat"]
    correlation = np.corrcoef(made)
    assert np.max(np.abs(correlation - np.eye(len(made)))) < 0.2


def test_noise_is_white_and_of_unit_variance() -> None:
    image = noise((2, 3, 64, 64)).astype(np.float64)
    assert abs(image.mean()) < 0.02
    assert abs(image.std() - 1.0) < 0.02
    assert abs(np.mean(image[..., 1:] * image[..., :-1])) < 0.02
    assert not np.array_equal(image[0], image[1])


def test_natural_falls_with_the_square_of_frequency_in_power() -> None:
    image = natural((4, 3, 128, 128)).astype(np.float64)
    assert abs(image.mean()) < 1e-3
    assert abs(image.std() - 1.0) < 1e-3
    power = np.mean(np.abs(np.fft.fft2(image)) ** 2, axis=(0, 1))
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(128), np.fft.fftfreq(128)))
    low, high = (power[(frequency > at / 1.2) & (frequency < at * 1.2)].mean() for at in (0.04, 0.32))
    assert 10 * np.log10(low / high) == pytest.approx(20 * np.log10(0.32 / 0.04), abs=1.0)


def test_edges_has_bright_corners_a_ramp_and_checks_of_eight_pixels() -> None:
    image = edges((2, 3, 32, 48))
    assert np.all(image[..., [0, 0, -1, -1], [0, -1, 0, -1]] == 4.0)
    assert np.all(image == image[:1, :1])
    middle = image[0, 0, 12]
    columns = np.arange(48)
    assert middle == pytest.approx(columns / 47 - 0.5 + np.where((1 + columns // 8) % 2 == 0, 1.0, -1.0), abs=1e-6)
    assert np.sum(image[0, 0] > 2.0) == 4


def test_flat_is_zero() -> None:
    assert not np.any(flat((1, 3, 5, 5)))
