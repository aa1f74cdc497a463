"""Files as graphs: the same work from the same modules in every format."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from edgekit.artifact import TensorSpec
from edgekit.capture import capture
from edgekit.errors import ArtifactError
from edgekit.exporters import EXPORTERS
from edgekit.exporters.base import Candidate, ExportSpec
from edgekit.filegraph import READERS, read_graph
from edgekit.filegraph.base import FileGraph, FileNode
from edgekit.macs import node_macs
from edgekit.network import Network, lower
from edgekit.program import module_path, operators, stats
from edgekit.runners import RUNNERS

Artifact = Callable[[str], tuple[Candidate, ...]]
FORMATS = pytest.mark.parametrize("name", EXPORTERS)


def graph_of(name: str, artifact: Artifact) -> FileGraph:
    return read_graph(EXPORTERS[name].runtime, artifact(name)[0].files[0])


def test_there_is_a_reader_for_every_runtime() -> None:
    assert set(READERS) == set(RUNNERS)


def test_a_runtime_without_a_reader_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"^net\.abc is for runtime 'abacus', whose files cannot be read yet"):
        read_graph("abacus", tmp_path / "net.abc")


@FORMATS
def test_macs_and_modules_are_those_of_the_program(name: str, tiny: Network, tiny_artifact: Artifact) -> None:
    """Of each layer, not only of all together."""
    program = lower(tiny, EXPORTERS[name].runtime, "fp32").program
    graph = graph_of(name, tiny_artifact)
    wanted: Counter[tuple[str | None, int]] = Counter(
        (None if name == "ncnn" else module_path(node), node_macs(node))
        for node in operators(program)
        if node_macs(node)
    )
    found = Counter((node.module, node.macs) for node in graph.nodes.values() if node.macs)
    if name == "tflite":  # the last operator gives the file's output, whose name is not the converter's to choose
        found[("head", 240)] += found.pop((None, 240))
    assert found == wanted
    assert graph.macs == stats(program).macs


@FORMATS
def test_every_tensor_between_operators_has_a_size(name: str, tiny_artifact: Artifact) -> None:
    graph = graph_of(name, tiny_artifact)
    tensors = {tensor for node in graph.nodes.values() for tensor in (*node.operands, *node.results)}
    assert tensors <= set(graph.sizes)
    (first,) = [node for node in graph.nodes.values() if node.macs == 32 * 32 * 8 * 3 * 7 * 7 // 4]
    assert graph.traffic((first.name,)) >= 4 * 8 * 16 * 16


@FORMATS
def test_modules_are_paths_of_the_network_and_nothing_else(name: str, tiny: Network, tiny_artifact: Artifact) -> None:
    program = lower(tiny, EXPORTERS[name].runtime, "fp32").program
    known = {module_path(node) for node in operators(program)}
    modules = [node.module for node in graph_of(name, tiny_artifact).nodes.values()]
    assert {module for module in modules if module is not None} <= known
    if name == "ncnn":  # pnnx keeps none
        assert set(modules) == {None}
    else:
        assert modules.count(None) <= (2 if name == "mnn" else 1)  # MNN's own changes of layout at the outputs


class EveryProduct(nn.Module):
    """One of each kind of layer that multiplies and accumulates."""

    def __init__(self) -> None:
        super().__init__()
        self.strided = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.grouped = nn.Conv2d(8, 12, 3, groups=2)
        self.depthwise = nn.Conv2d(12, 12, 5, groups=12)
        self.transposed = nn.ConvTranspose2d(12, 6, 2, stride=2)
        self.linear = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.transposed(self.depthwise(self.grouped(self.strided(x)).relu()).relu()).relu()
        rows = x.flatten(2)
        result: Tensor = self.linear((rows @ rows.transpose(1, 2)).relu())
        return result


@FORMATS
def test_every_kind_of_product_is_counted(name: str, tmp_path: Path) -> None:
    shape = (1, 3, 24, 20)
    program = capture(EveryProduct().eval(), shape)
    spec = ExportSpec((TensorSpec(name="x", shape=shape),), (TensorSpec(name="y", shape=(1, 6, 5)),), {})
    (candidate, *_) = EXPORTERS[name].load()(program, spec, tmp_path, "net")
    graph = read_graph(EXPORTERS[name].runtime, candidate.files[0])
    expected = Counter(node_macs(node) for node in operators(program) if node_macs(node))
    assert len(list(expected.elements())) == 6
    if name == "mnn":  # it computes the two groups apart
        grouped = 12 * 10 * 8 * 4 * 3 * 3
        expected = expected - Counter([grouped]) + Counter([grouped // 2] * 2)
    assert Counter(node.macs for node in graph.nodes.values() if node.macs) == expected


def test_code_in_a_torch_file_is_not_run(tmp_path: Path) -> None:
    path = tmp_path / "net.pt2"
    torch.save(Path.cwd, path)
    with pytest.raises(ArtifactError, match=r"^net\.pt2 is not read: that could run code in it, for \S"):
        read_graph("torch", path)


def node(name: str, operands: tuple[str, ...], result: str) -> FileNode:
    return FileNode(name, "Any", "m", 0, operands, (result,))


def chain(*nodes: FileNode) -> FileGraph:
    return FileGraph({each.name: each for each in nodes}, {"x": 1, "w": 2, "a": 10, "b": 100, "c": 1000})


def test_what_passes_between_fused_nodes_is_not_moved() -> None:
    graph = chain(node("A", ("x", "w"), "a"), node("B", ("a", "x"), "b"), node("C", ("b",), "c"))
    assert graph.traffic(("A",)) == 1 + 2 + 10
    assert graph.traffic(("A", "B")) == 1 + 2 + 100
    assert graph.traffic(("A", "B", "C")) == 1 + 2 + 1000


def test_what_others_read_too_is_moved_out_of_a_fused_group() -> None:
    graph = chain(node("A", ("x", "w"), "a"), node("B", ("a",), "b"), node("C", ("a", "b"), "c"))
    assert graph.traffic(("A", "B")) == 1 + 2 + 10 + 100


def test_macs_add_up() -> None:
    one = node("A", ("x",), "a")
    assert chain(replace(one, macs=3), replace(one, name="B", macs=4)).macs == 7
