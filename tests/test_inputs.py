"""The inputs: the same values every time, and each of them what it says it is."""

import numpy as np
import pytest

from edgekit.artifact import Shape, TensorSpec
from edgekit.inputs import CASES, CONSTANT_CASES, PROBES, Images, edges, flat, generate, natural, noise

SHAPES: list[Shape] = [(1, 3, 32, 48), (2, 3, 7, 5), (1, 1, 1, 1), (1, 3, 1, 9)]
SHAPE_IDS = ["x".join(map(str, shape)) for shape in SHAPES]


def made_for(*shapes: Shape) -> dict[str, Images]:
    """Every case for a network with inputs of these shapes."""
    return generate([TensorSpec(name=f"input{index}", shape=shape) for index, shape in enumerate(shapes)])


@pytest.mark.parametrize("shape", SHAPES, ids=SHAPE_IDS)
@pytest.mark.parametrize("case", CASES)
def test_an_input_is_finite_float32_of_the_shape_asked_for_and_the_same_every_time(case: str, shape: Shape) -> None:
    first, second = CASES[case](shape, 0), CASES[case](shape, 0)
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
    made = made_for((1, 3, 8, 8))
    assert list(made) == ["noise", "natural", "edges", "flat"] == list(CASES)
    assert all(np.array_equal(image, CASES[name]((1, 3, 8, 8), 0)) for name, (image,) in made.items())
    with pytest.raises(TypeError):
        CASES["more"] = flat  # type: ignore[index]


def test_passes_are_probed_on_cases_that_artifacts_see_too() -> None:
    assert set(PROBES) <= set(CASES)
    assert "flat" not in PROBES


def test_cases_are_unlike_each_other() -> None:
    made = [image.ravel() for name, (image,) in made_for((1, 3, 64, 64)).items() if name != "flat"]
    correlation = np.corrcoef(made)
    assert np.max(np.abs(correlation - np.eye(len(made)))) < 0.2


@pytest.mark.parametrize("shape", [(1, 3, 32, 48), (1, 64), (64,), (2, 5, 16)], ids=lambda shape: f"rank-{len(shape)}")
@pytest.mark.parametrize("case", sorted(CASES.keys() - CONSTANT_CASES))
def test_two_inputs_of_the_same_shape_are_unlike_each_other(case: str, shape: Shape) -> None:
    """Or a network that takes one for the other would pass."""
    first, second = made_for(shape, shape)[case]
    assert first.shape == second.shape == shape
    assert np.corrcoef(first.ravel(), second.ravel())[0, 1] < 0.99


@pytest.mark.parametrize("shape", [(), (1,), (1, 1), (1, 3, 1, 1)], ids=str)
def test_noise_tells_even_single_numbers_apart(shape: Shape) -> None:
    first, second = made_for(shape, shape)["noise"]
    assert not np.any(first == second)


@pytest.mark.parametrize("case", CASES)
def test_inputs_that_are_no_images_are_finite_float32_as_well(case: str) -> None:
    shapes: list[Shape] = [(1, 3, 8, 8), (1, 8), (8,), (), (1,), (1, 1), (2, 5, 7), (1, 2, 3, 4, 5)]
    made = made_for(*shapes)[case]
    assert [image.shape for image in made] == shapes
    assert {image.dtype for image in made} == {np.dtype(np.float32)}
    assert all(np.all(np.isfinite(image)) for image in made)


@pytest.mark.parametrize("case", CASES)
def test_the_first_input_does_not_depend_on_how_many_there_are(case: str) -> None:
    shape: Shape = (1, 3, 16, 16)
    assert np.array_equal(made_for(shape)[case][0], made_for(shape, shape, (1, 8))[case][0])
    assert np.array_equal(made_for(shape, shape)[case][1], made_for((1, 8), shape)[case][1])


def test_no_value_of_one_random_case_comes_back_in_another() -> None:
    """Noise and natural images of several inputs have seeds of their own."""
    made = made_for(*[(1, 3, 32, 32)] * 4)
    images = [image.ravel() for case in ("noise", "natural") for image in made[case]]
    assert np.max(np.abs(np.corrcoef(images) - np.eye(8))) < 0.3


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
