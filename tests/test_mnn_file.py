"""Operators and weights of MNN's files: as they were exported, as the converter changes them, and restored."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edgekit.mnn_file import Storage, Type, floats, operators, restored, rounded, storage
from edgekit.mnn_tools import convert
from edgekit.quant.half import halved
from edgekit.quiet import silenced
from edgekit.runners import load
from tests.quant import small


@pytest.fixture(scope="module")
def exact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small network's float file."""
    with silenced():
        return small.write("mnn", tmp_path_factory.mktemp("mnn"))


@pytest.fixture(scope="module")
def halves(exact: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The same as the converter makes half floats of it."""
    return converted(exact, tmp_path_factory.mktemp("halves"), "--fp16")


def converted(exact: Path, folder: Path, *options: str) -> bytes:
    import MNN

    described = MNN.nn.load_module_from_file(str(exact), [], []).get_info()["bizCode"]
    return convert("MNN", exact, [*options, "--optimizeLevel", "0", "--bizCode", described], folder, "it")[0]


def outputs(content: bytes, folder: Path) -> NDArray[np.float32]:
    path = folder / "net.mnn"
    path.write_bytes(content)
    with load("mnn", path) as runner:
        return np.concatenate([runner.run(feed)["logits"] for feed in small.held_out()])


def test_operators_are_those_that_were_exported(exact: Path) -> None:
    content = exact.read_bytes()
    found = {operator.name: operator for operator in operators(content)}
    stem, product = found["stem/conv2d"], found["/matmul"]
    assert (stem.type, product.type) == (Type.CONVOLUTION, Type.MATMUL)
    assert found["depthwise/conv2d_3"].type == Type.DEPTHWISE
    assert found["excite/conv2d_2"].inputs == found["squeeze/conv2d_1"].outputs
    assert found["banded"].outputs[0] in product.inputs


def test_constants_are_those_of_the_network(exact: Path) -> None:
    content = exact.read_bytes()
    found = {operator.name: floats(content, operator) for operator in operators(content)}
    network = small.network()
    for name, parameter in (("stem/conv2d", "stem.weight"), ("banded", "banded")):
        expected = network.get_parameter(parameter).detach().numpy().ravel()
        np.testing.assert_array_equal(found[name], expected)
    assert found["/sigmoid"] is None


@pytest.mark.parametrize(("option", "kind"), [("--fp16", "half"), ("--weightQuantBits", "integer")])
def test_the_converter_changes_every_layer_and_all_come_back(
    option: str, kind: Storage, exact: Path, tmp_path: Path
) -> None:
    """Bit for bit, in the numbers of the file and in what MNN computes."""
    before = exact.read_bytes()
    made = converted(exact, tmp_path, *([option, "8"] if kind == "integer" else [option]))
    constants = {index: floats(before, each) for index, each in enumerate(operators(before))}
    known = {index: values for index, values in constants.items() if values is not None}

    stored = [storage(made, each) for each in operators(made)]
    assert stored.count(kind) == (len(known) if kind == "half" else 6)
    back = restored(made, known)

    assert {storage(back, each) for each in operators(back)} == {"float", None}
    for index, each in enumerate(operators(back)):
        np.testing.assert_array_equal(floats(back, each), constants[index])
    np.testing.assert_array_equal(outputs(back, tmp_path), outputs(before, tmp_path))


def test_the_converter_cuts_digits_off_and_rounding_halves_the_error(
    exact: Path, halves: bytes, tmp_path: Path
) -> None:
    before = exact.read_bytes()
    constants = {index: floats(before, each) for index, each in enumerate(operators(before))}
    layers = {index: values for index, values in constants.items() if values is not None and values.size > 1}
    rest = {index: values for index, values in constants.items() if values is not None and index not in layers}
    mixed = restored(halves, rest)

    errors = [
        np.linalg.norm(outputs(content, tmp_path) - outputs(before, tmp_path))
        for content in (mixed, rounded(mixed, {index: halved(values) for index, values in layers.items()}))
    ]
    assert errors[1] < 0.6 * errors[0]


def test_one_wrong_constant_shows(exact: Path, halves: bytes, tmp_path: Path) -> None:
    """The twin of what comes back: the stem's largest weight with its sign turned round."""
    before = exact.read_bytes()
    constants = {index: floats(before, each) for index, each in enumerate(operators(before))}
    known = {index: values.copy() for index, values in constants.items() if values is not None}
    stem = next(index for index, each in enumerate(operators(before)) if each.name == "stem/conv2d")
    known[stem][np.abs(known[stem]).argmax()] *= -1
    twin, sound = outputs(restored(halves, known), tmp_path), outputs(before, tmp_path)
    assert 20 * np.log10(np.linalg.norm(sound) / np.linalg.norm(twin - sound)) < 40.0
