"""XNNPACK's kernels, in order, and the operators they are of."""

import pytest

from edgekit.bench.xnnpack import align, in_order_of_sets
from edgekit.filegraph.base import FileGraph, FileNode


def graph(*kinds: str, reads: dict[int, tuple[int, ...]] | None = None) -> FileGraph:
    """Operators in a chain, or reading the results of others by their place."""
    nodes = {}
    for index, kind in enumerate(kinds):
        operands = (reads or {}).get(index, (index - 1,))
        name = f"{index} {kind}"
        nodes[name] = FileNode(name, kind, None, 0, tuple(map(str, operands)), (str(index),))
    return FileGraph(nodes, {})


def test_one_kernel_of_each_operator() -> None:
    file = graph("CONV_2D", "GELU", "MUL")
    assert align(["Convolution (NHWC, F32) IGEMM", "GELU (NC)", "Multiply (ND)"], file, set()) == [*file.nodes]


def test_a_padding_that_went_into_the_convolution_has_no_kernel() -> None:
    file = graph("TRANSPOSE", "PAD", "CONV_2D", "PAD", "CONV_2D")
    kernels = ["Transpose (ND, X32)", "Convolution (NHWC, F32)", "Constant Pad (ND, X32)", "Convolution (NHWC, F32)"]
    assert align(kernels, file, set()) == ["0 TRANSPOSE", "2 CONV_2D", "3 PAD", "4 CONV_2D"]


def test_a_kernel_that_no_operator_fits_is_left_over() -> None:
    file = graph("MEAN", "FULLY_CONNECTED", "SOFTMAX")
    kernels = ["Mean (ND) Reduce2", "Static Reshape (NC)", "Fully Connected (NC, F32) GEMM", "Softmax (NC, F32)"]
    assert align(kernels, file, set()) == ["0 MEAN", None, "1 FULLY_CONNECTED", "2 SOFTMAX"]


def test_operators_of_tflites_own_are_not_given_to_xnnpack() -> None:
    file = graph("ADD", "CONCATENATION", "ADD")
    assert align(["Add (ND)", "Add (ND)"], file, {"1 CONCATENATION"}) == ["0 ADD", "2 ADD"]


def test_sets_run_whole_before_what_waits_for_another_kernel() -> None:
    """1 does not wait for what is XNNPACK's but 3 does; 2 comes with 0, though it stands behind 1 in the file."""
    file = graph("ADD", "CUMSUM", "MUL", "SUB", reads={1: (0,), 2: (0,), 3: (1, 2)})
    own = {"1 CUMSUM"}
    assert in_order_of_sets(file, own) == ["0 ADD", "2 MUL", "1 CUMSUM", "3 SUB"]
    kernels = ["Add (ND)", "Multiply (ND)", "Subtract (ND)"]
    assert align(kernels, file, own) == ["0 ADD", "2 MUL", "3 SUB"]


def test_a_file_that_begins_with_tflites_own() -> None:
    file = graph("CUMSUM", "ADD")
    assert in_order_of_sets(file, {"0 CUMSUM"}) == ["0 CUMSUM", "1 ADD"]


@pytest.mark.parametrize("kernels", [[], ["Add (ND)"]], ids=["no kernel", "no operator"])
def test_nothing_to_align(kernels: list[str]) -> None:
    assert align(kernels, graph(), set()) == [None] * len(kernels)


def test_unknown_operators_are_never_tied() -> None:
    assert align(["Add (ND)"], graph("CUSTOM"), set()) == [None]
