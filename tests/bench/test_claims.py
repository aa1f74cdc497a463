"""Operators of a profile and nodes of the file: everything is claimed, once, and by the right one."""

from collections.abc import Callable, Mapping

import numpy as np
import pytest

from edgekit.bench.claims import CLAIMANTS, Claim, claims
from edgekit.exporters import EXPORTERS
from edgekit.exporters.base import Candidate
from edgekit.filegraph import read_graph
from edgekit.filegraph.base import FileGraph, FileNode
from edgekit.runners import RUNNERS, load
from edgekit.runners.base import OperatorTime

Artifact = Callable[[str], tuple[Candidate, ...]]
FORMATS = pytest.mark.parametrize("name", EXPORTERS)


def graph(**nodes: tuple[str, str]) -> FileGraph:
    """Nodes by name, each with the tensors it reads, separated by spaces, and the one it gives."""
    made = {
        name: FileNode(name, "Any", None, 0, tuple(operands.split()), (result,))
        for name, (operands, result) in nodes.items()
    }
    return FileGraph(made, {})


def operator(name: str, *, origins: str = "", operands: str = "", results: str = "") -> OperatorTime:
    return OperatorTime(name, "kind", (1.0,), tuple(origins.split()), tuple(operands.split()), tuple(results.split()))


FUSED = graph(conv=("x w", "c"), act=("c", "s"), mul=("c s", "m"), move=("m", "t"))


def test_every_runtime_has_its_way() -> None:
    assert set(CLAIMANTS) == set(RUNNERS)


@FORMATS
def test_every_node_of_a_real_file_is_claimed_once(name: str, tiny_artifact: Artifact) -> None:
    runtime, path = EXPORTERS[name].runtime, tiny_artifact(name)[0].files[0]
    image = np.random.default_rng(0).standard_normal((1, 3, 64, 64)).astype(np.float32)
    with load(runtime, path) as runner:
        operators = runner.profile({"input": image}, 1).operators
    file = read_graph(runtime, path)
    found = claims(runtime, operators, file)
    claimed = [name for claim in found for name in claim.nodes]
    assert sorted(claimed) == sorted(file.nodes)
    lost = [each.kind for each, claim in zip(operators, found, strict=True) if claim == Claim(())]
    assert set(lost) <= {"Static Reshape (NC)"}  # XNNPACK's own, behind a mean
    assert len(lost) <= 1


def test_onnx_runtime_names_a_rewritten_convolution_after_its_result() -> None:
    rewritten = operator("m_nchwc", operands="reorder_1", results="reorder_2")
    after = operator("ReorderOutput", operands="reorder_2", results="m")
    transposed = operator("move", origins="move", operands="m", results="t")
    found = claims("onnxruntime", [rewritten, after, transposed], FUSED)
    assert found == (Claim(("conv", "act", "mul")), Claim((), "mul"), Claim(("move",)))


def test_onnx_runtime_puts_a_transposition_into_a_change_of_layout() -> None:
    found = claims("onnxruntime", [operator("m_nchwc", results="r"), operator("Reorder", results="t")], FUSED)
    assert found == (Claim(("conv", "act", "mul")), Claim(("move",)))


def test_a_change_of_layout_between_rewritten_tensors_stands_beside_its_neighbour() -> None:
    inner = operator("Reorder", operands="r1", results="r2")
    found = claims("onnxruntime", [operator("mul", origins="mul", results="r1"), inner], FUSED)
    assert found == (Claim(("conv", "act", "mul", "move")), Claim((), "move"))


def test_openvino_tells_what_went_into_a_kernel() -> None:
    kernels = [operator("conv", origins="conv act Multiply_12"), operator("mul", origins="act mul")]
    assert claims("openvino", kernels, FUSED) == (Claim(("conv", "act")), Claim(("mul", "move")))


def test_openvino_names_a_reorder_after_what_it_stands_between() -> None:
    found = claims("openvino", [operator("x_abcd_acdb_conv"), operator("conv", origins="conv")], FUSED)
    assert found[0] == Claim((), "conv")
    found = claims("openvino", [operator("conv_acdb_abcd_nowhere"), operator("conv", origins="conv")], FUSED)
    assert found[0] == Claim((), "conv")


def test_a_name_that_is_in_no_file_claims_nothing() -> None:
    assert claims("torch", [operator("other", origins="other")], FUSED) == (Claim(()),)


def test_a_node_behind_the_last_operator_goes_to_what_it_reads() -> None:
    assert claims("torch", [operator("mul", origins="mul")], graph(mul=("x y", "m"), view=("m", "v"))) == (
        Claim(("mul", "view")),
    )


def test_nodes_that_read_constants_only_are_nobodys() -> None:
    file = graph(fold=("w", "f"), mul=("x y", "m"))
    assert claims("torch", [operator("mul", origins="mul")], file) == (Claim(("mul",)),)


@pytest.mark.parametrize("origins", [{"a": "mul", "b": "mul"}], ids=["twice"])
def test_a_node_is_claimed_by_the_first_that_wants_it(origins: Mapping[str, str]) -> None:
    first, second = claims("torch", [operator(name, origins=one) for name, one in origins.items()], FUSED)
    assert "mul" in first.nodes
    assert second == Claim(())
